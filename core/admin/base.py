"""Stand under every admin screen: nothing is deleted, and no list is counted whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.contrib.admin import site
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold import decorators
from unfold.enums import ActionVariant

from core.admin import editing, pages
from core.admin.operations import Operation, Table
from core.models import Customer

COUNT_MAX = 10_000
WINDOW_ROWS = 100_000
M = TypeVar("M", bound=Model)

if TYPE_CHECKING:
    from django.contrib.admin import StackedInline, TabularInline
    from django.contrib.admin.views.main import ChangeList

    UnfoldInline = TabularInline[Any, Any]
    UnfoldStackedInline = StackedInline[Any, Any]
    _Paginator = Paginator[Any]
else:
    from unfold import admin as unfold_admin
    from unfold.views import ChangeList

    UnfoldInline = unfold_admin.TabularInline
    UnfoldStackedInline = unfold_admin.StackedInline
    _Paginator = Paginator


class BoundedPaginator(_Paginator):
    """Page at most the first 10,000 rows, so that a list costs the same over millions."""

    template_name = "core/admin/pagination.html"
    rows_max = COUNT_MAX

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most 10,000."""
        rows = self.object_list
        return rows[:COUNT_MAX].count() if isinstance(rows, QuerySet) else len(rows)


class PreparedChangeList(ChangeList):
    """A list whose screen may fetch what its columns show for the whole page at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, then let the screen prepare its rows."""
        super().get_results(request)
        self.full_result_count = self.result_count  # the whole is never counted
        self.result_list = list(self.result_list)
        screen: Any = self.model_admin
        screen.prepare_page(self.result_list)


class EngineAdmin(editing.AuditedForms[M]):
    """A screen with operations: each has its permission, its page, and acts on POST alone."""

    operations: ClassVar[Sequence[type[Operation[Any]]]] = ()
    actions_detail: ClassVar[Sequence[str]] = ()
    empty_text: ClassVar[str] = ""
    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 200
    warn_unsaved_form = True
    empty_value_display = "–"

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - Python's signature
        """Give each operation its page and its permission."""
        super().__init_subclass__(**options)
        for operation in cls.operations:
            setattr(cls, operation.name, _action(operation))
            setattr(cls, f"has_{operation.name}_permission", _permission(operation))
        cls.actions_detail = [operation.name for operation in cls.operations]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - Django's signature
        """Refuse: what once was is archived, revoked or ended, never deleted."""
        return False

    def prepare_page(self, rows: Sequence[M]) -> None:
        """Fetch what the columns show for all rows at once; nothing unless a screen needs it."""

    def may_operate(self, request: HttpRequest, row: M) -> bool:  # noqa: ARG002 - the rule of screens
        """Tell whether the user may do to this row what his permissions let him do to others."""
        return True

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[PreparedChangeList]:  # noqa: ANN401, ARG002 - Django's signature
        """Return the list that prepares its page."""
        return PreparedChangeList

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """Return the operations that the user may do and the row's state lets make sense."""
        allowed: list[Any] = super().get_actions_detail(request, object_id)  # type: ignore[misc] # Unfold's
        row = self.get_object(request, unquote(str(object_id)))
        if row is None or not self.may_operate(request, row):
            return []
        return [each for each in allowed if each.method.operation().is_offered(row)]


def declared_permissions() -> set[str]:
    """Return the permissions that the operations of all screens ask for."""
    screens = (each for each in site._registry.values() if isinstance(each, EngineAdmin))  # noqa: SLF001 - Django's one list of them
    return {
        name
        for screen in screens
        for operation in screen.operations
        for name in (operation.permission, *operation.further_permissions)
    }


class ReadOnlyAdmin(EngineAdmin[M]):
    """A screen that shows, and changes nothing but by its operations."""

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - Django's signature
        """Refuse."""
        return False


class LedgerAdmin(ReadOnlyAdmin[M]):
    """A read-only list that may hold millions of rows with a `customer`, newest first.

    Without a customer it shows the newest 100,000 rows, found by the primary key; with one it
    reads by the customer's index. No column sorts, since sorting would read them all.
    """

    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("customer__external_key",)
    search_help_text = "The customer's external key or id, in full."

    def get_search_results(
        self,
        request: HttpRequest,
        queryset: QuerySet[M],
        search_term: str,
    ) -> tuple[QuerySet[M], bool]:
        """Return one customer's rows, or the newest of all."""
        if search_term.strip():
            named = Customer.objects.named(search_term.strip()).values_list("pk", flat=True)
            return queryset.filter(customer__in=list(named)), False
        if any(name.startswith("customer__") for name in request.GET):
            return queryset, False
        keys = self.model._default_manager.order_by("-pk").values_list("pk", flat=True)
        floor = list(keys[WINDOW_ROWS : WINDOW_ROWS + 1])
        return (queryset.filter(pk__gt=floor[0]) if floor else queryset), False


class ReadOnlyInline(UnfoldInline):
    """Rows of a parent, shown only."""

    extra = 0
    max_num = 0
    can_delete = False
    hide_title = True
    show_change_link = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - Django's signature
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 - Django's signature
        """Refuse."""
        return False


def link(*, to: Model, text: str) -> SafeString:
    """Return a way to the row's page."""
    opts = to._meta
    return links(
        [(reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=(to.pk,)), text)]
    )


def links(ways: Iterable[tuple[str, str]]) -> SafeString:
    """Return ways to addresses of this site, in a line."""
    way = '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>'
    return format_html_join(" · ", way, ways)


def table(shown: Table) -> SafeString:
    """Return the table as it stands in a read-only field."""
    return render_to_string("core/admin/table.html", {"table": shown})


def label(
    *, description: str, colors: Mapping[Any, str]
) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Show a column's text as a label, coloured by its value."""

    def decorate(column: Callable[..., str]) -> Callable[..., str]:
        column.label = colors  # type: ignore[attr-defined] # read by Unfold
        column.short_description = description  # type: ignore[attr-defined] # read by Django
        return column

    return decorate


def _action(operation: type[Operation[Any]]) -> Callable[..., HttpResponse]:
    def view(screen: EngineAdmin[Any], request: HttpRequest, object_id: str) -> HttpResponse:
        if not screen.has_view_permission(request):
            raise PermissionDenied
        row = screen.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if not screen.may_operate(request, row):
            raise PermissionDenied
        return pages.answer(admin=screen, operation=operation(), request=request, row=row)

    view.__name__ = operation.name
    variant = ActionVariant.DANGER if operation.is_dangerous else ActionVariant.DEFAULT
    action: Callable[..., HttpResponse] = decorators.action(
        permissions=[operation.name],
        description=operation.title,
        url_path=operation.name.replace("_", "-"),
        icon=operation.icon or None,
        variant=variant,
    )(view)
    action.operation = operation  # type: ignore[attr-defined] # what the screen and its test read
    return action


def _permission(operation: type[Operation[Any]]) -> Callable[..., bool]:
    def may(_screen: EngineAdmin[Any], request: HttpRequest, _: object = None) -> bool:
        return request.user.has_perm(operation.permission)

    return may
