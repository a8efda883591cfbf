"""Route the catalog and subscriptions; `subscriptions/` itself shows usage and is metering's."""

from django.urls import path

from subscriptions.api import clock_views, operating, views

urlpatterns = [
    path("plans/", views.PlansView.as_view(), name="plans"),
    path("plans/<str:key>/", views.PlanView.as_view(), name="plan"),
    path("features/", views.FeaturesView.as_view(), name="features"),
    path(
        "customers/<str:customer>/test-clock/advance/",
        clock_views.AdvanceClockView.as_view(),
        name="advance-test-clock",
    ),
    path("subscriptions/me/timeline/", views.TimelineView.as_view(), name="timeline"),
    path(
        "subscriptions/<uuid:subscription_id>/mark-paid/",
        operating.MarkPaidView.as_view(),
        name="mark-paid",
    ),
    path(
        "subscriptions/<uuid:subscription_id>/pause-collection/",
        operating.PauseCollectionView.as_view(),
        name="pause-collection",
    ),
    path(
        "subscriptions/<uuid:subscription_id>/resume-collection/",
        operating.ResumeCollectionView.as_view(),
        name="resume-collection",
    ),
    path(
        "subscriptions/<uuid:subscription_id>/extend-trial/",
        operating.ExtendTrialView.as_view(),
        name="extend-trial",
    ),
]
