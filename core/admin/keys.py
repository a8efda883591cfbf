"""Make and revoke the credentials of backends; a secret is shown once, when it is made."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
)

from core import clock as clocks
from core.admin import base, pages
from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from core.admin.text import instant
from core.models import SCOPES, ServiceKey
from core.services import service_keys

OVERLAP_SECONDS = 86_400
COLORS = {"usable": "success", "expired": "warning", "revoked": "danger"}


class KeyForm(ReasonForm):
    """Ask what the key is for, what it may do and until when."""

    name = forms.CharField(
        max_length=100,
        help_text="Which backend uses it, e.g. billing-worker.",
        widget=UnfoldAdminTextInputWidget,
    )
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        help_text="The least that the backend needs.",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    expires_at = forms.SplitDateTimeField(
        required=False,
        label="Expires at",
        help_text="Empty means never.",
        widget=UnfoldAdminSplitDateTimeWidget,
    )
    field_order = ("name", "scopes", "expires_at", "reason")


class MakeKey(Operation[None]):
    """Make a key."""

    name = "make_key"
    title = "Make service key"
    permission = "core.add_servicekey"
    form = KeyForm
    previews = True

    def consequence(self, asked: Asked[None]) -> Consequence:
        """Tell what the key's bearer will be able to do."""
        scopes = ", ".join(asked.values["scopes"])
        expires_at = asked.values["expires_at"]
        until = f"until {instant(expires_at)}" if expires_at else "until it is revoked"
        return Consequence(
            sentences=(
                f"Whoever has the key may do this for every customer: {scopes}.",
                f"It works at once, {until}.",
                "Its secret is shown on the next page, and never again.",
            )
        )

    def run(self, asked: Asked[None]) -> Done:
        """Make it, and show its credential."""
        made = service_keys.create(
            name=asked.values["name"],
            scopes=asked.values["scopes"],
            expires_at=asked.values["expires_at"],
            actor=asked.actor,
            clock=asked.clock,
        )
        return Done(
            message=f"The key {made.service_key.name} is made.",
            secret=made.credential,
            made=made.service_key,
        )


class RotateForm(ReasonForm):
    """Ask how long both keys work."""

    overlap_seconds = forms.IntegerField(
        min_value=0,
        max_value=service_keys.OVERLAP_SECONDS_MAX,
        initial=OVERLAP_SECONDS,
        label="Overlap in seconds",
        help_text="Both keys work meanwhile, so that backends change over one by one.",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    field_order = ("overlap_seconds", "reason")


class RotateKey(Operation[ServiceKey]):
    """Put a new key in a key's place."""

    name = "rotate_key"
    title = "Rotate"
    permission = "core.rotate_servicekey"
    icon = "autorenew"
    form = RotateForm
    previews = True

    def is_offered(self, row: ServiceKey) -> bool:
        """Offer it while the key works."""
        return row.is_usable(at=clocks.process_clock().now()) and row.rotated_at is None

    def consequence(self, asked: Asked[ServiceKey]) -> Consequence:
        """Tell until when the old one works."""
        seconds = asked.values["overlap_seconds"]
        return Consequence(
            sentences=(
                "A new key of the same name, scopes and expiry is made, and shown once.",
                f"{asked.row.prefix}… works for {seconds:,} seconds more, then never again.",
            )
        )

    def run(self, asked: Asked[ServiceKey]) -> Done:
        """Rotate it, and show the new credential."""
        made = service_keys.rotate(
            service_key_id=asked.row.pk,
            overlap_seconds=asked.values["overlap_seconds"],
            actor=asked.actor,
            clock=asked.clock,
        )
        return Done(message=f"The key {asked.row.name} is rotated.", secret=made.credential)


class RevokeKey(Operation[ServiceKey]):
    """End a key."""

    name = "revoke_key"
    title = "Revoke"
    permission = "core.revoke_servicekey"
    icon = "key_off"
    is_dangerous = True

    def is_offered(self, row: ServiceKey) -> bool:
        """Offer it until it is done."""
        return row.revoked_at is None

    def consequence(self, asked: Asked[ServiceKey]) -> Consequence:
        """Tell what stops."""
        return Consequence(
            sentences=(
                f"Every request with {asked.row.prefix}… is refused from now on (401).",
                "It cannot be undone; make a new key for a backend that still needs one.",
            )
        )

    def run(self, asked: Asked[ServiceKey]) -> Done:
        """End it."""
        service_keys.revoke(service_key=asked.row, actor=asked.actor, clock=asked.clock)
        return Done(message=f"The key {asked.row.name} is revoked.")


@admin.register(ServiceKey)
class ServiceKeyAdmin(base.EngineAdmin[ServiceKey]):
    """Service keys: by name and prefix; the secret's hash is never shown."""

    operations: ClassVar = (RotateKey, RevokeKey)
    empty_text = "Make one for each backend that calls the API."
    list_display = ("name", "prefix", "state", "may", "expires_at", "last_used_at", "created_at")
    search_fields = ("name", "prefix")
    ordering = ("-created_at",)
    fields = ("name", "prefix", "state", "may", "created_at", "expires_at", "revoked_at")
    readonly_fields = fields

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ANN401, ARG002 - Django's signature
        """Refuse: a key is made, and revoked."""
        return False

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",  # noqa: ARG002 - Django's signature
        extra_context: dict[str, Any] | None = None,  # noqa: ARG002 - Django's signature
    ) -> HttpResponse:
        """Ask what the key may do, and show its secret once."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return pages.answer(admin=self, operation=MakeKey(), request=request, row=None)

    @base.label(description="State", colors=COLORS)
    def state(self, service_key: ServiceKey) -> str:
        """Return whether the key works now."""
        if service_key.revoked_at is not None:
            return "revoked"
        return "usable" if service_key.is_usable(at=clocks.process_clock().now()) else "expired"

    @admin.display(description="Scopes")
    def may(self, service_key: ServiceKey) -> str:
        """Return the scopes in a line."""
        return ", ".join(service_key.scopes)
