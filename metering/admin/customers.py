"""Show a customer with all that is in force; start a plan, and ask what he may do."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
)

from core import clock as clocks
from core.admin import base
from core.admin.customers import ChangeTimeZone
from core.admin.operations import (
    Asked,
    Consequence,
    Done,
    Inspection,
    Operation,
    OperationForm,
    ReasonForm,
    Table,
)
from core.admin.text import instant
from core.models import Customer, Member
from metering import selectors
from metering.admin import grants
from metering.admin.usage import limit_text, percent_text
from metering.models import Balance
from metering.services import explaining
from subscriptions import selectors as subscription_selectors
from subscriptions import status
from subscriptions.admin import comparison
from subscriptions.admin.subscriptions import COLORS
from subscriptions.models import Feature, Subscription
from subscriptions.services import lifecycle, trials

LAST_ROWS = 10


class PlanForm(ReasonForm):
    """Ask for the plan to start."""

    plan = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    quantity = forms.IntegerField(
        min_value=1, max_value=1_000_000, initial=1, widget=UnfoldAdminIntegerFieldWidget
    )
    field_order = ("plan", "quantity", "reason")

    def adapt(self, row: object) -> None:  # noqa: ARG002 - the same for every customer
        """Offer what is on offer."""
        self.offer(
            "plan",
            [
                (version.plan.key, f"{version.plan.name} v{version.number}")
                for version in subscription_selectors.list_offered_versions()
            ],
        )


class StartPlan(Operation[Customer]):
    """Subscribe a customer to a plan."""

    name = "start_plan"
    title = "Start plan"
    permission = "subscriptions.add_subscription"
    icon = "add_shopping_cart"
    form = PlanForm
    previews = True

    def consequence(self, asked: Asked[Customer]) -> Consequence:
        """Tell what the plan grants and costs, and when access starts."""
        offer = lifecycle.resolve_offer(order=_order(asked), currency=asked.row.currency)
        version = offer.plan_version
        is_on_trial = trials.is_open(customer=asked.row, plan_version=version)
        cost = comparison.price_text(offer.price) if offer.price else "nothing"
        bought = f"{asked.values['quantity']} × {cost}"
        if is_on_trial:
            starts = f"Access starts now, on a trial of {version.trial_days} days."
        elif offer.requires_payment:
            starts = "Access starts once the payment is marked; what is in force stays until then."
        else:
            starts = "Access starts now."
        return Consequence(
            sentences=(
                f"{asked.row.name} subscribes to {version.plan.name} v{version.number}: {bought}.",
                starts,
            ),
            tables=(comparison.grants(version),),
        )

    def run(self, asked: Asked[Customer]) -> Done:
        """Subscribe him."""
        recorded = lifecycle.subscribe(
            customer_id=asked.row.pk,
            order=_order(asked),
            actor=asked.actor,
            keyed=asked.keyed,
            render=lambda row, _: {"subscription": str(row.pk), "status": row.status},
            clock=asked.clock,
        )
        url = reverse(
            "admin:subscriptions_subscription_change", args=(recorded.body["subscription"],)
        )
        return Done(message=f"The subscription is {recorded.body['status']}.", url=url)


class QuestionForm(OperationForm):
    """Ask for a feature, units and an instant."""

    feature = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    units = forms.IntegerField(
        min_value=1, max_value=10**12, initial=1, widget=UnfoldAdminIntegerFieldWidget
    )
    at = forms.SplitDateTimeField(
        required=False,
        label="At",
        help_text="Empty means now; a later instant counts what is scheduled.",
        widget=UnfoldAdminSplitDateTimeWidget,
    )

    def adapt(self, row: object) -> None:  # noqa: ARG002 - the same for every customer
        """Offer every feature."""
        features = Feature.objects.order_by("key").values_list("key", "name")
        self.offer("feature", [(key, f"{name} ({key})") for key, name in features])


class ExplainDecision(Inspection[Customer]):
    """Ask whether a customer may use units, and why."""

    name = "explain_decision"
    title = "May they?"
    permission = "metering.view_balance"
    icon = "help"
    form = QuestionForm

    def consequence(self, asked: Asked[Customer]) -> Consequence:
        """Explain the decision by the code that decides; it counts nothing."""
        question = explaining.Question(
            customer=asked.row,
            feature=subscription_selectors.get_feature(key=asked.values["feature"]),
            units=asked.values["units"],
            at=asked.values["at"],
        )
        explained = explaining.explain(question, clock=asked.clock)
        verdict = f"No: {explained.code}." if explained.code else "Yes."
        return Consequence(
            sentences=(verdict, f"The rule that decides: {explained.rule}.", *explained.steps)
        )


class NearLimit(admin.SimpleListFilter):
    """Keep the customers who have used 80 % of a limit, or more."""

    title = "near a limit"
    parameter_name = "near"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ANN401, ARG002 - Django's signature
        """Return the bands."""
        return [("80", "80 % and more"), ("100", "used up")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Customer]) -> QuerySet[Customer]:  # noqa: ARG002 - Django's signature
        """Return the customers of the band, by the balances that decide now."""
        if self.value() not in {"80", "100"}:
            return queryset
        at = clocks.process_clock().now()
        near = Balance.objects.filter(
            Q(period_ends_at__isnull=True) | Q(period_ends_at__gt=at),
            is_current=True,
            limit_units__gt=0,
            limit_units__lte=(F("used_units") + F("held_units")) * 100 / int(self.value() or 0),
        )
        return queryset.filter(pk__in=near.values("customer"))


class MemberInline(base.ReadOnlyInline):
    """The users who act for a customer."""

    model = Member
    fields = ("user", "role")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Member]:
        """Return the members with their users."""
        return super().get_queryset(request).select_related("user")


@admin.register(Customer)
class CustomerAdmin(base.ReadOnlyAdmin[Customer]):
    """Customers: the plan in force, how near they are to a limit, and all they have."""

    operations = (StartPlan, *grants.OPERATIONS, ChangeTimeZone, ExplainDecision)
    inlines = (MemberInline,)
    empty_text = "A customer is made when a user registers."
    list_display = ("name", "external_key", "plan", "state", "worst_usage", "created_at")
    list_filter = (NearLimit,)
    search_fields = ("external_key",)
    search_help_text = "The beginning of the external key, an id, or a member's username or e-mail."
    ordering = ("-id",)
    sortable_by = ()
    fields = (
        ("external_key", "id", "created_at"),
        ("time_zone", "currency", "revision"),
        "in_force",
        "its_balances",
        "its_subscriptions",
        "its_timeline",
        "more",
    )
    readonly_fields: ClassVar = (
        "id",
        "in_force",
        "its_balances",
        "its_subscriptions",
        "its_timeline",
        "more",
    )

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        queryset: QuerySet[Customer],
        search_term: str,
    ) -> tuple[QuerySet[Customer], bool]:
        """Return the customers of a key's beginning, an id, or a member: each by an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        members = Member.objects.alias(
            username=Lower("user__username"), email=Lower("user__email")
        ).filter(Q(username=term.lower()) | Q(email=term.lower()))
        named = Customer.objects.named(term).values_list("pk", flat=True)
        found = [*named, *members.values_list("customer_id", flat=True)[: base.COUNT_MAX]]
        return queryset.filter(Q(external_key__startswith=term) | Q(pk__in=found)), False

    def prepare_page(self, rows: Sequence[Customer]) -> None:
        """Read subscriptions and current balances of the page, in two statements."""
        at = clocks.process_clock().now()
        taken = Subscription.objects.filter(customer__in=rows).exclude(
            status__in=Subscription.FINAL_STATUSES
        )
        subscriptions = list(taken.select_related("plan_version__plan").order_by("id"))
        balances = list(Balance.objects.filter(customer__in=rows, is_current=True))
        for customer in rows:
            own = [row for row in subscriptions if row.customer_id == customer.pk]
            counted = [row for row in balances if row.customer_id == customer.pk]
            customer.line = _line(own, at=at)  # type: ignore[attr-defined] # for the page
            customer.worst = _worst(counted, at=at)  # type: ignore[attr-defined] # for the page

    @admin.display(description="Plan")
    def plan(self, customer: Any) -> str:  # noqa: ANN401 - prepared
        """Return the plan taken, or the default plan."""
        return str(customer.line[0])

    @base.label(description="Status", colors=COLORS)
    def state(self, customer: Any) -> str:  # noqa: ANN401 - prepared
        """Return the status in effect."""
        return str(customer.line[1])

    @admin.display(description="Worst usage")
    def worst_usage(self, customer: Any) -> str:  # noqa: ANN401 - prepared
        """Return the largest used share of a limit."""
        return "–" if customer.worst is None else f"{customer.worst} %"

    @admin.display(description="In force now")
    def in_force(self, customer: Customer) -> str:
        """Return every metered feature with what is left, as the API shows it."""
        overview = selectors.get_overview(customer=customer, clock=clocks.process_clock())
        rows = [
            (
                key,
                f"{standing.used_units:,}",
                f"{standing.held_units:,}",
                limit_text(standing.limit_units),
                limit_text(standing.remaining_units),
                percent_text(
                    counted_units=standing.used_units + standing.held_units,
                    limit_units=standing.limit_units,
                ),
                instant(standing.resets_at),
            )
            for key, standing in overview.standings.items()
        ]
        headers = ("Feature", "Used", "Held", "Limit", "Remaining", "Used %", "Resets")
        return base.table(Table(title="", headers=headers, rows=rows))

    @admin.display(description="Balances")
    def its_balances(self, customer: Customer) -> str:
        """Return the newest balances, closed ones too."""
        rows = Balance.objects.filter(customer=customer).select_related("feature").order_by("-id")
        shown = [
            (
                base.link(to=row, text=row.feature.key),
                instant(row.period_starts_at),
                instant(row.period_ends_at),
                f"{row.used_units:,}",
                limit_text(row.limit_units),
                "current" if row.is_current else "closed",
            )
            for row in rows[:LAST_ROWS]
        ]
        headers = ("Feature", "From", "Until", "Used", "Limit", "State")
        return base.table(Table(title="", headers=headers, rows=shown))

    @admin.display(description="Subscriptions")
    def its_subscriptions(self, customer: Customer) -> str:
        """Return the newest subscriptions, ended ones too."""
        at = clocks.process_clock().now()
        rows = subscription_selectors.list_subscriptions(customer=customer).order_by("-id")
        shown = [
            (
                base.link(to=row, text=f"{row.plan_version.plan.name} v{row.plan_version.number}"),
                status.standing(row, at=at).status,
                comparison.price_text(row.price) if row.price else "free",
                instant(row.start_at),
                instant(row.ended_at, none="–"),
            )
            for row in rows[:LAST_ROWS]
        ]
        headers = ("Plan", "Status", "Price", "Since", "Ended")
        return base.table(Table(title="", headers=headers, rows=shown))

    @admin.display(description="Timeline")
    def its_timeline(self, customer: Customer) -> str:
        """Return the newest transitions."""
        rows = subscription_selectors.list_timeline(customer=customer).order_by("-at", "-id")
        shown = [
            (
                instant(row.at),
                row.from_status or "–",
                row.to_status,
                row.event,
                row.actor,
                row.reason,
            )
            for row in rows[:LAST_ROWS]
        ]
        headers = ("At", "From", "To", "Event", "Actor", "Reason")
        return base.table(Table(title="", headers=headers, rows=shown))

    @admin.display(description="More")
    def more(self, customer: Customer) -> str:
        """Return the ways to everything of this customer."""
        return base.links(
            (f"{reverse(f'admin:{name}_changelist')}?customer__id__exact={customer.pk}", text)
            for name, text in (
                ("metering_usageentry", "Usage ledger"),
                ("metering_balance", "All balances"),
                ("metering_grant", "Grants"),
                ("subscriptions_override", "Overrides"),
                ("metering_hold", "Holds"),
                ("subscriptions_subscription", "All subscriptions"),
                ("core_outboxevent", "Published events"),
            )
        )


def _order(asked: Asked[Customer]) -> lifecycle.Order:
    return lifecycle.Order(plan_key=asked.values["plan"], quantity=asked.values["quantity"])


def _line(rows: Iterable[Subscription], *, at: datetime) -> tuple[str, str]:
    """Return plan and status: the live subscription's, else one that waits, else the default's."""
    standings = [(row, status.standing(row, at=at)) for row in rows]
    for wanted in (Subscription.SLOT_STATUSES, (Subscription.Status.INCOMPLETE,)):
        for row, standing in standings:
            if standing.status in wanted:
                return row.plan_version.plan.name, standing.status
    default = settings.ENGINE.default_plan_key
    return (f"{default} (default)", "active") if default else ("–", "none")


def _worst(rows: Iterable[Balance], *, at: datetime) -> int | None:
    """Return the largest used share in percent; a period that is over counts nothing."""
    shares = [
        (row.used_units + row.held_units) * 100 // row.limit_units
        for row in rows
        if row.limit_units and (row.period_ends_at is None or at < row.period_ends_at)
    ]
    return max(shares, default=None)
