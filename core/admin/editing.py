"""Let staff edit rows in a form, with a reason: row and lines stand in the audit log."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django import forms
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget

from core import clock as clocks
from core.actors import Actor
from core.admin.operations import REASON_LENGTH_MAX
from core.services import audit

REASON = "reason"
M = TypeVar("M", bound=Model)
Stood = dict[Any, tuple[Model, dict[str, object]]]

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as UnfoldAdmin
else:
    from unfold import admin as unfold_admin

    class UnfoldAdmin(unfold_admin.ModelAdmin, Generic[M]):
        """Unfold's screen, in the shape that Django's types know."""


class AuditedForms(UnfoldAdmin[M]):
    """A screen whose add and change forms ask why, and write what they changed.

    The audit log gets a line for the row and one for each line below it that was made, changed
    or removed, in the transaction of the form.
    """

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:  # noqa: ANN401 - Django's signature
        """Ask for the reason last, wherever the user may save."""
        fieldsets = super().get_fieldsets(request, obj)
        if not self._may_save(request, obj):
            return fieldsets
        return [*fieldsets, ("Why", {"fields": (REASON,)})]

    def get_form(
        self,
        request: HttpRequest,
        obj: Any = None,  # noqa: ANN401 - Django's signature
        change: bool = False,  # noqa: FBT001, FBT002 - Django's signature
        **given: Any,  # noqa: ANN401 - Django's signature
    ) -> Any:  # noqa: ANN401 - Django's signature
        """Return the form with the field for the reason, which is no column."""
        named = given.pop("fields", None) or flatten_fieldsets(self.get_fieldsets(request, obj))
        given["fields"] = [name for name in named if name != REASON]
        form = super().get_form(request, obj, change=change, **given)
        if self._may_save(request, obj):
            form.base_fields[REASON] = forms.CharField(
                max_length=REASON_LENGTH_MAX,
                help_text="Kept with what you change, for whoever asks later.",
                widget=UnfoldAdminTextInputWidget,
            )
        return form

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: ANN401, FBT001 - Django's signature
        """Save the row; how it stood is kept until its lines are saved."""
        form.stood = _described(self.model._default_manager.get(pk=obj.pk)) if change else {}
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: ANN401, FBT001 - Django's signature
        """Save the lines, and write into the audit log what row and lines were and are."""
        stood = [
            _lines(each, [line.instance.pk for line in each.initial_forms]) for each in formsets
        ]
        super().save_related(request, form, formsets, change)
        made = "changed" if change else "created"
        row = self.model._default_manager.get(pk=form.instance.pk)
        actor = Actor(
            name=f"staff {request.user.pk}",
            reason=form.cleaned_data[REASON],
            request_id=str(getattr(request, "request_id", "")),
        )
        log = _Log(actor)
        log.write(row, what=made, before=form.stood, after=_described(row))
        for formset, before in zip(formsets, stood, strict=True):
            new = [line.pk for line in formset.new_objects]
            log.write_lines(before, _lines(formset, [*before, *new]))

    def construct_change_message(
        self,
        request: HttpRequest,
        form: Any,  # noqa: ANN401 - Django's signature
        formsets: Any,  # noqa: ANN401 - Django's signature
        add: bool = False,  # noqa: FBT001, FBT002 - Django's signature
    ) -> Any:  # noqa: ANN401 - Django's signature
        """Tell what was changed, of which the reason is no part."""
        form.changed_data = [name for name in form.changed_data if name != REASON]
        return super().construct_change_message(request, form, formsets, add)

    def _may_save(self, request: HttpRequest, obj: Any) -> bool:  # noqa: ANN401 - a row, or none
        if obj is None:
            return self.has_add_permission(request)
        return self.has_change_permission(request, obj)


class _Log:
    """Write the lines of one form into the audit log, at one instant."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._at = clocks.process_clock().now()

    def write(self, row: Model, *, what: str, before: audit.State, after: audit.State) -> None:
        """Write a line where the two differ."""
        audit.record_change_step(
            actor=self._actor, what=what, row=row, at=self._at, before=before, after=after
        )

    def write_lines(self, before: Stood, after: Stood) -> None:
        """Write a line for each row that was made, changed or removed."""
        for key in sorted({*before, *after}):
            _, was = before.get(key, (None, {}))
            _, now = after.get(key, (None, {}))
            row, _ = after.get(key) or before[key]
            what = "changed" if was and now else "created" if now else "removed"
            self.write(row, what=what, before=was, after=now)


def _described(row: Model) -> dict[str, object]:
    """Return the row's columns, and the names of what it is joined with."""
    joined: Mapping[str, object] = {
        field.name: sorted(str(each) for each in getattr(row, field.name).all())
        for field in row._meta.many_to_many
    }
    return {**audit.snapshot(row), **joined}


def _lines(formset: Any, keys: Sequence[Any]) -> Stood:  # noqa: ANN401 - Django's formset
    """Return the stored rows of the keys with their columns."""
    found = formset.model._default_manager.in_bulk([key for key in keys if key is not None])
    return {key: (row, audit.snapshot(row)) for key, row in found.items()}
