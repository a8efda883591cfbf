"""Balances are written whole, in one statement, whatever stands on them."""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from metering.models import Balance
from metering.services import counting
from tests.factories import consume, make_customer, make_plan, subscribe

pytestmark = pytest.mark.django_db
BIGGEST = 2**63 - 1


@pytest.fixture
def rows(at: datetime) -> list[Balance]:
    """Two balances of one customer, with 3 and 4 units used."""
    make_plan("pro", at=at, limits={"api_calls": 100, "mails": 10})
    customer = make_customer(at=at)
    subscribe(customer, "pro", at=at)
    consume(customer, 3, at=at)
    consume(customer, 4, at=at, feature="mails")
    return list(Balance.objects.order_by("id"))


def stored(rows):
    return [Balance.objects.filter(pk=row.pk).values().get() for row in rows]


def write(rows, *, at, moves=None, is_derived=False, due=()):
    counting.write_step(rows=rows, moves=moves or {}, is_derived=is_derived, due=due, at=at)


class TestWriteStep:
    def test_moves_counters_by_what_is_stored(self, rows, at, django_assert_num_queries):
        first, second = rows
        before = stored(rows)
        Balance.objects.filter(pk=first.pk).update(used_units=5)
        with django_assert_num_queries(1):
            moves = {first.pk: Counter(used_units=-2, held_units=7), second.pk: Counter()}
            write(rows, moves=moves, at=at + timedelta(seconds=1))
        later = {"decided_at": at + timedelta(seconds=1)}
        assert stored(rows) == [
            before[0] | {"used_units": 3, "held_units": 7} | later,
            before[1] | later,
        ]

    def test_leaves_alone_what_is_derived_unless_told(self, rows, at):
        before = stored(rows)
        for row in rows:
            row.limit_units, row.denial_code = 1, "payment_required"
        write(rows, at=at - timedelta(days=1))
        assert stored(rows) == before

    @pytest.mark.parametrize("is_due", [False, True])
    def test_writes_each_derived_column_as_it_stands(self, rows, at, is_due):
        first, second = rows
        text = 'a "b" \\ {c}, NULL\n%s'
        for row, value in ((first, None), (second, BIGGEST)):
            for name in ("limit_units", "overage_cap_units", "ceiling_units", "alert_units"):
                setattr(row, name, value)
            row.allowance_units = row.allowance_left_units = value
            row.period_ends_at = row.valid_until = value and at + timedelta(microseconds=1)
            row.mode, row.denial_code = "soft", text
            row.withheld_units, row.priority, row.epoch = -5, 32767, 7
            row.alerts = [{"key": text, "is_told": value is None}]
        first.is_plain, first.is_current, second.is_plain = False, False, True
        expected = [
            each | {name: getattr(row, name) for name in counting.DERIVED}
            for each, row in zip(stored(rows), rows, strict=True)
        ]
        write(rows, is_derived=True, due={first.pk} if is_due else (), at=at)
        assert stored(rows) == expected

    def test_never_takes_the_last_decision_back(self, rows, at):
        before = stored(rows)
        write(rows, at=at - timedelta(days=1))
        assert stored(rows) == before
