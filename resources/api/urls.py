"""Route resources and bookings."""

from django.urls import path

from resources.api import views

urlpatterns = [
    path("resources/", views.ResourcesView.as_view(), name="resources"),
    path("resources/availability/", views.AvailabilityView.as_view(), name="availability"),
]
