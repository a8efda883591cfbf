"""Show the audit log: who changed what, from what to what, and why."""

import json
import re
from collections.abc import Sequence

from django.apps import apps
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from core.admin import base
from core.admin.operations import Table
from core.models import AuditEntry, User

USER = re.compile(r"(?:staff|user) ([0-9]{1,18})", re.ASCII)


@admin.register(AuditEntry)
class AuditEntryAdmin(base.LedgerAdmin[AuditEntry]):
    """The audit log, newest first; append-only, by the database too."""

    empty_text = "Every change of catalog, customers, users and keys will stand here."
    list_display = ("at", "who", "action", "what", "reason")
    search_fields = ("actor",)
    search_help_text = "An actor (staff 3), an object's id, or a request id, in full."
    fields = (
        ("at", "who", "action"),
        ("what", "object_id", "request_id"),
        "reason",
        "change",
    )
    readonly_fields = ("change", "what", "who")

    def prepare_page(self, rows: Sequence[AuditEntry]) -> None:
        """Name the staff and users of the page in one statement."""
        _name_users(rows)

    @admin.display(description="Who")
    def who(self, entry: AuditEntry) -> str:
        """Return the actor, with the name of a member of staff or a user."""
        if not hasattr(entry, "username"):
            _name_users([entry])
        name: str = entry.username  # type: ignore[attr-defined] # prepared
        return f"{entry.actor} ({name})" if name else entry.actor

    @admin.display(description="What")
    def what(self, entry: AuditEntry) -> str:
        """Return what kind of row it was, with a way to its page where it has one."""
        app, _, model = entry.object_type.partition(".")
        try:
            named = str(apps.get_model(app, model)._meta.verbose_name)
            address = reverse(f"admin:{app}_{model}_change", args=(entry.object_id,))
        except (LookupError, NoReverseMatch):
            return entry.object_type
        return base.links([(address, named)])

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


def _name_users(rows: Sequence[AuditEntry]) -> None:
    """Give each entry the name of the user who acted; empty for anybody else."""
    found = {entry: USER.fullmatch(entry.actor) for entry in rows}
    keys = {int(match[1]) for match in found.values() if match}
    names = dict(User.objects.filter(pk__in=keys).values_list("pk", "username")) if keys else {}
    for entry, match in found.items():
        name = names.get(int(match[1]), "") if match else ""
        entry.username = name  # type: ignore[attr-defined] # for the page


def _text(values: dict[str, object], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else "–"
