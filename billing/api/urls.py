"""Route subscribing, changing, invoices, balances and coupons."""

from django.urls import path

from billing.api import operating, subscriptions, views

urlpatterns = [
    path("subscriptions/", subscriptions.SubscriptionsView.as_view(), name="subscriptions"),
    path("subscriptions/me/change/", subscriptions.ChangeView.as_view(), name="change"),
    path(
        "subscriptions/me/change/preview/",
        subscriptions.PreviewView.as_view(),
        name="change-preview",
    ),
    path("subscriptions/me/add-ons/", subscriptions.AddOnsView.as_view(), name="add-ons"),
    path("invoices/", views.InvoicesView.as_view(), name="invoices"),
    path("invoices/<uuid:invoice_id>/", views.InvoiceView.as_view(), name="invoice"),
    path("invoices/<uuid:invoice_id>/pdf", views.InvoicePdfView.as_view(), name="invoice-pdf"),
    path(
        "invoices/<uuid:invoice_id>/mark-paid/",
        operating.MarkPaidView.as_view(),
        name="invoice-mark-paid",
    ),
    path(
        "invoices/<uuid:invoice_id>/mark-failed/",
        operating.MarkFailedView.as_view(),
        name="invoice-mark-failed",
    ),
    path("invoices/<uuid:invoice_id>/void/", operating.VoidView.as_view(), name="invoice-void"),
    path(
        "invoices/<uuid:invoice_id>/mark-uncollectible/",
        operating.UncollectibleView.as_view(),
        name="invoice-uncollectible",
    ),
    path(
        "invoices/<uuid:invoice_id>/credit-notes/",
        operating.CreditNotesView.as_view(),
        name="credit-notes",
    ),
    path("balance/", views.BalanceView.as_view(), name="balance"),
    path("balance/entries/", views.BalanceEntriesView.as_view(), name="balance-entries"),
    path("coupons/", operating.CouponsView.as_view(), name="coupons"),
    path(
        "coupons/<str:key>/archive/", operating.ArchiveCouponView.as_view(), name="coupon-archive"
    ),
]
