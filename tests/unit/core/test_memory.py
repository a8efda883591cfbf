"""What a process remembers, it forgets in time, and it never grows without end."""

import pytest

from core import memory
from core.memory import Memory


@pytest.fixture
def seconds(monkeypatch) -> list[float]:
    """Return the time that stands, as a list of one."""
    now = [100.0]
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    return now


def test_a_value_is_found_until_its_time_is_over(seconds):
    known: Memory[str, int] = Memory(entries_max=10)
    known.keep("a", 1, seconds=5)
    seconds[0] = 104.999
    assert known.find("a") == 1
    seconds[0] = 105.0
    assert known.find("a") is None


@pytest.mark.parametrize("kept", [0, -1])
def test_nothing_is_kept_for_no_time(seconds, kept):
    known: Memory[str, int] = Memory(entries_max=10)
    known.keep("a", 1, seconds=kept)
    assert known.find("a") is None


def test_it_starts_anew_where_it_is_full(seconds):
    known: Memory[int, int] = Memory(entries_max=3)
    for number in range(4):
        known.keep(number, number, seconds=5)
    assert [known.find(number) for number in range(4)] == [None, None, None, 3]


def test_it_forgets_when_told(seconds):
    known: Memory[str, int] = Memory(entries_max=10)
    known.keep("a", 1, seconds=5)
    known.forget()
    assert known.find("a") is None
