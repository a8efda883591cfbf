"""Give customers more than their plan, and take it back: grants and overrides, by the services."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from core import errors
from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from core.admin.text import instant
from core.models import Customer
from metering import selectors
from metering.models import Grant
from metering.services import granting
from subscriptions.models import Feature, Override
from subscriptions.services import overriding

UNITS_MAX = 10**12
EXCEED = "metering.exceed_grant"


class GrantForm(ReasonForm):
    """Ask for units and their span."""

    feature = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    units = forms.IntegerField(
        min_value=1, max_value=UNITS_MAX, widget=UnfoldAdminIntegerFieldWidget
    )
    category = forms.ChoiceField(
        choices=Grant.Category.choices,
        initial=Grant.Category.PROMOTIONAL,
        widget=UnfoldAdminSelectWidget,
        help_text="Promotional units burn before paid ones.",
    )
    expires_at = forms.SplitDateTimeField(
        required=False,
        label="Expires at",
        help_text="Empty means never.",
        widget=UnfoldAdminSplitDateTimeWidget,
    )
    field_order = ("feature", "units", "category", "expires_at", "reason")

    def adapt(self, row: object) -> None:  # noqa: ARG002 - the same for every customer
        """Offer the features whose units are counted."""
        self.offer("feature", metered_features())


class GiveGrant(Operation[Customer]):
    """Give units beside the allowance."""

    name = "give_grant"
    title = "Grant units"
    permission = "metering.add_grant"
    further_permissions = (EXCEED,)
    icon = "add_circle"
    form = GrantForm
    previews = True

    def consequence(self, asked: Asked[Customer]) -> Consequence:
        """Tell what he has then.

        :raises PermissionDenied: for more units than the user's role may give.
        """
        _refuse_beyond_cap(asked)
        key, units = asked.values["feature"], asked.values["units"]
        standing = selectors.get_overview(customer=asked.row, clock=asked.clock).standings.get(key)
        until = instant(asked.values["expires_at"])
        given = f"{asked.row.name} gets {units:,} units of {key} at once; they expire {until}."
        if standing is None or standing.limit_units is None:
            return Consequence(sentences=(given, "No limit of his plan is in force for it now."))
        left = standing.remaining_units or 0
        return Consequence(
            sentences=(
                given,
                (
                    f"He has {left:,} left of {standing.limit_units:,} now; what stands above"
                    " the limit is covered first."
                ),
            )
        )

    def run(self, asked: Asked[Customer]) -> Done:
        """Give them."""
        _refuse_beyond_cap(asked)
        granting.create(
            customer_id=asked.row.pk,
            order=granting.Order(
                feature_key=asked.values["feature"],
                units=asked.values["units"],
                category=asked.values["category"],
                expires_at=asked.values["expires_at"],
                reason=asked.reason,
            ),
            actor=asked.actor,
            keyed=asked.keyed,
            render=lambda grant: {"grant": str(grant.pk)},
            clock=asked.clock,
        )
        return Done(message=f"{asked.values['units']:,} {asked.values['feature']} are granted.")


class VoidGrant(Operation[Grant]):
    """End a grant."""

    name = "void_grant"
    title = "Void"
    permission = "metering.void_grant"
    icon = "block"
    is_dangerous = True

    def is_offered(self, row: Grant) -> bool:
        """Offer it until it is done."""
        return row.voided_at is None

    def consequence(self, asked: Asked[Grant]) -> Consequence:
        """Tell what is gone."""
        row = asked.row
        return Consequence(
            sentences=(
                f"What is left of the {row.units:,} {row.feature.key} is gone at once.",
                "What was used of it stays used. It cannot be undone; grant again instead.",
            )
        )

    def run(self, asked: Asked[Grant]) -> Done:
        """End it."""
        granting.void(
            customer_id=asked.row.customer_id,
            grant_id=asked.row.pk,
            actor=asked.actor,
            keyed=asked.keyed,
            render=lambda grant: {"grant": str(grant.pk)},
            clock=asked.clock,
        )
        return Done(message="The grant is void.")


class OverrideForm(ReasonForm):
    """Ask what of a feature, and until when."""

    feature = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    units = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=UNITS_MAX,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Units added per usage period to a metered feature.",
    )
    is_unlimited = forms.BooleanField(required=False, label="Unlimited", widget=UnfoldBooleanWidget)
    value = forms.JSONField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="The value of a static feature, as JSON.",
    )
    ends_at = forms.SplitDateTimeField(
        required=False,
        label="Ends at",
        help_text="Empty means until somebody ends it.",
        widget=UnfoldAdminSplitDateTimeWidget,
    )
    field_order = ("feature", "units", "is_unlimited", "value", "ends_at", "reason")

    def adapt(self, row: object) -> None:  # noqa: ARG002 - the same for every customer
        """Offer every feature."""
        features = Feature.objects.order_by("key").values_list("key", "name", "type")
        self.offer("feature", [(key, f"{name} ({key}, {kind})") for key, name, kind in features])


class OverrideEntitlement(Operation[Customer]):
    """Give one customer something of a feature beside his plan."""

    name = "override_entitlement"
    title = "Override entitlement"
    permission = "subscriptions.add_override"
    icon = "tune"
    form = OverrideForm
    previews = True

    def consequence(self, asked: Asked[Customer]) -> Consequence:
        """Tell what he has and for how long."""
        values = asked.values
        if values["is_unlimited"]:
            given = "as much as he likes"
        elif values["units"]:
            given = f"{values['units']:,} units a period more"
        else:
            given = "a switch turned on" if values["value"] is None else f"{values['value']}"
        until = instant(values["ends_at"], none="somebody ends it")
        return Consequence(
            sentences=(
                f"{asked.row.name} has of {values['feature']}: {given}, from now until {until}.",
                "It stands beside plan and add-ons; a change of plan does not end it.",
            )
        )

    def run(self, asked: Asked[Customer]) -> Done:
        """Override it."""
        values = asked.values
        overriding.create(
            customer_id=asked.row.pk,
            order=overriding.Order(
                feature_key=values["feature"],
                units=values["units"],
                is_unlimited=values["is_unlimited"],
                value=values["value"],
                ends_at=values["ends_at"],
                reason=asked.reason,
            ),
            actor=asked.actor,
            keyed=asked.keyed,
            render=lambda override: {"override": str(override.pk)},
            clock=asked.clock,
        )
        return Done(message=f"{values['feature']} is overridden.")


class EndOverride(Operation[Override]):
    """End an override."""

    name = "end_override"
    title = "End now"
    permission = "subscriptions.end_override"
    icon = "block"
    is_dangerous = True

    def consequence(self, asked: Asked[Override]) -> Consequence:
        """Tell what is left."""
        key = asked.row.feature.key
        return Consequence(
            sentences=(
                f"From now on plan and add-ons alone say what there is of {key}.",
                "Nothing that was used is taken back.",
            )
        )

    def run(self, asked: Asked[Override]) -> Done:
        """End it."""
        overriding.end(
            customer_id=asked.row.customer_id,
            override_id=asked.row.pk,
            actor=asked.actor,
            keyed=asked.keyed,
            render=lambda override: {"override": str(override.pk)},
            clock=asked.clock,
        )
        return Done(message="The override has ended.")


@admin.register(Grant)
class GrantAdmin(base.LedgerAdmin[Grant]):
    """Grants, newest first."""

    operations = (VoidGrant,)
    empty_text = "Grant units on a customer's page."
    list_display = (
        "customer",
        "feature",
        "units",
        "remaining_units",
        "category",
        "effective_at",
        "expires_at",
        "voided_at",
    )
    list_filter = ("category", "feature")
    list_select_related = ("customer", "feature")


@admin.register(Override)
class OverrideAdmin(base.LedgerAdmin[Override]):
    """Overrides, newest first."""

    operations = (EndOverride,)
    empty_text = "Override an entitlement on a customer's page."
    list_display = (
        "customer",
        "feature",
        "units",
        "is_unlimited",
        "value",
        "starts_at",
        "ends_at",
        "reason",
    )
    list_filter = ("feature",)
    list_select_related = ("customer", "feature")


def metered_features() -> list[tuple[str, str]]:
    """Return the features whose units are counted, as choices."""
    rows = Feature.objects.filter(type=Feature.Type.METERED).order_by("key")
    return [(each.key, f"{each.name} ({each.key})") for each in rows]


def _refuse_beyond_cap(asked: Asked[Any]) -> None:
    cap = settings.ENGINE.staff_grant_units_max
    if asked.values["units"] > cap and not asked.may(EXCEED):
        detail = f"Your role grants at most {cap:,} units at a time; ask an owner."
        raise errors.PermissionDenied(detail)


OPERATIONS = (GiveGrant, OverrideEntitlement)
