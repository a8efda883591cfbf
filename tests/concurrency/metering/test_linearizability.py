"""Short histories of threads on one balance: some order of their operations explains every answer.

Each operation takes effect at one instant between its call and its answer (Herlihy and Wing, 1990):
an order is searched that keeps to real time and in which plain arithmetic gives each answer, its
figures included. Short by default; HISTORIES makes it long.
"""

import itertools
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from core import clock, errors
from core.services.idempotency import KeyedRequest
from metering import selectors
from metering.errors import UsageLimitReached
from metering.services import consumption, endings, holds
from metering.services.consumption import Request, Wanted
from tests import factories
from tests.concurrency import racing

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
HISTORIES = int(os.environ.get("HISTORIES", "30"))
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(120 + HISTORIES),
]
LIMIT, THREADS, TURNS = 6, 3, 4
SHARED_UNITS = 2


class Answer(NamedTuple):
    """Whether it was granted, and the figures that came with it."""

    is_granted: bool
    used: int
    held: int


class Operation(NamedTuple):
    """What one thread did, when it was called and answered, and what it was told."""

    kind: str
    units: int
    key: str
    called: int
    answered: int
    answer: Answer


class State(NamedTuple):
    """What a plain book knows: its counters, and what each key was told."""

    used: int = 0
    held: int = 0
    told: tuple[tuple[str, Answer], ...] = ()


def after(state: State, operation: Operation) -> State | None:
    """Return the state after the operation; None where it would be told something else."""
    known = dict(state.told).get(operation.key)
    if known is not None:
        return state if operation.answer == known else None
    used, held = state.used, state.held
    takes = operation.kind in {"consume", "hold"}
    is_granted = not takes or used + held + operation.units <= LIMIT
    if is_granted:
        used += operation.units * (operation.kind in {"consume", "capture"})
        held += operation.units * (operation.kind == "hold")
        held -= operation.units * (operation.kind in {"capture", "release"})
    if operation.answer != (is_granted, used, held):
        return None
    told = state.told
    if operation.key:
        told = (*told, (operation.key, operation.answer))
    return State(used, held, tuple(sorted(told)))


def is_explained(history: Sequence[Operation]) -> bool:
    """Tell whether some order that keeps to real time explains every answer."""
    seen: set[tuple[frozenset[int], State]] = set()

    def search(left: frozenset[int], state: State) -> bool:
        if not left:
            return True
        if (left, state) in seen:
            return False
        seen.add((left, state))
        first_answer = min(history[each].answered for each in left)
        return any(
            search(left - {each}, following)
            for each in left
            if history[each].called <= first_answer
            and (following := after(state, history[each])) is not None
        )

    return search(frozenset(range(len(history))), State())


def at(called: int, answered: int, kind: str, units: int, *answer: int, key: str = "") -> Operation:
    is_granted, used, held = answer
    return Operation(kind, units, key, called, answered, Answer(bool(is_granted), used, held))


class TestChecker:
    """Control: what no order explains is found, and what one explains is not."""

    @pytest.mark.parametrize(
        ("history", "explained"),
        [
            ([at(0, 3, "consume", 4, 1, 4, 0), at(1, 2, "consume", 4, 1, 4, 0)], False),
            ([at(0, 3, "consume", 4, 1, 4, 0), at(1, 2, "consume", 4, 0, 4, 0)], True),
            ([at(0, 1, "consume", 4, 0, 4, 0), at(2, 3, "consume", 4, 1, 4, 0)], False),
            ([at(0, 1, "consume", 1, 1, 1, 0), at(2, 3, "read", 0, 1, 0, 0)], False),
            ([at(0, 2, "consume", 1, 1, 1, 0), at(1, 3, "read", 0, 1, 0, 0)], True),
            ([at(0, 1, "hold", 6, 1, 0, 6), at(2, 3, "consume", 1, 1, 1, 0)], False),
            ([at(0, 1, "hold", 6, 1, 0, 6), at(2, 3, "release", 6, 1, 0, 0)], True),
            ([at(0, 1, "consume", 1, 1, 1, 0, key="a")] * 2, True),
            (
                [
                    at(0, 1, "consume", 1, 1, 1, 0, key="a"),
                    at(0, 1, "consume", 1, 1, 2, 0, key="a"),
                ],
                False,
            ),
        ],
    )
    def test_tells_what_an_order_explains(self, history, explained):
        assert is_explained(history) is explained


class Thread:
    """One thread's turns, drawn by a seed; it ends its own holds alone."""

    def __init__(self, customer, *, number: int, seed: int) -> None:
        self.customer, self.number = customer, number
        self.chance = random.Random(f"{seed}-{number}")
        self.held: list[tuple[object, int]] = []

    def __call__(self) -> list[Operation]:
        return [self.turn(turn) for turn in range(TURNS)]

    def turn(self, turn: int) -> Operation:
        kind = self.chance.choice(["consume", "consume", "shared", "hold", "end", "read"])
        if kind == "end" and not self.held:
            kind = "hold"
        units, key = self.chance.randint(1, 3), f"{self.number}-{turn}"
        hold_id = None
        if kind == "shared":
            kind, units, key = "consume", SHARED_UNITS, "shared"
        elif kind == "end":
            kind = self.chance.choice(["capture", "release"])
            hold_id, units = self.held.pop()
        elif kind == "read":
            units, key = 0, ""
        called = time.monotonic_ns()
        answer = self.ask(kind, units, key, hold_id)
        return Operation(kind, units, key, called, time.monotonic_ns(), answer)

    def ask(self, kind: str, units: int, key: str, hold_id) -> Answer:
        while True:
            try:
                return self.do(kind, units, key, hold_id)
            except UsageLimitReached as denied:
                facts = denied.facts()
                return Answer(is_granted=False, used=facts["used"], held=facts["held"])
            except (errors.LockTimeout, errors.Unavailable):
                continue  # nothing is known: the key resolves it

    def do(self, kind: str, units: int, key: str, hold_id) -> Answer:
        now = clock.process_clock()
        keyed = KeyedRequest(key=key, fingerprint=f"{kind} {units}")
        wanted = [Wanted(feature_key="api_calls", units=units)]
        request = Request(customer_id=self.customer.pk, wanted=wanted, keyed=keyed)
        if kind == "read":
            standing = selectors.get_overview(customer=self.customer, clock=now).standings
            row = standing["api_calls"]
            return Answer(is_granted=True, used=row.used_units, held=row.held_units)
        if kind == "consume":
            done = consumption.consume(request, clock=now)
        elif kind == "hold":
            done = holds.create(request, ttl_seconds=600, clock=now)
            self.held.append((done.entries[0].hold_id, units))
        else:
            ending = endings.Ending(customer_id=self.customer.pk, hold_id=hold_id, keyed=keyed)
            done = (endings.capture if kind == "capture" else endings.release)(ending, clock=now)
        line = done.entries[0]
        return Answer(is_granted=True, used=line.used_units, held=line.held_units)


@pytest.mark.parametrize("is_grouped", [True, False])
def test_some_order_explains_every_answer(is_grouped):
    factories.make_plan("free", at=STARTED, limits={"api_calls": LIMIT})
    overlapping = 0
    with factories.group_commit(is_on=is_grouped):
        for seed in range(HISTORIES):
            customer = factories.make_customer(at=STARTED)
            threads = [Thread(customer, number=number, seed=seed) for number in range(THREADS)]
            history = sorted(
                (each for found in racing.in_threads(threads) for each in found),
                key=lambda operation: operation.called,
            )
            assert is_explained(history), (seed, history)
            overlapping += any(
                later.called < earlier.answered for earlier, later in itertools.pairwise(history)
            )
    assert overlapping > HISTORIES / 2
