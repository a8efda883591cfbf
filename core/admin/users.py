"""Show who logs in, and give staff their roles; a new password ends every token."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminPasswordWidget

from core.admin import base, pages
from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from core.models import Member, User
from core.services import accounts

if TYPE_CHECKING:
    _UserScreen = DjangoUserAdmin[User]
else:
    _UserScreen = DjangoUserAdmin

admin.site.unregister(Group)


class PasswordForm(ReasonForm):
    """Ask for a password that the validators accept."""

    password = forms.CharField(
        max_length=128,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        validators=[validate_password],
    )
    field_order = ("password", "reason")


class SetPassword(Operation[User]):
    """Give a user a new password."""

    name = "set_password"
    title = "Set password"
    permission = "core.change_user"
    icon = "password"
    form = PasswordForm

    def consequence(self, asked: Asked[User]) -> Consequence:
        """Tell what ends."""
        return Consequence(
            sentences=(
                f"{asked.row.username} logs in with the new password from now on.",
                "All his tokens are revoked: every device has to log in again.",
            )
        )

    def run(self, asked: Asked[User]) -> Done:
        """Set it."""
        accounts.change_password(
            user_id=asked.row.pk,
            password=asked.values["password"],
            actor=asked.actor,
            clock=asked.clock,
        )
        return Done(message=f"The password of {asked.row.username} is set; his tokens are revoked.")


class MembershipInline(base.ReadOnlyInline):
    """The customers for whom a user may act."""

    model = Member
    fields = ("customer", "role")
    verbose_name_plural = "Member of"

    def get_queryset(self, request: HttpRequest) -> Any:  # noqa: ANN401 - Django's signature
        """Return the places with their customers."""
        return super().get_queryset(request).select_related("customer")


@admin.register(User)
class UserAdmin(base.EngineAdmin[User], _UserScreen):
    """Users; only a superuser touches a superuser, or makes one."""

    operations: ClassVar = (SetPassword,)
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = (MembershipInline,)
    list_display = ("username", "email", "is_active", "is_staff", "roles", "last_login")
    list_filter = ("is_active", "is_staff", "groups")
    search_fields = ("username", "email")
    search_help_text = "A part of the username or the e-mail address."
    ordering = ("-id",)
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "email", "first_name", "last_name")}),
        ("Access", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "email", "password1", "password2")}),
    )
    readonly_fields = ("last_login", "date_joined")

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:  # noqa: ANN401, ARG002 - Django's signature
        """Show the customers of whoever is there already."""
        return self.inlines if obj else ()

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:  # noqa: ANN401, ARG002 - Django's signature
        """Keep the superuser's mark from everybody else."""
        own = ("last_login", "date_joined")
        return own if request.user.is_superuser else (*own, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Refuse a superuser's row to everybody else."""
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return super().has_change_permission(request, obj)

    def may_operate(self, request: HttpRequest, row: User) -> bool:
        """Refuse a superuser's row to everybody else."""
        return self.has_change_permission(request, row)

    def get_queryset(self, request: HttpRequest) -> Any:  # noqa: ANN401 - Django's signature
        """Return the users with their roles."""
        return super().get_queryset(request).prefetch_related("groups")

    def user_change_password(
        self,
        request: HttpRequest,
        id: str,  # noqa: A002 - Django's signature
        form_url: str = "",  # noqa: ARG002 - Django's signature
    ) -> HttpResponse:
        """Set a password by the service, which revokes the tokens too."""
        user = self.get_object(request, id)
        if user is None:
            raise Http404
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        return pages.answer(admin=self, operation=SetPassword(), request=request, row=user)

    @admin.display(description="Roles")
    def roles(self, user: User) -> str:
        """Return the user's roles in a line."""
        return ", ".join(sorted(group.name for group in user.groups.all()))
