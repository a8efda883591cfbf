"""Help the tests of software that stands on the engine: customers with plans, in one call.

They go through the services, as a real subscriber does, and so need a database. Nothing in
production imports this.
"""

from core import clock
from core.models import Customer, Member, User
from core.services import customers
from metering.services import consumption, holds
from metering.services.drawing import Wanted
from subscriptions.models import Subscription
from subscriptions.services import lifecycle

ACTOR = lifecycle.Actor(name="tests")


def give(who: User | Customer, plan: str) -> Subscription:
    """Subscribe a customer, or a user's own, to a plan on offer, without a trial; paid if it costs.

    A user who belongs to no customer gets one, as its owner.

    :raises PlanUnknown, PlanNotAvailable, SubscriptionExists: as subscribing does.
    """
    process_clock = clock.process_clock()
    answer = lifecycle.subscribe(
        customer_id=_customer_of(who).pk,
        order=lifecycle.Order(plan_key=plan, wants_trial=False),
        actor=ACTOR,
        keyed=holds.fresh_key(),
        render=lambda row, _: {"id": str(row.pk)},
        clock=process_clock,
    )
    row = Subscription.objects.get(pk=str(answer.body["id"]))
    if row.status == Subscription.Status.INCOMPLETE:
        row = lifecycle.mark_paid(subscription_id=row.pk, actor=ACTOR, clock=process_clock)
    return row


def use(who: User | Customer, feature: str, *, units: int = 1) -> None:
    """Consume units for a customer, or a user's own: to stand a test near a limit.

    :raises UsageDenied, PaymentRequired, FeatureUnknown, FeatureNotMetered: as consuming does.
    """
    asked = consumption.Request(
        customer_id=_customer_of(who).pk,
        wanted=[Wanted(feature_key=feature, units=units)],
        keyed=holds.fresh_key(),
    )
    consumption.consume(asked, clock=clock.process_clock())


def _customer_of(who: User | Customer) -> Customer:
    if isinstance(who, Customer):
        return who
    member = Member.objects.filter(user=who).select_related("customer").first()
    if member is None:
        new = customers.NewCustomer(external_key=f"user-{who.pk}", name=who.username)
        customer = customers.create(new, actor=ACTOR, clock=clock.process_clock())
        member = Member.objects.create(user=who, customer=customer, role=Member.Role.OWNER)
    return member.customer
