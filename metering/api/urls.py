"""Route the catalog and subscriptions."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
