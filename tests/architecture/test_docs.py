"""Hold the documentation to the code: codes, examples, links, decisions, settings, file names.

Each check is a function from a text or folder to its faults, so that it can be shown to find one.
"""

import importlib
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.apps import apps
from django.db import connection
from django.urls import resolve

from core.api import problems
from core.errors import DomainError
from core.models import Customer
from metering import errors as metering_errors
from metering.models import Balance
from subscriptions.models import Entitlement, Feature, PlanGroup

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ADR_LINES_MAX = 60
ADR_SECTIONS = ["Context", "Decision", "Consequences", "Rejected"]
ERROR_SECTIONS = ["When it happens", "Example", "What to do"]
PROBLEM_MEMBERS = ["type", "title", "status", "code", "detail", "request_id"]
NOT_ANSWERED_YET: set[str] = set()  # in the contract, and on a page that says so
TEXT_SUFFIXES = {".py", ".md", ".toml", ".ini", ".txt", ".yaml", ".yml", ".example", ""}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the code says of an error."""

    code: str
    title: str
    status: int
    is_recorded: bool
    fact_names: frozenset[str] = frozenset()


def answers() -> dict[str, Answer]:
    """Return every error that the apps define, by code."""
    for config in apps.get_app_configs():
        if Path(config.path).parent == ROOT and importlib.util.find_spec(f"{config.name}.errors"):
            importlib.import_module(f"{config.name}.errors")
    found: dict[str, Answer] = {}
    for error in subclasses(DomainError):
        if hasattr(error, "code") and not error.__module__.startswith("tests"):
            answer = Answer(
                code=error.code,
                title=error.title,
                status=problems.STATUS_BY_CATEGORY[error.category],
                is_recorded=error.code in metering_errors.DENIALS,
                fact_names=frozenset(error.example_facts),
            )
            assert found.setdefault(error.code, answer) == answer, f"{error.code} means two things"
    return found


def subclasses(parent: type[DomainError]) -> Iterator[type[DomainError]]:
    """Yield every class below the parent."""
    for child in parent.__subclasses__():
        yield child
        yield from subclasses(child)


def headings(text: str, *, level: int) -> list[str]:
    """Return the headings of a level, outside code."""
    return re.findall(rf"^#{{{level}}} (.+)$", FENCE.sub("", text), re.MULTILINE)


def missing_pages(folder: Path, known: Mapping[str, Answer]) -> list[str]:
    """Return the codes without a page and the pages without a code, sorted."""
    pages = {page.stem for page in folder.glob("*.md")}
    return sorted(pages ^ set(known))


def page_faults(page: Path, answer: Answer) -> list[str]:
    """Return where an error's page disagrees with the code or with itself."""
    text = page.read_text()
    faults = []
    if headings(text, level=1) != [answer.code]:
        faults.append("its one first heading must be the code")
    if headings(text, level=2) != ERROR_SECTIONS:
        faults.append(f"its sections must be {ERROR_SECTIONS}")
    listed = dict(re.findall(r"^- ([\w -]+): (.+)$", text, re.MULTILINE))
    if listed.get("Status", "").split(" ")[0] != str(answer.status):
        faults.append(f"its status must be {answer.status}")
    if listed.get("Title") != answer.title:
        faults.append(f"its title must be {answer.title!r}")
    if listed.get("Recorded under the Idempotency-Key") != ("yes" if answer.is_recorded else "no"):
        faults.append(f"recorded must agree with the code ({answer.is_recorded})")
    return [f"{page.name}: {fault}" for fault in faults + example_faults(text, answer)]


def example_faults(text: str, answer: Answer) -> list[str]:
    """Return where the page's one JSON example is not this problem."""
    examples = [body for language, body in FENCE.findall(text) if language == "json"]
    if len(examples) != 1:
        return ["it must have one JSON example"]
    try:
        problem = json.loads(examples[0])
    except json.JSONDecodeError as error:
        return [f"its example is not JSON: {error}"]
    if list(problem)[: len(PROBLEM_MEMBERS)] != PROBLEM_MEMBERS:
        return [f"its example must begin with {PROBLEM_MEMBERS}"]
    expected = {
        "type": f"/docs/errors/{answer.code}",
        "title": answer.title,
        "status": answer.status,
        "code": answer.code,
    }
    faults = [
        f"its example's {name} must be {value!r}"
        for name, value in expected.items()
        if problem[name] != value
    ]
    if answer.fact_names and set(problem) - set(PROBLEM_MEMBERS) != answer.fact_names:
        faults.append(f"its example's facts must be {sorted(answer.fact_names)}")
    return faults


def broken_links(files: Iterable[Path]) -> list[str]:
    """Return the relative links that lead to no file or to no heading."""
    broken = []
    for file in files:
        text = FENCE.sub("", file.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            linked = (file.parent / path).resolve() if path else file
            if not linked.exists() or (anchor and anchor not in anchors(linked)):
                broken.append(f"{file.name}: {target}")
    return broken


def anchors(file: Path) -> set[str]:
    """Return the anchors that a renderer gives to the file's headings."""
    found = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in found}


def adr_faults(folder: Path) -> list[str]:
    """Return gaps in the numbers of the decisions, and what a decision lacks."""
    faults = []
    files = sorted(folder.iterdir())
    numbers = [file.name[:4] for file in files]
    if numbers != [f"{number:04}" for number in range(1, len(files) + 1)]:
        faults.append(f"numbers have a gap or a twin: {numbers}")
    for file in files:
        text = file.read_text()
        if not re.fullmatch(r"\d{4}(-[a-z0-9]+)+\.md", file.name):
            faults.append(f"{file.name}: must be named NNNN-title.md")
        if not re.match(rf"# {int(file.name[:4])}\. .+\n\nStatus: \w+", text):
            faults.append(f"{file.name}: must begin with its number, title and status")
        if headings(text, level=2) != ADR_SECTIONS:
            faults.append(f"{file.name}: its sections must be {ADR_SECTIONS}")
        if len(text.splitlines()) > ADR_LINES_MAX:
            faults.append(f"{file.name}: has more than {ADR_LINES_MAX} lines")
    return faults


def lost_references(files: Iterable[Path], *, root: Path) -> list[str]:
    """Return the pages of docs that a file names and that do not exist."""
    lost = []
    for file in files:
        named = re.findall(r"\bdocs/[\w./-]*[\w-]", file.read_text())
        pages = {each for each in named if each.endswith(".md") or "/adr/" in each}
        lost += [f"{file.name}: {page}" for page in sorted(pages) if not (root / page).exists()]
    return lost


def project_files() -> list[Path]:
    """Return the project's own text files, this one aside, since it names what must not exist."""
    skipped = {".venv", ".git", ".hypothesis", "static_root", "node_modules", "__pycache__", ".run"}
    return [
        file
        for entry in ROOT.iterdir()
        if entry.name not in skipped and not entry.name.endswith("_cache")
        for file in (entry.rglob("*") if entry.is_dir() else [entry])
        if "__pycache__" not in file.parts and not file.name.startswith(".slipcover")
        if file.is_file()
        and file.suffix in TEXT_SUFFIXES
        and file != Path(__file__)
        and not skipped & set(file.parts)
    ]


def lost_files(text: str, *, root: Path) -> list[str]:
    """Return the Python files that a text names in code font and that do not exist."""
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    return sorted({each for each in named if not (root / each).exists()})


def unknown_addresses(text: str) -> list[str]:
    """Return the addresses of the API that a text names and that lead nowhere."""
    named = sorted(set(re.findall(r"(/api/[a-z0-9_/-]*/)[`\s]", text)))
    return [each for each in named if resolve(each).func is problems.unknown_address]


def variables(text: str, pattern: str) -> list[str]:
    """Return the names of settings in a text, sorted."""
    return sorted(re.findall(pattern, text, re.MULTILINE))


def guides() -> list[Path]:
    """Return the pages for people: those of docs, and those beside it."""
    return [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]


def recount_statement() -> str:
    """Return the statement that the operations page gives for a recount."""
    blocks = FENCE.findall((DOCS / "operations.md").read_text())
    statements: list[str] = [body for language, body in blocks if language == "sql"]
    return statements[0]


class TestErrorPages:
    def test_stand_for_every_code_and_for_nothing_else(self) -> None:
        assert missing_pages(DOCS / "errors", answers()) == sorted(NOT_ANSWERED_YET)

    def test_agree_with_the_code_in_status_title_record_and_example(self) -> None:
        known = answers()
        pages = [page for page in sorted((DOCS / "errors").glob("*.md")) if page.stem in known]
        assert [fault for page in pages for fault in page_faults(page, known[page.stem])] == []

    def test_would_be_missed(self, tmp_path: Path) -> None:
        known = {"gone": Answer(code="gone", title="Gone", status=404, is_recorded=False)}
        (tmp_path / "left_over.md").write_text("# left_over\n")
        assert missing_pages(tmp_path, known) == ["gone", "left_over"]

    @pytest.mark.parametrize(
        ("right", "wrong"),
        [
            ("# lost\n", "# lots\n"),
            ("## What to do", "## What to try"),
            ("Status: 404", "Status: 403"),
            ("Title: Lost", "Title: Found"),
            ("Idempotency-Key: no", "Idempotency-Key: yes"),
            ('"status": 404', '"status": 403'),
            ('"code": "lost"', '"code": "lots"'),
            ('"type": "/docs/errors/lost"', '"type": "/errors/lost"'),
            ('"title": "Lost"', '"title": "Found"'),
            ('"detail": "x", "request_id"', '"request_id": "y", "detail"'),
            ('"request_id": "y"', '"request_id": '),
            ('"units"', '"amount"'),
        ],
    )
    def test_would_be_found_out(self, tmp_path: Path, right: str, wrong: str) -> None:
        answer = Answer(
            code="lost",
            title="Lost",
            status=404,
            is_recorded=False,
            fact_names=frozenset({"units"}),
        )
        page = tmp_path / "lost.md"
        text = (
            "# lost\n\n- Status: 404 Not Found\n- Title: Lost\n"
            "- Recorded under the Idempotency-Key: no\n\n## When it happens\n\n## Example\n\n"
            '```json\n{"type": "/docs/errors/lost", "title": "Lost", "status": 404, '
            '"code": "lost", "detail": "x", "request_id": "y", "units": 1}\n```\n\n## What to do\n'
        )
        page.write_text(text)
        assert page_faults(page, answer) == []
        assert right in text
        page.write_text(text.replace(right, wrong))
        assert len(page_faults(page, answer)) == 1


class TestLinks:
    def test_lead_to_pages_and_headings_that_exist(self) -> None:
        assert broken_links(guides()) == []

    def test_would_be_found_broken(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("# A page\n[a](page.md#a-page) [b](lost.md) [c](#lost) [d](https://e.org)")
        assert broken_links([page]) == ["page.md: lost.md", "page.md: #lost"]


class TestDecisions:
    def test_are_numbered_without_a_gap_and_complete(self) -> None:
        assert adr_faults(DOCS / "adr") == []

    def test_would_be_found_incomplete(self, tmp_path: Path) -> None:
        body = "Status: accepted\n\n" + "".join(f"## {each}\n" for each in ADR_SECTIONS)
        (tmp_path / "0001-one.md").write_text(f"# 1. One\n\n{body}")
        assert adr_faults(tmp_path) == []
        (tmp_path / "0003-Three.md").write_text("# 2. Two\n" * (ADR_LINES_MAX + 1))
        assert adr_faults(tmp_path) == [
            "numbers have a gap or a twin: ['0001', '0003']",
            "0003-Three.md: must be named NNNN-title.md",
            "0003-Three.md: must begin with its number, title and status",
            f"0003-Three.md: its sections must be {ADR_SECTIONS}",
            "0003-Three.md: has more than 60 lines",
        ]

    def test_exist_where_the_code_names_them(self) -> None:
        assert lost_references(project_files(), root=ROOT) == []

    def test_would_be_missed_where_the_code_names_them(self, tmp_path: Path) -> None:
        module = tmp_path / "module.py"
        module.write_text('"""Source: docs/adr/0001-layers.md, docs/adr/0099, docs/lost.md."""')
        assert lost_references([module], root=ROOT) == [
            "module.py: docs/adr/0099",
            "module.py: docs/lost.md",
        ]


class TestGuides:
    def test_name_files_that_exist(self) -> None:
        assert [each for page in guides() for each in lost_files(page.read_text(), root=ROOT)] == []

    def test_would_be_found_naming_a_lost_file(self) -> None:
        text = "`core/db.py` and `core/lost.py`"
        assert lost_files(text, root=ROOT) == ["core/lost.py"]

    def test_name_addresses_that_exist(self) -> None:
        assert [each for page in guides() for each in unknown_addresses(page.read_text())] == []

    def test_would_be_found_naming_an_unknown_address(self) -> None:
        assert unknown_addresses("`GET /api/lost/`") == ["/api/lost/"]

    def test_explain_every_setting_and_no_other(self) -> None:
        given = variables((ROOT / ".env.example").read_text(), r"^([A-Z_]+)=")
        explained = variables((DOCS / "operations.md").read_text(), r"^\| ([A-Z_]+) \|")
        assert explained == given
        assert given != []

    def test_define_each_term_once(self) -> None:
        rows = re.findall(r"^\| ([^|]+?) \|", (DOCS / "glossary.md").read_text(), re.MULTILINE)
        terms = Counter(row for row in rows if row not in {"term", "not", "---"})
        assert [term for term, count in terms.items() if count > 1] == []
        assert terms["balance"] == 1


class TestRecount:
    @pytest.mark.django_db
    def test_names_a_counter_that_its_ledger_does_not_explain(self) -> None:
        at = datetime(2026, 11, 1, tzinfo=UTC)
        customer = Customer.objects.create(external_key="acme", name="Acme", created_at=at)
        feature = Feature.objects.create(
            key="api_calls",
            name="API calls",
            type=Feature.Type.METERED,
            plan_group=PlanGroup.objects.create(key="main", name="Main"),
            created_at=at,
        )
        balance = Balance.objects.create(
            customer=customer,
            feature=feature,
            period_starts_at=at,
            mode=Entitlement.Mode.HARD,
            decided_at=at,
        )
        assert self._recounted() == []
        Balance.objects.filter(pk=balance.pk).update(used_units=3)
        assert self._recounted() == [(balance.pk, 3, 0)]

    def _recounted(self) -> list[tuple[int, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(recount_statement())
            return [tuple(int(value) for value in row) for row in cursor.fetchall()]


class TestEventTypes:
    """Every type that the code publishes stands in docs/events.md, and nothing else."""

    PATTERN = re.compile(r'"((?:usage|grant|entitlements|subscription|booking|invoice)\.[a-z_]+)"')

    def published(self) -> set[str]:
        found = {"invoice.void", "invoice.uncollectible"}  # named by the state they move to
        for app in ("subscriptions", "metering", "resources", "billing"):
            for path in (ROOT / app / "services").rglob("*.py"):
                for line in path.read_text().splitlines():
                    if re.match(r"^[A-Z_, ]+ = ", line):
                        found |= set(self.PATTERN.findall(line))
        return found

    def test_are_documented(self):
        text = (DOCS / "events.md").read_text()
        documented = set(
            re.findall(
                r"`((?:usage|grant|entitlements|subscription|booking|invoice)\.[a-z_]+)`", text
            )
        )
        assert documented == self.published()
