"""Read a timeline from JSON."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from functools import partial

from core import errors
from core.periods import Recurrence
from metering.services.replay import fields
from metering.services.replay.fields import Fields, invalid
from metering.services.replay.timelines import Amount, Grant, Reset, Return, Timeline, Usage
from metering.sources import WHOLE_AMOUNT, Category, RolloverMax, Source, Units
from subscriptions.models import PRIORITY_DEFAULT

TIMELINE = {
    "measure_from",
    "usage_period",
    "timezone",
    "preserve_overage_at_reset",
    "is_soft_limit",
    "aggregation",
    "grants",
    "usage",
    "resets",
    "queries",
}
GRANT = {
    "id",
    "amount",
    "priority",
    "category",
    "effective_at",
    "expires_at",
    "rollover_min",
    "rollover_max",
    "refill_at_reset",
    "recurrence",
    "voided_at",
    "created_at",
    "amounts",
}
CATEGORIES: tuple[Category, ...] = ("paid", "promotional")


def read(raw: object) -> Timeline:
    """Return the timeline that a JSON object tells.

    :raises Malformed: for what is no object.
    :raises UnknownField: for a field that is not known.
    :raises NaiveDatetime: for a time without an offset.
    :raises Invalid: for a missing field, a wrong type, or a value that breaks a rule.
    """
    if not isinstance(raw, dict):
        raise errors.Malformed("A timeline must be an object.")
    given = Fields(raw, "", known=TIMELINE)
    zone = given.optional("timezone", fields.time_zone, default="UTC")
    measure_from = given.required("measure_from", fields.countable_instant)
    grants = given.list_of("grants", partial(_grant, zone=zone))
    usage = given.list_of("usage", _usage)
    queries = given.list_of("queries", partial(_query, measure_from=measure_from))
    _refuse_twins((grant.source.id for grant in grants), pointer="/grants")
    _refuse_twins((each.id for each in usage), pointer="/usage")
    anchored = partial(_recurrence, zone=zone)
    return Timeline(
        measure_from=measure_from,
        queries=tuple(queries),
        usage_period=given.optional("usage_period", anchored, default=None),
        grants=tuple(grants),
        usage=tuple(usage),
        resets=tuple(given.list_of("resets", _reset)),
        preserve_overage_at_reset=given.optional(
            "preserve_overage_at_reset", fields.flag, default=False
        ),
        is_soft_limit=given.optional("is_soft_limit", fields.flag, default=False),
        is_gauge=given.optional("aggregation", fields.one_of("sum", "latest"), default="sum")
        == "latest",
        is_decimal=any(isinstance(each, Decimal) for each in _all_units(grants, usage)),
    )


def _grant(raw: object, *, pointer: str, zone: str) -> Grant:
    given = Fields(raw, pointer, known=GRANT)
    effective_at = given.required("effective_at", fields.instant)
    amounts = given.list_of("amounts", _amount)
    _refuse_twins((each.at for each in amounts), pointer=f"{pointer}/amounts")
    anchored = partial(_recurrence, zone=zone)
    source = Source(
        id=given.required("id", fields.text),
        amount=given.required("amount", fields.units),
        priority=given.optional("priority", fields.integer, default=PRIORITY_DEFAULT),
        category=given.optional("category", fields.one_of(*CATEGORIES), default="paid"),
        effective_at=effective_at,
        expires_at=given.optional("expires_at", fields.instant, default=None),
        voided_at=given.optional("voided_at", fields.instant, default=None),
        created_at=given.optional("created_at", fields.instant, default=effective_at),
        refills=given.optional("refill_at_reset", fields.flag, default=False),
        rollover_min=given.optional("rollover_min", fields.units, default=0),
        recurrence=given.optional("recurrence", anchored, default=None),
    )
    source.rollover_max = _rollover_max(given, source)
    return Grant(source=source, amounts=tuple(amounts))


def _rollover_max(given: Fields, source: Source) -> RolloverMax:
    """Return the cap: a given null is none, a missing one keeps nothing beside a refill and all
    that is left otherwise.
    """
    default: RolloverMax = 0 if source.refills else WHOLE_AMOUNT
    if "rollover_max" in given:
        default = None
    cap = given.optional("rollover_max", fields.units, default=default)
    bound = source.amount if isinstance(cap, str) else cap
    if bound is not None and source.rollover_min > bound:
        raise given.refused("rollover_min", "must not exceed rollover_max")
    return cap


def _amount(raw: object, *, pointer: str) -> Amount:
    given = Fields(raw, pointer, known={"at", "amount"})
    return Amount(
        at=given.required("at", fields.instant), units=given.required("amount", fields.units)
    )


def _recurrence(raw: object, *, pointer: str, zone: str) -> Recurrence:
    given = Fields(raw, pointer, known={"interval", "anchor"})
    interval, count = given.required("interval", fields.interval)
    return Recurrence(
        anchor=given.required("anchor", fields.countable_instant),
        time_zone=zone,
        interval=interval,
        count=count,
    )


def _usage(raw: object, *, pointer: str) -> Usage:
    given = Fields(raw, pointer, known={"id", "at", "value", "returns"})
    usage = Usage(
        id=given.optional("id", fields.text, default=pointer),
        at=given.required("at", fields.instant),
        units=given.required("value", fields.units),
        returns=tuple(given.list_of("returns", _return)),
    )
    if sum(each.units for each in usage.returns) > usage.units:
        raise given.refused("returns", "must not exceed the value")
    return usage


def _return(raw: object, *, pointer: str) -> Return:
    given = Fields(raw, pointer, known={"at", "value"})
    return Return(
        at=given.required("at", fields.instant), units=given.required("value", fields.units)
    )


def _reset(raw: object, *, pointer: str) -> Reset:
    given = Fields(raw, pointer, known={"at", "retain_anchor", "preserve_overage"})
    return Reset(
        at=given.required("at", fields.instant),
        retain_anchor=given.optional("retain_anchor", fields.flag, default=False),
        preserve_overage=given.optional("preserve_overage", fields.flag, default=None),
    )


def _query(raw: object, *, pointer: str, measure_from: datetime) -> datetime:
    given = Fields(raw, pointer, known={"at"})
    at = given.required("at", fields.countable_instant)
    if at < measure_from:
        raise given.refused("at", "must not lie before measure_from")
    return at


def _refuse_twins(values: Iterable[object], *, pointer: str) -> None:
    twins = [value for value, count in Counter(values).items() if count > 1]
    if twins:
        detail = f"must name {twins[0]} once"
        raise invalid(detail, pointer=pointer)


def _all_units(grants: Iterable[Grant], usage: Iterable[Usage]) -> Iterator[Units]:
    for grant in grants:
        yield from (grant.source.amount, grant.source.rollover_min)
        if not isinstance(grant.source.rollover_max, str | None):
            yield grant.source.rollover_max
        yield from (each.units for each in grant.amounts)
    for each in usage:
        yield each.units
        yield from (given_back.units for given_back in each.returns)
