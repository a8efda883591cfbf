"""Read the usage ledger."""

from django.db.models import QuerySet

from core.models import Customer
from metering.models import UsageEntry


def list_entries(*, customer: Customer, feature_key: str | None) -> QuerySet[UsageEntry]:
    """Return the customer's ledger, of one feature where its key is given."""
    entries = UsageEntry.objects.filter(customer=customer).select_related("feature")
    return entries.filter(feature__key=feature_key) if feature_key else entries
