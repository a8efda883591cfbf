"""Decide many requests in one transaction, on the rows alone that decide about them.

Whatever needs more than valid, plain rows (grants, due holds, a period to open, an alert) is left
to an operation of its own, as is everything where something goes wrong: the key makes that safe.
Source: docs/adr/0018-group-commit.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from uuid_utils.compat import uuid7

from core import clock as clocks
from core import db
from core.services import idempotency
from metering import decision, errors, locks
from metering.decision import Denied, Item, Place, Row, Spot
from metering.lines import Line
from metering.locks import Wait
from metering.models import UsageEntry
from metering.services import denials, ledger, posting
from metering.services.asking import Consumed, Request
from metering.services.entries import Heading
from metering.services.posting import Claim, Posting
from subscriptions import switches
from subscriptions.facts import FeatureFacts


class Verdict(Enum):
    """What came of a request in a group."""

    ALONE = auto()
    """It needs an operation of its own."""
    RECORDED = auto()
    """Its key stands for an operation already; alone, it finds that."""
    ABSENT = auto()
    """A row did not come."""


Outcome = Consumed | errors.UsageDenied | Verdict


@dataclass(slots=True, eq=False)
class Asked:
    """A request with its items, the features by id, and the clock that it goes by."""

    request: Request
    items: Sequence[Item]
    features: Mapping[int, FeatureFacts]
    clock: clocks.Clock
    claim: Claim = field(init=False)

    def __post_init__(self) -> None:
        self.claim = Claim(self.request.customer_id, self.request.keyed.key)


class _KeysTaken(Exception):
    """Report that a key was taken: the transaction is rolled back."""


@dataclass(slots=True)
class _Group:
    """What a transaction has come to, until it is written."""

    rows: dict[Spot, Row]
    outcomes: dict[Asked, Outcome] = field(default_factory=dict)
    postings: list[Posting] = field(default_factory=list)
    denied: list[UsageEntry] = field(default_factory=list)


def decide(
    group: Sequence[Asked], *, wait: Wait, is_replay_likely: bool = False
) -> dict[Asked, Outcome]:
    """Decide the requests in turn, in one transaction, and return what came of each.

    On return everything granted or denied is committed. Requests with a key that is recorded
    already, or that stands twice in the group, are left to an operation of their own.

    :raises DatabaseError: where nothing is known to be committed; nobody is answered.
    """
    outcomes, rest = _without_twins(group)
    if is_replay_likely:
        rest = _without_claimed(rest, outcomes)
    while rest:
        try:
            with db.transaction():
                decided = _decide_step(rest, wait=wait)
        except (_KeysTaken, idempotency.KeyTaken):
            if len(rest) == 1:
                return outcomes | {rest[0]: Verdict.RECORDED}
            left = _without_claimed(rest, outcomes)
            if len(left) == len(rest):
                raise AssertionError from None  # a key was taken that nobody has
            rest = left
        else:
            return outcomes | decided
    return outcomes


def _without_twins(group: Sequence[Asked]) -> tuple[dict[Asked, Outcome], list[Asked]]:
    """Return the first of each key, and leave its twins to find what it did."""
    first: dict[Claim, Asked] = {}
    for asked in group:
        first.setdefault(asked.claim, asked)
    chosen = list(first.values())
    twins = set(group) - set(chosen) if len(chosen) < len(group) else ()
    return dict.fromkeys(twins, Verdict.ALONE), chosen


def _without_claimed(group: Sequence[Asked], outcomes: dict[Asked, Outcome]) -> list[Asked]:
    claimed = posting.find_claimed(claims=[asked.claim for asked in group])
    outcomes.update({asked: Verdict.RECORDED for asked in group if asked.claim in claimed})
    return [asked for asked in group if asked.claim not in claimed]


def _decide_step(group: Sequence[Asked], *, wait: Wait) -> dict[Asked, Outcome]:
    spots = {
        Spot(asked.request.customer_id, draw.place)
        for asked in group
        for item in asked.items
        for draw in item.draws
    }
    rows = locks.lock_rows(spots=list(spots), wait=wait)
    found = _Group(rows={row.spot: row for row in rows})
    times: dict[clocks.Clock, datetime] = {}
    for asked in group:
        if asked.clock not in times:
            times[asked.clock] = asked.clock.now()
        found.outcomes[asked] = _decide_one(asked, found, now=times[asked.clock])
    moved = [row for row in rows if row.moved_units]
    if found.postings and not posting.post_step(postings=found.postings, moved=moved):
        raise _KeysTaken
    if found.denied:
        ledger.append_step(entries=found.denied)
    return found.outcomes


def _decide_one(asked: Asked, found: _Group, *, now: datetime) -> Outcome:
    """Decide one request on the rows as those before it have left them."""
    customer_id = asked.request.customer_id
    rows: dict[Place, Row] = {}
    at = now
    for item in asked.items:
        for draw in item.draws:
            row = found.rows.get(Spot(customer_id, draw.place))
            if row is None:
                return Verdict.ABSENT
            rows[draw.place] = row
            at = max(at, row.decided_at)
    if not all(row.suffices(at=at) for row in rows.values()):
        return Verdict.ALONE
    denied = decision.decide(asked.items, balances=rows, codes={})
    if denied is not None:
        return _deny(asked, denied, found, at=at)
    if any(_alerts(row, asked.items) for row in rows.values()):
        return Verdict.ALONE
    lines = _count(asked, rows, at=at)
    found.postings.append(
        Posting(claim=asked.claim, fingerprint=asked.request.keyed.fingerprint, lines=lines)
    )
    return Consumed(entries=lines, replayed=False)


def _alerts(row: Row, items: Iterable[Item]) -> bool:
    """Tell whether the items would bring the row to its next threshold."""
    if row.alert_units is None:
        return False
    draws = (draw for item in items for draw in item.draws)
    units = sum(draw.units for draw in draws if draw.place == row.spot.place)
    return row.used_units + row.held_units + units >= row.alert_units


def _deny(asked: Asked, denied: Denied, found: _Group, *, at: datetime) -> Outcome:
    """Record the denial; one that is not recorded, or that a switch lifts, goes its own way."""
    is_open = any(switches.is_open_to_all(item.feature_id) for item in asked.items)
    if is_open or denied.code == errors.PaymentRequired.code:
        return Verdict.ALONE
    request = asked.request
    heading = Heading(
        customer_id=request.customer_id, at=at, keyed=request.keyed, metadata=request.metadata
    )
    lines = denials.lines(heading=heading, denied=denied, request_id=request.request_id)
    found.denied.extend(lines)
    return denials.recorded(lines[0], replayed=False)


def _count(asked: Asked, rows: Mapping[Place, Row], *, at: datetime) -> list[Line]:
    """Count every item on each of its balances, and return the lines: the items' first."""
    operation_id = uuid7()
    items: list[Line] = []
    draws: list[Line] = []
    for number, item in enumerate(asked.items):
        for position, draw in enumerate(item.draws):
            row = rows[draw.place]
            row.count(draw.units)
            row.decided_at = at
            line = Line(
                pk=uuid7(),
                operation_id=operation_id,
                item=0,
                feature=asked.features[draw.place.feature_id],
                units=draw.units,
                drawn_for=number if position else None,
                consumed_at=at,
                metadata=asked.request.metadata,
                balance_id=row.pk,
                scope=draw.place.scope,
                used_units=row.used_units,
                held_units=row.held_units,
                carried_units=row.carried_units,
                limit_units=row.limit_units,
                period_starts_at=row.period_starts_at,
                period_ends_at=row.period_ends_at,
            )
            (draws if position else items).append(line)
    lines = [*items, *draws]
    for number, line in enumerate(lines):
        line.item = number
    return lines
