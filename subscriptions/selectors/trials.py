"""Read who took a trial: by hashes that outlive him."""

import hashlib

from core.models import Customer, Member
from subscriptions.models import TrialMemory


def identity_hashes(*, customer: Customer) -> set[str]:
    """Return the hashes that stand for the customer: his external key and his members' e-mails.

    They outlive his deletion, and find him again under a new id.
    """
    emails = Member.objects.filter(customer=customer).values_list("user__email", flat=True)
    named = {customer.external_key, *(each.lower() for each in emails if each)}
    return {hashlib.sha256(f"trial of {name}".encode()).hexdigest() for name in named}


def list_tried_groups(*, customer: Customer) -> set[str]:
    """Return the keys of the plan groups in which the customer, under whatever id, took a trial."""
    taken = TrialMemory.objects.filter(identity_hash__in=identity_hashes(customer=customer))
    return set(taken.values_list("plan_group__key", flat=True))
