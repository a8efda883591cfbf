"""Say what each role of staff may do; `manage.py roles` makes the groups."""

VIEW_CUSTOMERS = (
    "core.view_customer",
    "core.view_member",
    "subscriptions.view_*",
    "metering.view_*",
    "resources.view_*",
    "billing.view_*",
)
FRONT_DESK = (
    "resources.attend_booking",
    "resources.book_resource",
    "resources.cancel_booking",
    "resources.close_venue",
    "resources.move_booking",
)
CATALOG = tuple(
    f"subscriptions.{verb}_{model}"
    for verbs, models in (
        (("add", "change"), ("feature", "plan", "plangroup", "planversion")),
        (("add", "change", "delete"), ("price", "meteredprice", "entitlement")),
    )
    for verb in verbs
    for model in models
)
PLACES = tuple(
    f"resources.{verb}_{model}"
    for verbs, models in (
        (("add", "change"), ("venue", "resource", "resourcetype", "bookingpolicy")),
        (("add", "change", "delete"), ("openingrule", "peakwindow")),
    )
    for verb in verbs
    for model in models
)
ROLES = {
    "read-only": VIEW_CUSTOMERS,
    "support": (
        *VIEW_CUSTOMERS,
        "core.view_user",
        "core.change_customer",
        "subscriptions.add_subscription",
        "subscriptions.cancel_subscription",
        "subscriptions.pause_subscription",
        "subscriptions.change_subscription",
        "subscriptions.add_override",
        "subscriptions.end_override",
        "metering.add_grant",
        "metering.void_grant",
        "metering.release_hold",
        "metering.reverse_usageentry",
        *FRONT_DESK,
    ),
    "finance": (
        *VIEW_CUSTOMERS,
        "core.view_outboxevent",
        "subscriptions.pay_subscription",
        "billing.pay_invoice",
        "billing.fail_invoice",
        "billing.void_invoice",
        "billing.write_off_invoice",
        "billing.credit_invoice",
        "billing.adjust_balanceentry",
        "billing.archive_coupon",
        "billing.change_issuer",
    ),
    "catalog manager": (
        *VIEW_CUSTOMERS,
        *CATALOG,
        "subscriptions.archive_*",
        "subscriptions.publish_planversion",
        "subscriptions.migrate_planversion",
        "metering.add_meter",
        "metering.archive_meter",
        *PLACES,
    ),
    "owner": ("core.*", "subscriptions.*", "metering.*", "resources.*", "billing.*"),
}
