"""Route resources and bookings."""

from django.urls import path

from resources.api import booking_views, club_views, views

urlpatterns = [
    path("resources/", views.ResourcesView.as_view(), name="resources"),
    path("resources/availability/", views.AvailabilityView.as_view(), name="availability"),
    path("resources/closures/", club_views.ClosuresView.as_view(), name="closures"),
    path("bookings/", booking_views.BookingsView.as_view(), name="bookings"),
    path("bookings/series/", booking_views.SeriesView.as_view(), name="booking-series"),
    path("bookings/<uuid:booking_id>/", booking_views.BookingView.as_view(), name="booking"),
    path(
        "bookings/<uuid:booking_id>.ics",
        booking_views.CalendarView.as_view(),
        name="booking-calendar",
    ),
    path(
        "bookings/<uuid:booking_id>/confirm/",
        booking_views.ConfirmView.as_view(),
        name="booking-confirm",
    ),
    path(
        "bookings/<uuid:booking_id>/cancel/",
        booking_views.CancelView.as_view(),
        name="booking-cancel",
    ),
    path(
        "bookings/<uuid:booking_id>/cancel/preview/",
        booking_views.CancelPreviewView.as_view(),
        name="booking-cancel-preview",
    ),
    path("bookings/<uuid:booking_id>/move/", booking_views.MoveView.as_view(), name="booking-move"),
    path(
        "bookings/<uuid:booking_id>/check-in/",
        booking_views.CheckInView.as_view(),
        name="booking-check-in",
    ),
    path("waitlist/", club_views.WaitlistView.as_view(), name="waitlist"),
    path(
        "waitlist/<uuid:entry_id>/leave/",
        club_views.LeaveWaitlistView.as_view(),
        name="waitlist-leave",
    ),
]
