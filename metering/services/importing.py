"""Import customers with their subscription and their usage so far, row by row.

Each step of a row is an operation that repeats harmlessly, so a run that was cut off, or sent
twice, is simply run again.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

from core import clock as clocks
from core import errors, money, zones
from core.errors import DomainError
from core.models import Customer
from core.services import customers
from core.services.idempotency import KeyedRequest
from metering.services import consumption, drawing, recording
from metering.services.drawing import Wanted
from subscriptions import selectors as subscription_selectors
from subscriptions.models import Subscription
from subscriptions.services import lifecycle

ACTOR = lifecycle.Actor(name="import", reason="customers import")
TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
UNITS_MAX = 10**12
QUANTITY_MAX = 1_000_000
FEATURES_MAX = 100
MEMBERS = ("external_key", "name", "time_zone", "currency", "plan", "price", "quantity", "usage")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One customer to import; `usage` is what he used so far in the period that runs now."""

    external_key: str
    name: str
    time_zone: str = "UTC"
    currency: str = "EUR"
    plan: str | None = None
    price: str | None = None
    quantity: int = 1
    usage: Mapping[str, int] = field(default_factory=dict)


class Result(StrEnum):
    """What became of a row."""

    IMPORTED = "imported"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of one row: what was done of it, and what was refused."""

    external_key: str
    result: Result
    done: tuple[str, ...] = ()
    code: str = ""
    detail: str = ""


def read_row(raw: object) -> Row:
    """Return the row of a JSON object.

    :raises Invalid: for an unknown member, or a value that breaks a rule.
    """
    if not isinstance(raw, Mapping):
        raise _invalid("", "A row is an object.")
    for name in raw:
        if name not in MEMBERS:
            raise _invalid(str(name), f"Unknown member; known are {', '.join(MEMBERS)}.")
    given = {name: value for name, value in raw.items() if value is not None}
    given.setdefault("name", given.get("external_key"))
    for name in ("external_key", "name"):
        _check_text(given.get(name), name)
    for name in ("plan", "price", "time_zone", "currency"):
        _check_text(given.get(name, "-"), name)
    if not zones.is_known(str(given.get("time_zone", "UTC"))):
        raise _invalid("time_zone", "It is no IANA time zone.")
    if not money.is_currency(given.get("currency", "EUR")):
        raise _invalid("currency", "It is no currency of ISO 4217.")
    _check_number(given.get("quantity", 1), "quantity", most=QUANTITY_MAX)
    _check_usage(given.get("usage", {}))
    return Row(**given)


def import_row(row: Row, *, clock: clocks.Clock) -> Imported:
    """Make the customer, his subscription and his usage so far, each where it is not there yet.

    A row whose plan or features are unknown does nothing. What was done before any other refusal
    stays done, and the row may be sent again, mended. A paid plan counts as paid. The
    subscription and the usage of a feature are imported once; other figures are refused.
    """
    done: list[str] = []
    try:
        customer = _check(row)
        if customer is None:
            customer = customers.create(_new_customer(row), actor=ACTOR, clock=clock)
            done.append("customer")
        done += _subscribe(customer, row, clock=clock)
        done += _record(customer, row, clock=clock)
    except DomainError as refusal:
        return _refused(row, refusal, done=tuple(done))
    result = Result.IMPORTED if done else Result.UNCHANGED
    return Imported(external_key=row.external_key, result=result, done=tuple(done))


def check_row(row: Row) -> Imported:
    """Say whether the row could be imported, as catalog and customer stand; changes nothing.

    Usage that was imported before is not told from usage that would be.
    """
    try:
        customer = _check(row)
    except DomainError as refusal:
        return _refused(row, refusal)
    done = [] if customer else ["customer"]
    done += ["subscription"] if row.plan and not _is_on(customer, row.plan) else []
    done += sorted(row.usage)
    result = Result.IMPORTED if done else Result.UNCHANGED
    return Imported(external_key=row.external_key, result=result, done=tuple(done))


def _check(row: Row) -> Customer | None:
    """Return the customer where he is there; refuse what could never be imported."""
    customer = Customer.objects.filter(external_key=row.external_key).first()
    if row.plan is not None and not _is_on(customer, row.plan):
        currency = customer.currency if customer else row.currency
        lifecycle.resolve_offer(order=_order(row, plan_key=row.plan), currency=currency)
    drawing.get_metered_features(keys=list(row.usage))
    return customer


def _new_customer(row: Row) -> customers.NewCustomer:
    return customers.NewCustomer(
        external_key=row.external_key,
        name=row.name,
        time_zone=row.time_zone,
        currency=row.currency,
    )


def _subscribe(customer: Customer, row: Row, *, clock: clocks.Clock) -> list[str]:
    if row.plan is None or _is_on(customer, row.plan):
        return []
    answer = lifecycle.subscribe(
        customer_id=customer.pk,
        order=_order(row, plan_key=row.plan),
        actor=ACTOR,
        keyed=_keyed("import", [row.plan, row.price, row.quantity]),
        render=lambda made, _: {"subscription": str(made.pk)},
        clock=clock,
    )
    made = Subscription.objects.get(pk=str(answer.body["subscription"]))
    if made.status == Subscription.Status.INCOMPLETE:
        lifecycle.mark_paid(subscription_id=made.pk, actor=ACTOR, clock=clock)
        return ["subscription"]
    return [] if answer.replayed else ["subscription"]


def _order(row: Row, *, plan_key: str) -> lifecycle.Order:
    """Return the order of the row's plan; who comes along has had his trial elsewhere."""
    return lifecycle.Order(
        plan_key=plan_key, price_key=row.price, quantity=row.quantity, wants_trial=False
    )


def _is_on(customer: Customer | None, plan_key: str) -> bool:
    if customer is None:
        return False
    rows = subscription_selectors.list_subscriptions(customer=customer)
    return rows.filter(
        plan_version__plan__key=plan_key, status__in=Subscription.SLOT_STATUSES
    ).exists()


def _record(customer: Customer, row: Row, *, clock: clocks.Clock) -> list[str]:
    done = []
    for feature_key, units in sorted(row.usage.items()):
        asked = consumption.Request(
            customer_id=customer.pk,
            wanted=[Wanted(feature_key=feature_key, units=units)],
            keyed=_keyed(f"import-{feature_key}", units),
            metadata={"imported": True},
        )
        if not recording.record(asked, clock=clock).replayed:
            done.append(feature_key)
    return done


def _keyed(key: str, what: object) -> KeyedRequest:
    """Return the key of what is imported once, with the fingerprint of its figures."""
    return KeyedRequest(key=key, fingerprint=hashlib.sha256(orjson.dumps(what)).hexdigest())


def _refused(row: Row, refusal: DomainError, *, done: tuple[str, ...] = ()) -> Imported:
    return Imported(
        external_key=row.external_key,
        result=Result.REFUSED,
        done=done,
        code=refusal.code,
        detail=refusal.detail,
    )


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str) or not TEXT.fullmatch(value):
        raise _invalid(name, "It must be a text of 1 … 255 characters.")


def _check_usage(usage: object) -> None:
    if not isinstance(usage, Mapping) or len(usage) > FEATURES_MAX:
        raise _invalid("usage", f"It names the units of at most {FEATURES_MAX} features.")
    for feature_key, units in usage.items():
        _check_text(feature_key, "usage")
        _check_number(units, f"usage/{feature_key}", most=UNITS_MAX)


def _check_number(value: object, name: str, *, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise _invalid(name, f"It must be an integer of 1 … {most}.")


def _invalid(name: str, detail: str) -> errors.Invalid:
    return errors.Invalid.at(f"/{name}", code="invalid", detail=f"{name or 'row'}: {detail}")
