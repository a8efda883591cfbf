"""Edit what a version costs and grants, while it is a draft; show it afterwards."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.options import InlineModelAdmin
from django.db import models
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget

from core.admin import base
from subscriptions.models import Entitlement, MeteredPrice, PlanVersion, Price

if TYPE_CHECKING:
    _Inline = InlineModelAdmin[Any, Any]
else:
    _Inline = object


class DocumentField(forms.JSONField):
    """JSON in a line; an empty one is shown as nothing, not as null."""

    def to_python(self, value: Any) -> Any:  # noqa: ANN401 - Django's signature
        """Return the document; for an empty field, the column's own emptiness."""
        return self.empty_value if value in self.empty_values else super().to_python(value)

    def prepare_value(self, value: Any) -> Any:  # noqa: ANN401 - Django's signature
        """Return what stands in the field."""
        return "" if value is None else super().prepare_value(value)


class DraftInline(_Inline):
    """Content of a version: edited while it is a draft, shown only afterwards."""

    extra = 0
    hide_title = True

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:  # noqa: ANN401 - Django's signature
        """Name each field for those who cannot see its column's heading."""
        if isinstance(db_field, models.JSONField):
            options |= {
                "form_class": DocumentField,
                "widget": UnfoldAdminTextInputWidget,
                "empty_value": None if db_field.null else db_field.get_default(),
            }
        field = super().formfield_for_dbfield(db_field, request, **options)
        if field is not None:
            control: Any = getattr(field.widget, "widget", field.widget)  # without ways elsewhere
            control.attrs["aria-label"] = field.label
            field.widget = control
        return field

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ANN401 - Django's signature
        """Allow it in drafts."""
        return is_draft(obj) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ANN401 - Django's signature
        """Allow it in drafts."""
        return is_draft(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ANN401 - Django's signature
        """Allow it in drafts."""
        return is_draft(obj) and super().has_delete_permission(request, obj)


class PriceInline(DraftInline, base.UnfoldInline):
    """What the version costs."""

    model = Price
    verbose_name_plural = "Prices (amounts in minor units: 2900 is 29.00)"


class MeteredPriceInline(DraftInline, base.UnfoldInline):
    """What usage costs."""

    model = MeteredPrice
    verbose_name_plural = "Prices of usage (terms in major units, as JSON)"


class EntitlementInline(DraftInline, base.UnfoldStackedInline):
    """What the version grants."""

    model = Entitlement
    verbose_name_plural = "Entitlements"
    collapsible = True
    hide_title = False
    fields = (
        ("feature", "enabled", "value"),
        ("limit_units", "reset_interval", "reset_count"),
        ("mode", "overage_cap_units", "per_quantity"),
        ("scope_limit_units", "priority", "preserves_overage"),
        ("rollover_min_units", "rollover_max_units", "alert_percents"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entitlement]:
        """Return the rows with their features, by key."""
        rows: QuerySet[Entitlement] = super().get_queryset(request)
        return rows.select_related("feature").order_by("feature__key")


def is_draft(version: Model | None) -> bool:
    """Tell whether the row may be edited."""
    return isinstance(version, PlanVersion) and version.status == PlanVersion.Status.DRAFT
