"""The audit names every MRR movement that does not go on, and every end that is not true."""

from datetime import UTC, datetime

import pytest
from uuid_utils.compat import uuid7

from billing.models import MrrMovement
from metering.services import auditing
from subscriptions.models import Subscription
from tests import factories

pytestmark = pytest.mark.django_db
APRIL, HALF_WAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 16, tzinfo=UTC)
IDENTITY = "MRR start + movements = end"


@pytest.fixture
def row(customer, till) -> Subscription:
    row = till.subscribe("pro", APRIL)
    return till.change(row, HALF_WAY, plan_key="team")


def found() -> list[tuple[str, str, int, int]]:
    return [
        (each.invariant, each.place, each.stored, each.recounted) for each in auditing.audit()[0]
    ]


class TestAudit:
    def test_is_clean_after_a_change_and_for_who_has_none(self, row):
        factories.make_customer(at=APRIL)
        assert found() == []

    def test_names_a_movement_that_does_not_go_on(self, row):
        last = MrrMovement.objects.get(sequence=2)
        last.pk, last.sequence, last.amount_minor, last.mrr_minor = uuid7(), 3, 100, 999
        last.save(force_insert=True)
        assert found() == [
            (IDENTITY, f"{row.pk}, movement 3", 999, 2100),
            (IDENTITY, str(row.pk), 2100, 2000),
        ]

    def test_names_an_end_that_is_not_true(self, row):
        Subscription.objects.update(status="paused", paused_at=HALF_WAY)
        assert found() == [(IDENTITY, str(row.pk), 2000, 0)]
