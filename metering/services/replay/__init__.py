"""Replay a timeline: from facts alone, what grants, balance and overage are at any instant.

The burn-down is that of the stored balances (`metering.burndown`); here it runs over plain facts,
without a database. docs/replay.md explains timelines and answers.
"""

from decimal import Context, Decimal, Inexact, localcontext

from core import clock
from core.errors import DomainError
from metering.services.replay.gauging import gauged
from metering.services.replay.reading import read
from metering.services.replay.timelines import Snapshot, Timeline
from metering.services.replay.walking import walked
from metering.sources import Units

Answer = list[dict[str, object]] | dict[str, object]
EXACT = Context(prec=100, traps=[Inexact])


def replay(timeline: object) -> Answer:
    """Return the states of a timeline that is given as JSON, one for each query in its order.

    Units are integers, or decimal strings where the timeline has a decimal string; always exact.
    What is wrong with the timeline is answered as `{"error": {"code", "detail"}}`, with a code of
    the HTTP interface: unknown_field, naive_datetime, invalid or malformed_request.
    """
    try:
        facts = read(timeline)
    except DomainError as error:
        return {"error": {"code": error.code, "detail": error.detail}}
    with localcontext(EXACT):
        return [_answer(each, is_decimal=facts.is_decimal) for each in states(facts)]


def states(timeline: Timeline) -> list[Snapshot]:
    """Return the states of a timeline, one for each query in its order.

    Any split of the queries over several calls gives the same states, and the order of the
    timeline's lists does not matter.
    """
    return gauged(timeline) if timeline.is_gauge else walked(timeline)


def _answer(snapshot: Snapshot, *, is_decimal: bool) -> dict[str, object]:
    def shown(units: Units) -> int | str:
        return _decimal_text(units) if is_decimal else int(units)

    ends_at = snapshot.period.ends_at
    return {
        "at": clock.rfc3339(snapshot.at),
        "balances": {name: shown(units) for name, units in snapshot.balances.items()},
        "balance": shown(snapshot.balance),
        "overage": shown(snapshot.overage),
        "usage_in_period": shown(snapshot.usage_in_period),
        "grant_used_in_period": shown(snapshot.grant_used_in_period),
        "granted_in_period": shown(snapshot.granted_in_period),
        "period": {
            "starts_at": clock.rfc3339(snapshot.period.starts_at),
            "ends_at": ends_at and clock.rfc3339(ends_at),
        },
        "has_access": snapshot.has_access,
    }


def _decimal_text(units: Units) -> str:
    """Return the shortest plain decimal: no exponent, no zeros at its end."""
    plain = format(Decimal(units), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
