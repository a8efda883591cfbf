"""Show what becomes usage: meters, and the events that they read."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from core.admin import base, pages
from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from metering.models import Meter, MeterEvent
from metering.services import meters

V = TypeVar("V")
COLORS = {"counting": "success", "archived": "danger"}


class MeterForm(ReasonForm):
    """Ask what a meter counts."""

    key = forms.SlugField(
        max_length=100, widget=UnfoldAdminTextInputWidget, help_text="Its name in the API."
    )
    name = forms.CharField(max_length=255, required=False, widget=UnfoldAdminTextInputWidget)
    event_type = forms.CharField(
        max_length=255,
        widget=UnfoldAdminTextInputWidget,
        help_text="The CloudEvents type that it reads, e.g. api.call.",
    )
    aggregation = forms.ChoiceField(
        choices=Meter.Aggregation.choices, widget=UnfoldAdminSelectWidget
    )
    value_path = forms.CharField(
        max_length=255,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Where the value stands in the event's data, e.g. $.tokens; empty for count.",
    )
    is_decimal = forms.BooleanField(
        required=False, widget=UnfoldBooleanWidget, help_text="Up to six decimal places."
    )
    group_by = forms.JSONField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text='Names of groups and their paths, e.g. {"model": "$.model"}.',
    )
    filters = forms.JSONField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text='Paths and their accepted values, e.g. {"$.status": ["ok"]}.',
    )
    feature_key = forms.SlugField(
        max_length=100,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="The metered feature whose usage it feeds; empty for none.",
    )
    late_horizon_seconds = forms.IntegerField(
        min_value=0,
        initial=604_800,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="How much older than its arrival an event may be (seconds).",
    )
    field_order = (
        "key",
        "name",
        "event_type",
        "aggregation",
        "value_path",
        "is_decimal",
        "group_by",
        "filters",
        "feature_key",
        "late_horizon_seconds",
        "reason",
    )

    def clean_group_by(self) -> Mapping[str, str]:
        """Return the groups, where they are an object of paths."""
        return _object(self.cleaned_data["group_by"], str)

    def clean_filters(self) -> Mapping[str, list[Any]]:
        """Return the filters, where they are an object of lists."""
        return _object(self.cleaned_data["filters"], list)


class DefineMeter(Operation[None]):
    """Make a meter."""

    name = "define_meter"
    title = "Define meter"
    permission = "metering.add_meter"
    form = MeterForm
    previews = True

    def consequence(self, asked: Asked[None]) -> Consequence:
        """Tell what it will count."""
        values = asked.values
        feeds = (
            f", which counts as usage of {values['feature_key']}" if values["feature_key"] else ""
        )
        return Consequence(
            sentences=(
                f"{values['key']} reads every event {values['event_type']} from now on.",
                f"Its figure is their {values['aggregation']}{feeds}.",
                "What it means can never be changed; another meaning needs another key.",
            )
        )

    def run(self, asked: Asked[None]) -> Done:
        """Define it."""
        values = {name: value for name, value in asked.values.items() if name != "reason"}
        made = meters.define(meters.Definition(**values), actor=asked.actor, clock=asked.clock)
        url = reverse("admin:metering_meter_change", args=(made.pk,))
        return Done(message=f"The meter {made.key} counts from now on.", made=made, url=url)


class ArchiveMeter(Operation[Meter]):
    """Let a meter count no more."""

    name = "archive_meter"
    title = "Archive"
    permission = "metering.archive_meter"
    icon = "archive"
    is_dangerous = True

    def is_offered(self, row: Meter) -> bool:
        """Offer it until it is done."""
        return row.archived_at is None

    def consequence(self, asked: Asked[Meter]) -> Consequence:
        """Tell what stops."""
        feeds = f" and feeds {asked.row.feature.key} no more" if asked.row.feature else ""
        return Consequence(
            sentences=(
                f"{asked.row.key} reads no event that arrives from now on{feeds}.",
                "What it has read stays. It cannot be undone.",
            )
        )

    def run(self, asked: Asked[Meter]) -> Done:
        """Archive it."""
        meters.archive(meter_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message=f"The meter {asked.row.key} is archived.")


@admin.register(Meter)
class MeterAdmin(base.EngineAdmin[Meter]):
    """Meters: which events become which figures."""

    operations = (ArchiveMeter,)
    empty_text = "Define one for each kind of event that your services send."
    list_display = ("key", "name", "event_type", "aggregation", "feature", "state")
    list_filter = ("aggregation", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("feature",)
    search_fields = ("key", "name", "event_type")
    ordering = ("key",)
    fields = (
        ("key", "name", "state"),
        ("event_type", "aggregation", "feature"),
        ("value_path", "is_decimal", "late_horizon_seconds"),
        ("group_by", "filters"),
        ("created_at", "archived_at"),
    )
    readonly_fields: ClassVar = ("state",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ANN401, ARG002 - Django's signature
        """Refuse: what a meter means never changes."""
        return False

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",  # noqa: ARG002 - Django's signature
        extra_context: dict[str, Any] | None = None,  # noqa: ARG002 - Django's signature
    ) -> HttpResponse:
        """Ask what the meter counts."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return pages.answer(admin=self, operation=DefineMeter(), request=request, row=None)

    @base.label(description="State", colors=COLORS)
    def state(self, meter: Meter) -> str:
        """Return whether it counts."""
        return "archived" if meter.archived_at else "counting"


@admin.register(MeterEvent)
class MeterEventAdmin(base.LedgerAdmin[MeterEvent]):
    """Events as they were read, newest first."""

    empty_text = "Every event that a meter reads will stand here."
    list_display = ("occurred_at", "customer", "meter", "value", "text", "source", "event_id")
    list_filter = ("meter",)
    list_select_related = ("customer", "meter")


def _object(given: object, kind: type[V]) -> Mapping[str, V]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(each, kind) for each in given.values()):
        msg = f"Write an object whose values are of type {kind.__name__}."
        raise forms.ValidationError(msg)
    return given
