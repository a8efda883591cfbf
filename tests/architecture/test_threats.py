"""Every threat names tests, and every test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def lost_tests(text: str, *, root: Path) -> list[str]:
    """Return the tests that the text names and that do not exist."""
    return [
        f"{path}::{name}"
        for path, name in NAMED.findall(text)
        if not (root / path).is_file() or name not in names_in(root / path)
    ]


def names_in(path: Path) -> set[str]:
    """Return the tests of a module, as pytest names them."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if hasattr(each, "name")}
    return found


def rows_without_a_test(text: str) -> list[str]:
    """Return the threats that no test answers."""
    rows = [line for line in text.splitlines() if re.match(r"\| (?!threat|-)", line)]
    return [row for row in rows if not NAMED.search(row)]


def test_every_test_named_exists():
    assert lost_tests(TEXT, root=ROOT) == []
    assert len(NAMED.findall(TEXT)) > 40


def test_every_threat_has_a_test():
    assert rows_without_a_test(TEXT) == []


def test_a_lost_test_would_be_found(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text("class TestX:\n    def test_a(self): ...\n")
    text = (
        "| a | b | `tests/test_x.py::TestX::test_a`, `tests/test_x.py::TestX::test_b` |\n| c | d |"
    )
    assert lost_tests(text, root=tmp_path) == ["tests/test_x.py::TestX::test_b"]
    assert rows_without_a_test(text) == ["| c | d |"]
