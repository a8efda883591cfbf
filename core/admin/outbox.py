"""Show what was published."""

import json

from django.contrib import admin

from core.admin import base
from core.models import OutboxEvent


@admin.register(OutboxEvent)
class OutboxEventAdmin(base.LedgerAdmin[OutboxEvent]):
    """The outbox, newest first: every fact with the instant at which it became true."""

    empty_text = "Events appear here once something happens: a subscription, a consumed unit."
    list_display = ("event_type", "customer", "occurred_at")
    list_select_related = ("customer",)
    fields = ("event_type", "customer", "occurred_at", "content")
    readonly_fields = ("content",)

    @admin.display(description="Payload")
    def content(self, event: OutboxEvent) -> str:
        """Return the payload to read."""
        return json.dumps(event.payload, indent=2, ensure_ascii=False)
