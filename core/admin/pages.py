"""Answer the pages of operations: show the consequence, ask why, act on POST, keep the history."""

import re
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import uuid4

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.forms import ChoiceField
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from core import clock as clocks
from core import errors
from core.admin.operations import (
    Asked,
    Consequence,
    Done,
    Inspection,
    Operation,
    OperationForm,
)

CONFIRMED = "_confirmed"
TOKEN = "_token"  # noqa: S105 - a form's field, no secret
SANE_TOKEN = re.compile(r"[0-9a-f]{32}", re.ASCII)
R = TypeVar("R")


def answer(
    *, admin: "ModelAdmin[Any]", operation: Operation[R], request: HttpRequest, row: R
) -> HttpResponse:
    """Return the operation's page; a confirmed POST acts and leads on."""
    page = _Page(admin=admin, operation=operation, request=request, row=row)
    if isinstance(operation, Inspection):
        return page.inspect()
    return page.act() if request.method == "POST" else page.ask()


class _Page:
    def __init__(
        self,
        *,
        admin: "ModelAdmin[Any]",
        operation: Operation[Any],
        request: HttpRequest,
        row: object,
    ) -> None:
        self._admin = admin
        self._operation = operation
        self._request = request
        self._row = row

    def ask(self) -> HttpResponse:
        """Show the form, and the consequence where it does not depend on it.

        A GET's parameters are what the form proposes.
        """
        form = self._form(None)
        if self._operation.previews:
            return self._render(form=form)
        return self._render_told(form=form, can_confirm=True)

    def act(self) -> HttpResponse:
        """Act where the deed is confirmed; show the consequence first where it is not."""
        form = self._form(self._request.POST)
        if not form.is_valid() and self._operation.previews:
            return self._render(form=form)
        if not form.is_valid() or CONFIRMED not in self._request.POST:
            return self._render_told(form=form, can_confirm=True)
        try:
            done = self._operation.run(self._asked(form))
        except errors.DomainError as error:
            return self._render(form=form, refusal=error)
        return self._lead_on(done, form=form)

    def inspect(self) -> HttpResponse:
        """Show what is asked; a GET's parameters are the question."""
        asks = bool(self._operation.form.base_fields)
        form = self._form(self._request.GET if self._request.GET or not asks else None)
        if asks and not form.is_valid():
            return self._render(form=form)
        form.is_valid()
        return self._render_told(form=form, can_confirm=False)

    def _form(self, data: Any) -> OperationForm:  # noqa: ANN401 - Django's own type of form data
        form = self._operation.form(data, initial=self._request.GET.dict())
        form.adapt(self._row)
        return form

    def _asked(self, form: OperationForm) -> Asked[Any]:
        return Asked(
            row=self._row,
            actor_name=f"staff {self._request.user.pk}",
            request_id=str(getattr(self._request, "request_id", "")),
            clock=clocks.process_clock(),
            may=self._request.user.has_perm,
            token=self._token(),
            values=form.cleaned_data if form.is_bound and form.is_valid() else {},
        )

    def _token(self) -> str:
        """Return the shown form's own token: sent twice, it is done once."""
        given = self._request.POST.get(TOKEN, "")
        return given if SANE_TOKEN.fullmatch(given) else uuid4().hex

    def _render_told(self, *, form: OperationForm, can_confirm: bool) -> HttpResponse:
        try:
            told = self._operation.consequence(self._asked(form))
        except errors.DomainError as error:
            return self._render(form=form, refusal=error)
        return self._render(form=form, told=told, can_confirm=can_confirm)

    def _lead_on(self, done: Done, *, form: OperationForm) -> HttpResponse:
        reason = str(form.cleaned_data.get("reason", ""))
        note = f"{self._operation.title}: {reason}"
        if isinstance(done.made, Model):
            self._admin.log_addition(self._request, done.made, note)
        elif isinstance(self._row, Model):
            self._admin.log_change(self._request, self._row, note)
        if done.secret:
            return self._render(form=form, done=done)
        messages.success(self._request, done.message)
        return HttpResponseRedirect(done.url or self._back_url())

    def _back_url(self) -> str:
        opts = self._admin.opts
        name = f"{self._admin.admin_site.name}:{opts.app_label}_{opts.model_name}"
        if isinstance(self._row, Model):
            return reverse(f"{name}_change", args=(self._row.pk,))
        return reverse(f"{name}_changelist")

    def _render(
        self,
        *,
        form: OperationForm,
        told: Consequence | None = None,
        refusal: errors.DomainError | None = None,
        done: Done | None = None,
        can_confirm: bool = False,
    ) -> HttpResponse:
        is_previewed = can_confirm and told is not None and self._operation.previews
        context = {
            **self._admin.admin_site.each_context(self._request),
            "title": self._operation.title,
            "opts": self._admin.opts,
            "row": self._row,
            "operation": self._operation,
            "is_inspection": isinstance(self._operation, Inspection),
            "form": form,
            "told": told,
            "refusal": refusal,
            "faults": refusal.facts().get("errors", ()) if refusal else (),
            "done": done,
            "can_confirm": can_confirm,
            "entered": _entered(form) if is_previewed else (),
            "is_previewed": is_previewed,
            "confirmed": CONFIRMED,
            "token_name": TOKEN,
            "token": self._token(),
            "back_url": self._back_url(),
        }
        status = HTTPStatus.CONFLICT if refusal else HTTPStatus.OK
        return TemplateResponse(
            self._request, "core/admin/operation.html", context, status=status.value
        )


def _entered(form: OperationForm) -> list[tuple[str, object]]:
    """Return what was entered, in the words of the form, without what was left empty."""
    found: list[tuple[str, object]] = []
    for bound in form:
        value = form.cleaned_data.get(bound.name)
        if isinstance(bound.field, ChoiceField) and not isinstance(value, Model):
            names: dict[object, object] = dict(bound.field.choices)  # type: ignore[arg-type] # flat
            chosen = value if isinstance(value, list) else [value]
            value = ", ".join(str(names.get(each, each)) for each in chosen)
        if value not in (None, "", [], {}) and value is not False:
            found.append((str(bound.label), value))
    return found
