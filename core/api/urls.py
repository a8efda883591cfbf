"""Route the account operations."""

from django.urls import path

from core.api import account_views as views
from core.api import audit_views as audit
from core.api import customer_views
from core.api import token_views as tokens

urlpatterns = [
    path("token/", tokens.TokenView.as_view(), name="token"),
    path("token/refresh/", tokens.RefreshView.as_view(), name="token-refresh"),
    path("token/verify/", tokens.VerifyView.as_view(), name="token-verify"),
    path("token/revoke/", tokens.RevokeView.as_view(), name="token-revoke"),
    path("token/revoke-all/", tokens.RevokeAllView.as_view(), name="token-revoke-all"),
    path("audit/", audit.AuditView.as_view(), name="audit"),
    path("users/", views.UsersView.as_view(), name="users"),
    path("users/me/", views.OwnUserView.as_view(), name="own-user"),
    path("users/me/password/", views.OwnPasswordView.as_view(), name="own-password"),
    path("customers/", customer_views.CustomersView.as_view(), name="customers"),
    path("customers/<str:customer>/", customer_views.CustomerView.as_view(), name="customer"),
    path("users/verify-email/", views.VerifyAddressView.as_view(), name="verify-email"),
    path("users/password/reset/", views.ResetView.as_view(), name="password-reset"),
    path(
        "users/password/reset/confirm/",
        views.ResetConfirmView.as_view(),
        name="password-reset-confirm",
    ),
]
