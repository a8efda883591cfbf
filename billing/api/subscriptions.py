"""Subscribe and change: what moves money, or shows it before."""

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import errors as own_errors
from billing.api import bodies
from billing.api import serializers as shapes
from billing.services import changing, subscribing
from core import clock, errors
from core.api import access, requests, responses, schema
from core.api import serializers as strict
from core.models import Customer
from metering.api.overview import OVERVIEW_EXAMPLE
from subscriptions import errors as subscription_errors
from subscriptions.api.views import SubscriptionListView
from subscriptions.services.timeline import Actor

SUBSCRIBED_EXAMPLE = {
    **OVERVIEW_EXAMPLE,
    "status": "incomplete",
    "payment": {
        "gateway": "manual",
        "instructions": "Pay 29.00 EUR and name acme.",
        "expires_at": "2026-11-24T08:30:00Z",
        "invoice": "01936d3c-7c00-7000-8000-0000000000c1",
        "currency": "EUR",
        "due_minor": 2900,
    },
}
QUOTE_EXAMPLE = {
    "effective_at": "2026-11-16T00:00:00Z",
    "proration_at": "2026-11-16T00:00:00Z",
    "lines": [
        {
            "description": "Unused time: Pro",
            "kind": "proration_credit",
            "quantity": 1,
            "amount_minor": -1450,
            "discount_minor": 0,
            "period": {"starts_at": "2026-11-16T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z"},
        },
        {
            "description": "Remaining time: Team",
            "kind": "charge",
            "quantity": 1,
            "amount_minor": 4950,
            "discount_minor": 0,
            "period": {"starts_at": "2026-11-16T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z"},
        },
    ],
    "due_now_minor": 3500,
    "currency": "EUR",
    "limits_after": {"api_calls": 10000},
    "exceeds": [],
}
CHANGE_REFUSALS = (
    subscription_errors.PlanUnknown,
    subscription_errors.PlanNotAvailable,
    subscription_errors.CurrencyMismatch,
    subscription_errors.SubscriptionEnded,
    subscription_errors.InvalidTransition,
    errors.PermissionDenied,
    *schema.CUSTOMER,
)


class SubscriptionsView(SubscriptionListView):
    """List subscriptions, and subscribe."""

    @schema.operation(
        operation_id="createSubscription",
        tag="subscriptions",
        summary="Subscribe to a plan",
        description="Subscribe the customer, with a coupon where one is named. A free plan and a "
        "trial are in force at once; a paid plan is `incomplete` with how to pay its first "
        "invoice, and what was in force stays so until that is paid.",
        request=shapes.SubscribeSerializer,
        request_example={"plan": "pro"},
        answers={201: shapes.SubscribedSerializer},
        example=SUBSCRIBED_EXAMPLE,
        refusals=(
            subscription_errors.PlanUnknown,
            subscription_errors.PlanNotAvailable,
            subscription_errors.CurrencyMismatch,
            subscription_errors.SubscriptionExists,
            subscription_errors.TrialAlreadyUsed,
            own_errors.CouponInvalid,
            errors.PermissionDenied,
            *schema.CUSTOMER,
        ),
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Subscribe to a plan."""
        given = strict.read(shapes.SubscribeSerializer, request)
        answer = subscribing.subscribe(
            customer_id=paying_customer(request, named=given.get("customer")).pk,
            order=shapes.order_of(given),
            coupon_key=given.get("coupon"),
            actor=actor_of(request),
            keyed=requests.keyed(request),
            render=bodies.subscribed,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)


class ChangeView(APIView):
    """Change the own subscription."""

    @schema.operation(
        operation_id="changeSubscription",
        tag="subscriptions",
        summary="Change plan, price, interval or quantity",
        description="Change the customer's subscription: an upgrade, a larger quantity and "
        "another interval now, with proration; a downgrade and a smaller quantity at the period's "
        "end. With the `proration_at` of a preview it does exactly what that said. From a free "
        "subscription to a paid plan, `payment` says how to pay its first invoice, which bills the "
        "add-ons that go along; what was in force stays so until that is paid.",
        request=shapes.ChangeSerializer,
        request_example={"plan": "team", "proration_at": "2026-11-16T00:00:00Z"},
        answers={200: shapes.QuoteSerializer},
        example=QUOTE_EXAMPLE,
        refusals=(
            subscription_errors.PreviewStale,
            errors.NaiveDatetime,
            *CHANGE_REFUSALS,
        ),
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Change the own subscription."""
        given = strict.read(shapes.ChangeSerializer, request)
        answer = changing.change(
            customer_id=paying_customer(request, named=given.get("customer")).pk,
            order=shapes.change_of(given),
            proration_at=given.get("proration_at"),
            actor=actor_of(request),
            keyed=requests.keyed(request),
            render=bodies.quote,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)


class PreviewView(APIView):
    """Preview a change."""

    @schema.operation(
        operation_id="previewChange",
        tag="subscriptions",
        summary="What would a change do?",
        description="Show the invoice lines, what is due now, when it takes effect and the limits "
        "after it; nothing changes. Its `proration_at` holds for ten minutes, unless something "
        "of the customer's changes before.",
        request=shapes.PreviewSerializer,
        request_example={"plan": "team"},
        answers={200: shapes.QuoteSerializer},
        example=QUOTE_EXAMPLE,
        refusals=CHANGE_REFUSALS,
    )
    def post(self, request: Request) -> Response:
        """Preview a change."""
        given = strict.read(shapes.PreviewSerializer, request)
        customer = paying_customer(request, named=given.get("customer"))
        quote = changing.preview(
            customer_id=customer.pk, order=shapes.change_of(given), clock=clock.process_clock()
        )
        return Response(bodies.quote(quote))


class AddOnsView(APIView):
    """Put add-ons on the own subscription, or take them off."""

    @schema.operation(
        operation_id="setAddOn",
        tag="subscriptions",
        summary="Set how many of an add-on there are",
        description="Set how many of an add-on the customer's subscription has; 0 takes it off. "
        "Its units add or go at once, its price is prorated.",
        request=shapes.AddOnInput,
        request_example={"add_on": "support", "quantity": 1},
        answers={200: shapes.QuoteSerializer},
        example={**QUOTE_EXAMPLE, "lines": [], "due_now_minor": 0},
        refusals=(
            subscription_errors.PlanNotAvailable,
            subscription_errors.CurrencyMismatch,
            subscription_errors.SubscriptionEnded,
            subscription_errors.InvalidTransition,
            errors.PermissionDenied,
            *schema.CUSTOMER,
        ),
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Set how many of an add-on there are."""
        given = strict.read(shapes.AddOnInput, request)
        answer = changing.set_add_on(
            customer_id=paying_customer(request, named=given.get("customer")).pk,
            order=shapes.add_on_of(given),
            actor=actor_of(request),
            keyed=requests.keyed(request),
            render=bodies.quote,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)


def paying_customer(request: Request, *, named: str | None) -> Customer:
    """Return the customer for whom the caller may spend money."""
    return access.access_customer(
        request, scope="subscriptions:write", named=named, roles=access.PAYING_ROLES
    )


def actor_of(request: Request) -> Actor:
    """Return who calls, as the timeline names him."""
    return Actor(name=access.actor_name(request), request_id=requests.request_id(request))
