"""The audit names each counter that does not agree with what it counts, and repairs nothing."""

import pytest

from metering.models import Balance
from metering.services import auditing
from tests.factories import consume, make_customer, make_plan

pytestmark = pytest.mark.django_db


@pytest.fixture
def balance(at) -> Balance:
    make_plan("free", at=at, limits={"api_calls": 100})
    consume(make_customer(at=at), 3, at=at)
    return Balance.objects.get()


class TestAudit:
    def test_finds_nothing_where_all_agrees(self, balance):
        assert auditing.audit() == ([], balance.customer_id)

    @pytest.mark.parametrize(
        ("columns", "invariant", "stored", "recounted"),
        [
            ({"used_units": 4}, "used equals the ledger", 4, 3),
            ({"held_units": 2}, "held equals the holds", 2, 0),
            ({"ceiling_units": None}, "a hard limit has a ceiling", 0, 100),
        ],
    )
    def test_names_a_counter_that_differs(self, balance, columns, invariant, stored, recounted):
        Balance.objects.update(**columns)
        before = list(Balance.objects.values())
        ((found,), _) = auditing.audit()
        assert (found.invariant, found.stored, found.recounted) == (invariant, stored, recounted)
        assert (found.customer_id, found.place[:9]) == (str(balance.customer_id), "api_calls")
        assert list(Balance.objects.values()) == before

    @pytest.mark.parametrize("columns", [{"mode": "soft"}, {"limit_units": None}])
    def test_asks_for_no_ceiling_where_nothing_is_refused(self, balance, columns):
        Balance.objects.update(ceiling_units=None, **columns)
        assert auditing.audit()[0] == []
