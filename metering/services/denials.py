"""Describe a denial once, so that its record, its answer and its replay are the same."""

from collections.abc import Callable, Mapping
from uuid import UUID

from core import clock as clocks
from core import db
from core import errors as core_errors
from core.services import idempotency
from core.services.idempotency import KeyedRequest, Recorded
from metering import decision, errors
from metering.decision import DecidingRow, Denied
from metering.models import UsageEntry
from metering.services.entries import Heading, Lines
from subscriptions import selectors as subscription_selectors

DENIED = 403
DETAILS = {
    errors.FeatureNotInPlan.code: "The plan in force does not include {feature}.",
    errors.NoActiveSubscription.code: "No subscription and no default plan grants {feature}.",
    errors.SubscriptionPaused.code: "The subscription is paused; {feature} resumes with it.",
    errors.PastDueBlocked.code: "A payment is overdue beyond its grace; {feature} waits for it.",
}


def lines(*, heading: Heading, denied: Denied, request_id: str) -> list[UsageEntry]:
    """Return the one line that records a denial.

    :raises PaymentRequired: instead, since it is not recorded.
    """
    denial = describe(denied, request_id=request_id)
    found = Lines(heading=heading)
    line = found.add(kind=UsageEntry.Kind.DENIED, draw=denied.item.draws[0], balance=denied.balance)
    line.denial = denial
    return found.all()


def describe(denied: Denied, *, request_id: str) -> dict[str, object]:
    """Return code, detail and facts of a denial, JSON-ready, as its entry keeps them.

    :raises PaymentRequired: where a first payment is awaited: that denial is not recorded.
    """
    key = denied.item.feature_key
    if denied.code == errors.PaymentRequired.code:
        raise _payment_required(key)
    facts: dict[str, object] = {"feature": key, "requested": denied.item.units}
    detail = DETAILS.get(denied.code, "").format(feature=key)
    if denied.code == errors.UsageLimitReached.code and denied.balance is not None:
        facts |= limit_facts(denied.balance)
        asked = f"{denied.draw.units} {denied.draw.feature_key} requested"
        detail = f"{asked}, {facts['remaining']} of {facts['limit']} left."
        if denied.draw.feature_key != key:
            facts["pool"] = denied.draw.feature_key
    if request_id:
        facts["request_id"] = request_id
    return {"code": denied.code, "detail": detail, "facts": facts}


def limit_facts(row: DecidingRow) -> dict[str, object]:
    """Return the figures of a reached limit and the plans that would raise it."""
    remaining = decision.remaining_units(
        limit_units=row.limit_units, counted_units=row.counted_units
    )
    upgrades = subscription_selectors.list_upgrades(
        feature_id=row.feature_id, above_units=row.limit_units
    )
    return {
        "limit": row.limit_units,
        "used": row.used_units,
        "held": row.held_units,
        "remaining": remaining,
        "resets_at": clocks.rfc3339(row.period_ends_at) if row.period_ends_at else None,
        "upgrade": [{"plan": each.plan_key, "limit": each.limit_units} for each in upgrades],
    }


def refusal(denied: Denied) -> errors.UsageDenied:
    """Return the refusal of a step: its caller's own record keeps the outcome.

    :raises PaymentRequired: where a first payment is awaited.
    """
    described = describe(denied, request_id="")
    return errors.DENIALS[denied.code](str(described["detail"]), facts=_facts(described))


def switched_off(*, code: str, feature_key: str) -> core_errors.DomainError:
    """Return the refusal of a switch or value, which is not counted and so not recorded."""
    if code == errors.PaymentRequired.code:
        return _payment_required(feature_key)
    detail = DETAILS[code].format(feature=feature_key)
    return errors.DENIALS[code](detail, facts={"feature": feature_key})


def _payment_required(feature_key: str) -> errors.PaymentRequired:
    detail = f"The subscription awaits its first payment; {feature_key} follows it."
    return errors.PaymentRequired(detail, facts={"feature": feature_key})


def _facts(described: Mapping[str, object]) -> dict[str, object]:
    facts = described["facts"]
    return dict(facts) if isinstance(facts, dict) else {}


def recorded(entry: UsageEntry, *, replayed: bool) -> errors.UsageDenied:
    """Return the refusal that a denied entry records."""
    if entry.denial is None:
        msg = f"entry {entry.pk} records no denial"
        raise AssertionError(msg)
    return _recorded(entry.denial, replayed=replayed)


def once(
    *,
    customer_id: UUID,
    keyed: KeyedRequest,
    request_id: str,
    run: Callable[[], Recorded],
    clock: clocks.Clock,
) -> Recorded:
    """Run an operation that claims the key, as `idempotency.once` does; record its denial too.

    For an operation that takes units by a step of its own transaction. The denial undoes that
    one, so the record of it is written by another; a twin that was granted what it asked for in
    between keeps its answer, which then stands for both.

    :raises UsageDenied: where the units are not there, and again whenever the key comes back.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """

    def run_or_record() -> Recorded:
        try:
            return run()
        except errors.UsageDenied as denied:
            facts = denied.facts() | ({"request_id": request_id} if request_id else {})
            denial = {"code": denied.code, "detail": denied.detail, "facts": facts}
            return _record(denial, customer_id=customer_id, keyed=keyed, clock=clock)

    answer = idempotency.once(customer_id=customer_id, keyed=keyed, run=run_or_record)
    if answer.status == DENIED:
        raise _recorded(answer.body, replayed=answer.replayed)
    return answer


@db.operation
def _record(
    denial: Mapping[str, object], *, customer_id: UUID, keyed: KeyedRequest, clock: clocks.Clock
) -> Recorded:
    with db.transaction():
        return idempotency.claim_step(
            customer_id=customer_id, keyed=keyed, status=DENIED, body=denial, at=clock.now()
        )


def _recorded(denial: Mapping[str, object], *, replayed: bool) -> errors.UsageDenied:
    kind = errors.DENIALS[str(denial["code"])]
    return kind(str(denial["detail"]), facts=_facts(denial), replayed=replayed)
