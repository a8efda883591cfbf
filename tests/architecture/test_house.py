"""Hold the code to the house's rules. Each check is shown to find a fault, so that it can fail."""

import ast
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("core", "subscriptions", "metering", "resources", "billing", "subscriptionEngine")
MODULE_LINES_MAX, MODULE_LINES_P90 = 400, 250
FUNCTION_LINES_MAX, FUNCTION_LINES_P90 = 60, 30
VIEW_LINES_MAX, README_LINES_MAX = 15, 250
METHODS = {"get", "post", "put", "patch", "delete"}
SYNONYMS = {"quota", "product", "tier", "reserve", "credit", "subject", "holder"}
TERMS = ("credit_note", "proration_credit", "price_tier")  # of two words, in the glossary
SHAPELESS = {"utils", "helpers", "common", "manager", "misc"}
BROAD_EXCEPT_ALLOWED = {
    "core/services/worker.py",  # a piece that fails never stops the others
    "metering/services/combining.py",  # a group that fails never leaves a waiter unanswered
}
Check = Callable[[str, ast.Module], Iterator[str]]


@functools.cache
def trees() -> list[tuple[str, ast.Module]]:
    """Return every module, parsed once for all the rules."""
    return [(name, ast.parse(text)) for name, text in sources()]


def sources() -> Iterator[tuple[str, str]]:
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            if "migrations" not in path.parts:
                yield str(path.relative_to(ROOT)), path.read_text()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


def length(node: ast.FunctionDef) -> int:
    """Return the lines of a function, decorators aside."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def body_length(node: ast.FunctionDef) -> int:
    """Return the lines of a function's body, its docstring aside."""
    statements = node.body[1:] if ast.get_docstring(node) else node.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def long_views(name: str, tree: ast.Module) -> Iterator[str]:
    if "/api/" in name:
        for node in functions(tree):
            if node.name in METHODS and body_length(node) > VIEW_LINES_MAX:
                yield f"{name}: {node.name} has {body_length(node)} lines"


def stray_locks(name: str, tree: ast.Module) -> Iterator[str]:
    if not name.endswith("/locks.py"):
        yield from (f"{name}: {each}" for each in calls(tree) if "select_for_update" in each)


def stray_transactions(name: str, tree: ast.Module) -> Iterator[str]:
    if name != "core/db.py":
        for each in calls(tree):
            if re.search(r"(^|\.)atomic$", each):
                yield f"{name}: {each}"


def stray_clocks(name: str, tree: ast.Module) -> Iterator[str]:
    if name != "core/clock.py":
        for each in calls(tree):
            if each in {"timezone.now", "datetime.now", "datetime.utcnow", "time.time"}:
                yield f"{name}: {each}"


def broad_excepts(name: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and name not in BROAD_EXCEPT_ALLOWED:
            caught = ast.unparse(node.type) if node.type else "everything"
            if caught in {"Exception", "everything"}:
                yield f"{name}:{node.lineno} catches {caught}"


def signals(name: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("signals"):
            yield f"{name}: imports {node.module}"


def synonyms(name: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        found = ""
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found = node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found = node.id
        elif isinstance(node, ast.arg):
            found = node.arg
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found).lower()
        for term in TERMS:
            snake = snake.replace(term, "")
        if set(snake.split("_")) & SYNONYMS:
            yield f"{name}: {found}"


def positional_arguments(name: str, tree: ast.Module) -> Iterator[str]:
    """Find public service functions that take more than one argument by position."""
    if "/services/" in name:
        for node in tree.body:
            is_public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if is_public and len(node.args.args) > 1:
                yield f"{name}: {node.name}"


def changing_reads(name: str, tree: ast.Module) -> Iterator[str]:
    """Find compiled reads that look at more than their arguments, also by functions beside them."""
    own = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in own.values():
        if not any(ast.unparse(each) == "statements.compiled" for each in node.decorator_list):
            continue
        names, left = set(), {node.name}
        while left:
            found = own.get(left.pop())
            met = {each.id for each in ast.walk(found or ast.Pass()) if isinstance(each, ast.Name)}
            left |= met - names
            names |= met
        if names & {"settings", "clock", "clocks"} or node.args.args:
            yield f"{name}: {node.name}"


CHECKS: dict[str, tuple[Check, str, str]] = {
    "views are short": (
        long_views,
        "app/api/views.py",
        "def get(self):\n" + "    x = 1\n" * (VIEW_LINES_MAX + 1),
    ),
    "rows are locked in locks.py alone": (
        stray_locks,
        "app/services/x.py",
        "Balance.objects.select_for_update()",
    ),
    "transactions are opened in core/db.py alone": (
        stray_transactions,
        "app/services/x.py",
        "transaction.atomic()",
    ),
    "the time is asked in core/clock.py alone": (
        stray_clocks,
        "app/services/x.py",
        "timezone.now()",
    ),
    "nothing catches everything": (
        broad_excepts,
        "app/services/x.py",
        "try:\n    x\nexcept Exception:\n    pass",
    ),
    "no signals": (
        signals,
        "app/models.py",
        "from django.db.models.signals import post_save",
    ),
    "one word for one thing": (synonyms, "app/models.py", "api_quota = 1"),
    "services take keywords": (
        positional_arguments,
        "app/services/x.py",
        "def f(a, b):\n    pass",
    ),
    "compiled reads look at their arguments alone": (
        changing_reads,
        "app/locks.py",
        "@statements.compiled\ndef f(*, a):\n    return g()\ndef g():\n    return settings.A",
    ),
}


@pytest.mark.parametrize("rule", CHECKS)
class TestRule:
    def test_holds_everywhere(self, rule):
        check = CHECKS[rule][0]
        faults = [fault for name, tree in trees() for fault in check(name, tree)]
        assert faults == []

    def test_would_be_found_broken(self, rule):
        check, name, text = CHECKS[rule]
        assert len(list(check(name, ast.parse(text)))) == 1


def p90(lengths: list[int]) -> int:
    return sorted(lengths)[int(len(lengths) * 0.9)]


class TestSizes:
    def test_of_modules_stay_readable(self):
        lengths = {name: len(text.splitlines()) for name, text in sources() if text}
        assert {name: n for name, n in lengths.items() if n > MODULE_LINES_MAX} == {}
        assert p90(list(lengths.values())) <= MODULE_LINES_P90

    def test_of_functions_stay_readable(self):
        lengths = {
            f"{name}:{node.lineno} {node.name}": length(node)
            for name, tree in trees()
            for node in functions(tree)
        }
        assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES_MAX} == {}
        assert p90(list(lengths.values())) <= FUNCTION_LINES_P90

    def test_of_the_readme_stays_short(self):
        assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX

    def test_are_counted_as_they_are(self):
        node = ast.parse("@wrap\ndef f():\n    '''Say.'''\n    x = 1\n    y = 2").body[0]
        assert isinstance(node, ast.FunctionDef)
        assert (length(node), body_length(node), p90([1] * 9 + [7])) == (4, 2, 7)


class TestTree:
    def test_has_no_shapeless_modules(self):
        assert [name for name, _ in sources() if Path(name).stem in SHAPELESS] == []

    def test_names_every_setting_in_the_example(self):
        settings = (ROOT / "subscriptionEngine" / "settings.py").read_text()
        read = set(re.findall(r"env\.\w+\(\s*[\"']([A-Z_]+)[\"']", settings))
        read |= set(re.findall(r"_secret\(\"([A-Z_]+)\"\)", settings))
        example = (ROOT / ".env.example").read_text()
        assert read == set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
        assert len(read) > 15

    def test_says_in_the_example_what_each_setting_means(self):
        lines = (ROOT / ".env.example").read_text().splitlines()
        for before, line in itertools.pairwise(lines):
            if re.match(r"[A-Z_]+=", line):
                assert before.startswith("# "), line
