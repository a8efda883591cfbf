"""Switch a feature off, or open to everybody, in an emergency."""

from django import forms
from django.contrib import admin
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from core.admin.text import instant
from subscriptions.models import Feature, FeatureSwitch
from subscriptions.services import switches

State = FeatureSwitch.State
COLORS = {State.DENY: "danger", State.ALLOW: "warning"}
SECONDS_DEFAULT = 3600


class SwitchForm(ReasonForm):
    """Ask which way, and for how long."""

    state = forms.ChoiceField(
        choices=[(State.DENY, "deny everybody"), (State.ALLOW, "allow everybody")],
        widget=UnfoldAdminSelectWidget,
    )
    ttl_seconds = forms.IntegerField(
        min_value=switches.TTL_SECONDS_MIN,
        max_value=switches.TTL_SECONDS_MAX,
        initial=SECONDS_DEFAULT,
        label="Seconds",
        help_text="After them plans decide again by themselves.",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    field_order = ("state", "ttl_seconds", "reason")


class SwitchFeature(Operation[Feature]):
    """Deny or allow a feature to everybody for a time."""

    name = "switch_feature"
    title = "Emergency switch"
    permission = "subscriptions.switch_feature"
    icon = "emergency"
    form = SwitchForm
    previews = True
    is_dangerous = True

    def consequence(self, asked: Asked[Feature]) -> Consequence:
        """Tell whom it hits, and for how long."""
        denies = asked.values["state"] == State.DENY
        effect = "is refused to every customer" if denies else "is open to every customer"
        rest = "Refusals are 403 feature_suspended." if denies else "Usage is counted as ever."
        return Consequence(
            sentences=(
                f"{asked.row.key} {effect} within 2 seconds, whatever his plan says.",
                f"It ends by itself after {asked.values['ttl_seconds']:,} seconds. {rest}",
            )
        )

    def run(self, asked: Asked[Feature]) -> Done:
        """Turn it."""
        switch = switches.turn(
            feature_key=asked.row.key,
            state=asked.values["state"],
            ttl_seconds=asked.values["ttl_seconds"],
            actor=asked.actor,
            clock=asked.clock,
        )
        return Done(message=f"{asked.row.key}: {switch.state}, until {instant(switch.expires_at)}.")


class EndSwitch(Operation[FeatureSwitch]):
    """Let plans decide again."""

    name = "end_switch"
    title = "End now"
    permission = "subscriptions.switch_feature"
    icon = "power_settings_new"

    def is_offered(self, row: FeatureSwitch) -> bool:
        """Offer it until it is done."""
        return row.ended_at is None

    def consequence(self, asked: Asked[FeatureSwitch]) -> Consequence:
        """Tell that plans decide again."""
        key = asked.row.feature.key
        return Consequence(sentences=(f"Plans decide about {key} again, within 2 seconds.",))

    def run(self, asked: Asked[FeatureSwitch]) -> Done:
        """End it."""
        switches.release(feature_key=asked.row.feature.key, actor=asked.actor, clock=asked.clock)
        return Done(message="Plans decide again.")


@admin.register(FeatureSwitch)
class FeatureSwitchAdmin(base.ReadOnlyAdmin[FeatureSwitch]):
    """Emergency switches, newest first."""

    operations = (EndSwitch,)
    empty_text = "In an emergency, switch a feature on its page."
    list_display = ("feature", "what", "reason", "actor", "created_at", "expires_at", "ended_at")
    list_select_related = ("feature",)
    search_fields = ("feature__key",)
    ordering = ("-id",)

    @base.label(description="State", colors=COLORS)
    def what(self, switch: FeatureSwitch) -> str:
        """Return which way it stands."""
        return switch.state
