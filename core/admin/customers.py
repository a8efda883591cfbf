"""Change what is known of a customer, by the service."""

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

from core import zones
from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from core.models import Customer
from core.services import customers
from core.services.customers import CustomerChange


class TimeZoneForm(ReasonForm):
    """Ask for the zone."""

    time_zone = forms.CharField(
        max_length=63,
        help_text="IANA name: Europe/Berlin.",
        widget=UnfoldAdminTextInputWidget,
    )
    field_order = ("time_zone", "reason")

    def adapt(self, row: object) -> None:
        """Begin with the zone that he has."""
        if isinstance(row, Customer):
            self.fields["time_zone"].initial = row.time_zone

    def clean_time_zone(self) -> str:
        """Return the zone's name."""
        name = str(self.cleaned_data["time_zone"])
        if not zones.is_known(name):
            message = "This is not an IANA time zone."
            raise forms.ValidationError(message, code="unknown")
        return name


class ChangeTimeZone(Operation[Customer]):
    """Give a customer another time zone."""

    name = "change_time_zone"
    title = "Change time zone"
    permission = "core.change_customer"
    icon = "schedule"
    form = TimeZoneForm
    previews = True

    def consequence(self, asked: Asked[Customer]) -> Consequence:
        """Tell from when it counts."""
        former, zone = asked.row.time_zone, asked.values["time_zone"]
        return Consequence(
            sentences=(
                f"{asked.row.name} is in {zone} instead of {former}.",
                (
                    "Billing and usage periods that run end as they were to end; the next ones"
                    " are counted in the new zone."
                ),
            )
        )

    def run(self, asked: Asked[Customer]) -> Done:
        """Change it."""
        row = customers.update(
            customer_id=asked.row.pk,
            change=CustomerChange(time_zone=asked.values["time_zone"]),
            expected_revision=None,
            actor=asked.actor,
            clock=asked.clock,
        )
        return Done(message=f"The customer is in {row.time_zone}.")
