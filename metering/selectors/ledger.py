"""Read the usage ledger."""

from django.db.models import QuerySet

from core.models import Customer
from metering.models import UsageEntry
from subscriptions import selectors as subscription_selectors


def list_entries(*, customer: Customer, feature_key: str | None) -> QuerySet[UsageEntry]:
    """Return the customer's ledger, of one feature where its key is given.

    :raises FeatureUnknown: for a key that names no feature.
    """
    entries = UsageEntry.objects.filter(customer=customer).select_related("feature")
    if not feature_key:
        return entries
    feature = subscription_selectors.get_feature(key=feature_key)
    return entries.filter(feature_id=feature.id)
