"""Read the audit log."""

from datetime import datetime

from django.db.models import QuerySet

from core.models import AuditEntry


def list_audit_entries(
    *,
    actor: str | None = None,
    action: str | None = None,
    object_type: str | None = None,
    object_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[AuditEntry]:
    """Return the audit entries that match everything given, `since` inclusive, `until` not."""
    asked = {
        "actor": actor,
        "action": action,
        "object_type": object_type,
        "object_id": object_id,
        "at__gte": since,
        "at__lt": until,
    }
    return AuditEntry.objects.filter(
        **{name: value for name, value in asked.items() if value is not None}
    )
