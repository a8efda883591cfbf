"""Show the audit log: who changed what, from what to what, and why."""

import json

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from core.admin import base
from core.admin.operations import Table
from core.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(base.LedgerAdmin[AuditEntry]):
    """The audit log, newest first; append-only, by the database too."""

    empty_text = "Every change of catalog, customers, users and keys will stand here."
    list_display = ("at", "actor", "action", "object_type", "object_id", "reason")
    search_fields = ("actor",)
    search_help_text = "An actor (staff 3), an object's id, or a request id, in full."
    fields = (
        ("at", "actor", "action"),
        ("object_type", "object_id", "request_id"),
        "reason",
        "change",
    )
    readonly_fields = ("change",)

    def get_search_results(
        self,
        request: HttpRequest,
        queryset: QuerySet[AuditEntry],
        search_term: str,
    ) -> tuple[QuerySet[AuditEntry], bool]:
        """Return the entries of an actor, an object or a request, or the newest of all."""
        newest, _ = super().get_search_results(request, queryset, "")
        term = search_term.strip()
        if not term:
            return newest, False
        by_actor = queryset.filter(actor=term)
        return (by_actor if by_actor.exists() else self._named(newest, term)), False

    @admin.display(description="Change")
    def change(self, entry: AuditEntry) -> str:
        """Return every value that differs, before and after."""
        names = sorted({*entry.before, *entry.after})
        rows = [(name, _text(entry.before, name), _text(entry.after, name)) for name in names]
        headers = ("Value", "Before", "After")
        return base.table(Table(title="", headers=headers, rows=rows, empty_text="No values."))

    @staticmethod
    def _named(newest: QuerySet[AuditEntry], term: str) -> QuerySet[AuditEntry]:
        return newest.filter(object_id=term) | newest.filter(request_id=term)


def _text(values: dict[str, object], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else "–"
