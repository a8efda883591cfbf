"""Let staff do one thing to one row: told what would happen, asked why, done on POST alone.

An operation is declared once, with its permission. Its page shows the consequence, asks for
a reason, and calls the same service as the API; the deed stands in the row's history.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from django import forms
from django.db.models import Model
from django.forms.utils import pretty_name
from unfold.widgets import UnfoldAdminTextInputWidget

from core import clock as clocks
from core.actors import Actor
from core.admin import reader
from core.services import idempotency
from core.services.idempotency import KeyedRequest

REASON_LENGTH_MAX = 255
R = TypeVar("R")


class OperationForm(forms.Form):
    """Ask for what an operation needs besides its row; subclasses add the fields.

    An instant is entered by the reader's clock, which its label names.
    """

    def __init__(self, *args: Any, **given: Any) -> None:  # noqa: ANN401 - Django's signature
        super().__init__(*args, **given)
        for name, shown in self.fields.items():
            if isinstance(shown, forms.SplitDateTimeField):
                shown.label = f"{shown.label or pretty_name(name)} ({reader.zone_name()})"

    def adapt(self, row: object) -> None:
        """Offer what the row allows; called before the form is shown or read."""

    def offer(self, name: str, choices: Sequence[tuple[str, str]]) -> None:
        """Let the field be one of the choices."""
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - the form's own declaration
        field.choices = choices


class ReasonForm(OperationForm):
    """Ask why."""

    reason = forms.CharField(
        max_length=REASON_LENGTH_MAX,
        help_text="Kept with what you do, for whoever asks later.",
        widget=UnfoldAdminTextInputWidget,
    )


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under their headings."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    empty_text: str = "Nothing yet."


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """What would happen, or how things stand, in sentences and tables."""

    sentences: Sequence[str]
    tables: Sequence[Table] = ()


@dataclass(frozen=True, kw_only=True)
class Done:
    """What happened. `url` leads on, by default to the row; `secret` is shown this once."""

    message: str
    url: str = ""
    secret: str = ""
    made: Model | None = None


@dataclass(frozen=True, kw_only=True)
class Asked(Generic[R]):
    """One request of a member of staff: the row, the form's values, who asks and why.

    `may` tells whether the user has a permission; `token` is the shown form's own.
    """

    row: R
    actor_name: str
    request_id: str
    clock: clocks.Clock
    may: Callable[[str], bool]
    token: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Return why it is asked; empty before it is confirmed."""
        return str(self.values.get("reason", ""))

    @property
    def actor(self) -> Actor:
        """Return who acts and why, as timeline and audit log keep it."""
        return Actor(name=self.actor_name, reason=self.reason, request_id=self.request_id)

    @property
    def keyed(self) -> KeyedRequest:
        """Return the key under which it is done once, however often the form is sent."""
        asked = {name: str(value) for name, value in self.values.items()}
        fingerprint = idempotency.fingerprint(method="admin", path=str(self.row), body=asked)
        return KeyedRequest(key=f"admin-{self.token}", fingerprint=fingerprint)


class Operation(Generic[R]):
    """One thing that staff may do to a row.

    `previews` says that the consequence depends on what is entered, so that it is shown between
    entering and confirming. `further_permissions` are those that it asks about by `Asked.may`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    permission: ClassVar[str]
    further_permissions: ClassVar[Sequence[str]] = ()
    icon: ClassVar[str] = ""
    form: ClassVar[type[OperationForm]] = ReasonForm
    previews: ClassVar[bool] = False
    is_dangerous: ClassVar[bool] = False

    def is_offered(self, row: R) -> bool:  # noqa: ARG002 - the rule of subclasses
        """Tell whether the row's state lets it make sense; the service decides."""
        return True

    def consequence(self, asked: Asked[R]) -> Consequence:
        """Return what would happen.

        :raises DomainError: where it cannot happen.
        """
        raise NotImplementedError

    def run(self, asked: Asked[R]) -> Done:
        """Do it, by a service.

        :raises DomainError: where the service refuses; nothing changed then.
        """
        raise NotImplementedError


class Inspection(Operation[R]):
    """A question about a row: it shows, and never acts."""

    form: ClassVar[type[OperationForm]] = OperationForm
