"""Set and remove a customer's own alert thresholds; his balances know them at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from core import clock as clocks
from core import db, errors
from core.actors import Actor
from core.services import audit, idempotency
from core.services.idempotency import KeyedRequest, Recorded
from metering.decision import Place
from metering.models import AlertThreshold
from metering.services import balances, drawing, opening
from subscriptions import selectors as subscription_selectors

Render = Callable[[AlertThreshold], Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A threshold of one feature: counted units, or a share of the limit in percent."""

    feature_key: str
    percent: int | None = None
    units: int | None = None


def create(
    *,
    customer_id: UUID,
    order: Order,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Alert once a usage period when what is counted reaches the threshold; twice is once.

    :raises NotFound: where there is no such customer.
    :raises FeatureUnknown, FeatureNotMetered: for a key that names no metered feature.
    :raises Invalid: where not exactly one of units and percent is given.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    feature = drawing.get_metered_features(keys=[order.feature_key])[order.feature_key]
    if (order.percent is None) == (order.units is None):
        detail = "Give units or percent, one of them."
        raise errors.Invalid.at("/units", code="ambiguous", detail=detail)

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            customer, at = opening.open_place_step(
                customer_id=customer_id, feature=feature, clock=clock
            )
            threshold, is_new = AlertThreshold.objects.get_or_create(
                customer=customer,
                feature_id=feature.id,
                percent=order.percent,
                units=order.units,
                defaults={"created_at": at},
            )
            if is_new:
                after = audit.snapshot(threshold)
                audit.record_step(
                    actor=actor, action="alert.created", row=threshold, at=at, after=after
                )
            balances.rederive(customer=customer, at=at, place=Place(feature.id, ""))
            return idempotency.claim_step(
                customer_id=customer_id, keyed=keyed, status=201, body=render(threshold), at=at
            )

    return idempotency.once(customer_id=customer_id, keyed=keyed, run=run)


@db.operation
def remove(*, customer_id: UUID, threshold_id: UUID, actor: Actor, clock: clocks.Clock) -> None:
    """Take a threshold away; what it alerted stays published.

    :raises NotFound: for a threshold that is not this customer's.
    """
    found = AlertThreshold.objects.filter(pk=threshold_id, customer_id=customer_id).first()
    if found is None:
        raise errors.NotFound("There is no such threshold.")
    features = subscription_selectors.features_by_id(ids=[found.feature_id])
    with db.transaction():
        customer, at = opening.open_place_step(
            customer_id=customer_id, feature=features[found.feature_id], clock=clock
        )
        if AlertThreshold.objects.filter(pk=threshold_id).delete()[0]:
            before = audit.snapshot(found)
            audit.record_step(actor=actor, action="alert.removed", row=found, at=at, before=before)
        balances.rederive(customer=customer, at=at, place=Place(found.feature_id, ""))
