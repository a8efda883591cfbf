"""Route the account operations."""

from django.urls import path

from core.api import account_views as views
from core.api import customer_views

urlpatterns = [
    path("token/", views.TokenView.as_view(), name="token"),
    path("token/refresh/", views.RefreshView.as_view(), name="token-refresh"),
    path("token/verify/", views.VerifyView.as_view(), name="token-verify"),
    path("token/revoke/", views.RevokeView.as_view(), name="token-revoke"),
    path("users/", views.UsersView.as_view(), name="users"),
    path("users/me/", views.OwnUserView.as_view(), name="own-user"),
    path("users/me/password/", views.OwnPasswordView.as_view(), name="own-password"),
    path("customers/", customer_views.CustomersView.as_view(), name="customers"),
    path("customers/<str:customer>/", customer_views.CustomerView.as_view(), name="customer"),
]
