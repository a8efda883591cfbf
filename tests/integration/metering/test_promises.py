"""What a hold of a later period needs of a grant is not used before it, nor promised twice."""

import contextlib
import os
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from core import db
from metering import errors, selectors
from metering.models import Balance, Grant, Hold
from metering.services import auditing, checking, explaining, granting, owned_holds
from metering.services.consumption import Request, Wanted, consume
from metering.services.drawing import For
from metering.services.explaining import Question
from metering.services.holds import fresh_key
from metering.services.owned_holds import End
from subscriptions import selectors as catalog
from tests import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
EXAMPLES = int(os.environ.get("PROMISE_EXAMPLES", "5"))
MONTHS = [datetime(2026, month, 10, tzinfo=UTC) for month in range(4, 8)]
APRIL, MAY, JUNE, _ = MONTHS


def give(customer, units, *, at=NOW, **terms):
    order = granting.Order(feature_key="visits", units=units, **terms)
    granting.create(
        customer_id=customer.pk,
        order=order,
        actor=factories.ACTOR,
        keyed=fresh_key(),
        render=lambda grant: {"id": str(grant.pk)},
        clock=factories.standing(at),
    )


def use(customer, units, *, at=NOW) -> bool:
    request = Request(
        customer_id=customer.pk,
        wanted=[Wanted(feature_key="visits", units=units)],
        keyed=fresh_key(),
        used_by=For(),
    )
    try:
        consume(request, clock=factories.standing(at))
    except errors.UsageLimitReached:
        return False
    return True


def exchange(customer, *, at=NOW, ends=(), units=0, usage_at=None):
    """Hold units for an instant, in exchange for other holds; None where it is refused."""
    before = figures()
    try:
        with db.transaction():
            locked = owned_holds.lock_customer_step(customer_id=customer.pk)
            done = owned_holds.exchange_step(
                customer=locked,
                owner="booking 1",
                ends=[End(hold_id=each) for each in ends],
                wanted=[Wanted(feature_key="visits", units=units)] if units else [],
                usage_at=usage_at,
                clock=factories.standing(at),
            )
    except errors.UsageLimitReached:
        assert figures() == before
        return None
    return done.hold_id or True


def capture(customer, hold, *, units, at):
    feature = catalog.get_feature(key="visits")
    with db.transaction():
        locked = owned_holds.lock_customer_step(customer_id=customer.pk)
        owned_holds.exchange_step(
            customer=locked,
            owner="booking 1",
            ends=[End(hold_id=hold, captured_units={feature.id: units})],
            clock=factories.standing(at),
        )


def figures():
    return [list(model.objects.order_by("pk").values()) for model in (Balance, Hold, Grant)]


def remaining(customer, *, at=NOW) -> int:
    overview = selectors.get_overview(customer=customer, clock=factories.standing(at))
    feature = catalog.get_feature(key="visits")
    return selectors.standing_of(overview, feature=feature).remaining_units


@pytest.fixture
def member():
    """Return a customer whose plan has no visits: all of them come from grants."""
    factories.make_plan("free", at=STARTED, limits={"api_calls": 10})
    factories.make_feature("visits", at=STARTED)
    return factories.make_customer(at=STARTED)


class TestPunchCard:
    def test_is_promised_once_over_all_periods(self, member):
        give(member, 10)
        assert exchange(member, units=6, usage_at=APRIL)
        assert exchange(member, units=5, usage_at=MAY) is None
        assert exchange(member, units=4, usage_at=MAY)
        assert exchange(member, units=1, usage_at=JUNE) is None
        assert (remaining(member), use(member, 1)) == (0, False)
        for at in (APRIL, MAY):
            assert remaining(member, at=at) == 0
        rows = Balance.objects.order_by("period_starts_at")
        assert [(row.held_units, row.overage_units) for row in rows] == [(0, 0), (6, 0), (4, 0)]
        assert auditing.audit()[0] == []

    def test_what_is_free_of_promises_can_be_used_to_the_last_unit(self, member):
        give(member, 10)
        exchange(member, units=6, usage_at=APRIL)
        assert remaining(member) == 4
        assert not use(member, 5)
        assert use(member, 4)
        assert not use(member, 1)
        assert (remaining(member), remaining(member, at=APRIL)) == (0, 0)

    def test_what_is_used_is_not_promised(self, member):
        give(member, 10)
        assert use(member, 7)
        assert exchange(member, units=4, usage_at=MAY) is None
        assert exchange(member, units=3, usage_at=MAY)

    def test_a_promise_that_ends_frees_its_units_at_once(self, member):
        give(member, 10)
        hold = exchange(member, units=10, usage_at=APRIL)
        assert not use(member, 1)
        exchange(member, ends=[hold])
        assert remaining(member) == 10
        assert use(member, 10)

    def test_a_hold_moves_from_this_period_to_a_later_one_and_back(self, member):
        give(member, 10)
        hold = exchange(member, units=10, usage_at=NOW)
        later = exchange(member, ends=[hold], units=10, usage_at=MAY)
        assert later
        assert not use(member, 1)
        back = exchange(member, ends=[later], units=9, usage_at=NOW)
        assert back
        assert use(member, 1)
        assert not use(member, 1)

    def test_a_promise_is_kept_through_its_period(self, member):
        give(member, 10)
        hold = exchange(member, units=6, usage_at=APRIL)
        assert not use(member, 5, at=APRIL)
        assert use(member, 4, at=APRIL)
        capture(member, hold, units=6, at=APRIL)
        row = Balance.objects.get(is_current=True)
        assert (row.used_units, row.held_units, row.overage_units) == (10, 0, 0)
        assert Grant.objects.get().remaining_units == 0

    @pytest.mark.parametrize("captured", [6, 2])
    def test_what_is_captured_before_its_period_is_used_up_there(self, member, captured):
        give(member, 10)
        hold = exchange(member, units=6, usage_at=APRIL)
        capture(member, hold, units=captured, at=NOW + timedelta(days=1))
        assert remaining(member, at=NOW + timedelta(days=2)) == 10 - captured
        assert not use(member, 11 - captured, at=NOW + timedelta(days=2))
        assert use(member, 1, at=APRIL)
        assert remaining(member, at=APRIL) == 9 - captured
        assert Grant.objects.get().remaining_units == 9 - captured
        assert not use(member, 10 - captured, at=APRIL)
        assert use(member, 9 - captured, at=APRIL)

    def test_a_new_card_serves_what_was_promised_first(self, member):
        give(member, 10)
        exchange(member, units=10, usage_at=APRIL)
        give(member, 3)
        assert (remaining(member), use(member, 4), use(member, 3)) == (3, False, True)


class TestTerms:
    def test_a_card_that_ends_before_serves_nothing_later(self, member):
        give(member, 5, expires_at=datetime(2026, 4, 1, tzinfo=UTC))
        give(member, 5)
        assert exchange(member, units=6, usage_at=APRIL) is None
        assert exchange(member, units=5, usage_at=APRIL)
        assert remaining(member) == 5
        assert use(member, 5)
        assert not use(member, 1)

    def test_the_order_of_burning_may_leave_less_than_the_sum(self, member):
        give(member, 5, priority=10)
        give(member, 5, priority=20, expires_at=datetime(2026, 4, 1, tzinfo=UTC))
        assert exchange(member, units=3, usage_at=APRIL)
        assert remaining(member) == 2
        assert not use(member, 3)
        assert use(member, 2)
        assert exchange(member, units=3, usage_at=NOW) is None

    def test_a_card_that_begins_later_serves_the_later_period(self, member):
        give(member, 5)
        give(member, 5, effective_at=datetime(2026, 4, 1, tzinfo=UTC))
        assert exchange(member, units=10, usage_at=APRIL)
        assert not use(member, 1)
        assert exchange(member, units=1, usage_at=MAY) is None

    def test_a_card_that_recurs_serves_each_recurrence(self, member):
        give(member, 5, effective_at=STARTED, recurrence_interval="month")
        for month in MONTHS:
            assert exchange(member, units=5, usage_at=month)
            assert exchange(member, units=1, usage_at=month) is None
        assert remaining(member) == 5
        assert use(member, 5)

    def test_each_period_gives_its_own_allowance_first(self):
        factories.make_plan("free", at=STARTED, limits={"visits": 4})
        customer = factories.make_customer(at=STARTED)
        give(customer, 10)
        assert exchange(customer, units=8, usage_at=APRIL)
        assert exchange(customer, units=10, usage_at=MAY)
        assert exchange(customer, units=5, usage_at=JUNE) is None
        assert exchange(customer, units=4, usage_at=JUNE)
        assert remaining(customer) == 4
        assert use(customer, 4)
        assert not use(customer, 1)


class TestTold:
    def test_a_check_and_an_explanation_say_what_consuming_decides(self, member):
        give(member, 10)
        exchange(member, units=6, usage_at=APRIL)
        clock = factories.standing(NOW + timedelta(seconds=1))
        for units, code in ((4, ""), (5, "usage_limit_reached")):
            wanted = [Wanted(feature_key="visits", units=units)]
            assert checking.check(customer=member, wanted=wanted, clock=clock)[0].code == code
            feature = catalog.get_feature(key="visits")
            for at in (None, NOW):
                question = Question(customer=member, feature=feature, units=units, at=at)
                assert explaining.explain(question, clock=clock).code == code, at

    def test_an_early_capture_is_explained_later_as_it_was_then(self, member):
        give(member, 10)
        hold = exchange(member, units=6, usage_at=APRIL)
        first, captured_at = NOW + timedelta(hours=1), NOW + timedelta(days=1)
        capture(member, hold, units=2, at=captured_at)
        last = captured_at + timedelta(hours=1)
        assert use(member, 1, at=APRIL)
        feature = catalog.get_feature(key="visits")
        for at, left in ((first, 4), (last, 8), (APRIL + timedelta(hours=1), 7)):
            for units, code in ((left, ""), (left + 1, "usage_limit_reached")):
                question = Question(customer=member, feature=feature, units=units, at=at)
                told = explaining.explain(question, clock=factories.standing(JUNE))
                assert told.code == code, (at, units)

    def test_an_early_capture_that_is_undone_promises_nothing(self, member):
        give(member, 10)
        hold = exchange(member, units=6, usage_at=APRIL)
        capture(member, hold, units=6, at=NOW + timedelta(days=1))
        with db.transaction():
            locked = owned_holds.lock_customer_step(customer_id=member.pk)
            undone_at = factories.standing(NOW + timedelta(days=2))
            owned_holds.return_step(customer=locked, owner="booking 1", clock=undone_at)
        assert remaining(member, at=NOW + timedelta(days=3)) == 10
        assert use(member, 10, at=APRIL)
        assert auditing.audit()[0] == []


@contextlib.contextmanager
def rolled_back():
    """Let an example's operations own their transactions, and leave nothing behind."""
    example = transaction.atomic()
    example._from_testcase = True
    with example:
        catalog.forget_all()
        yield
        transaction.set_rollback(True)


class Book:
    """Keep the plainest books of one card beside an allowance: an oracle in eight lines."""

    def __init__(self, *, allowance: int, card: int) -> None:
        self.allowance, self.card, self.used = allowance, card, 0
        self.held: dict[int, int] = {}

    def needed(self) -> int:
        return sum(max(units - self.allowance, 0) for units in self.held.values())

    def has_room(self, *, month: int = -1, units: int) -> bool:
        after = {**self.held, month: self.held.get(month, 0) + units}
        after[-1] = after.get(-1, 0) + self.used
        return sum(max(each - self.allowance, 0) for each in after.values()) <= self.card


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["use", "hold", "end"]),
        st.integers(min_value=0, max_value=3),
        st.integers(min_value=1, max_value=9),
    ),
    max_size=14,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(allowance=st.integers(0, 5), card=st.integers(1, 15), steps=STEPS)
def test_room_is_what_the_plainest_books_say(allowance, card, steps):
    with rolled_back():
        factories.make_plan("free", at=STARTED, limits={"visits": allowance})
        customer = factories.make_customer(at=STARTED)
        give(customer, card)
        book, made = Book(allowance=allowance, card=card), []
        for number, (what, month, units) in enumerate(steps):
            at = NOW + timedelta(seconds=number)
            if what == "use":
                room = book.has_room(units=units)
                assert use(customer, units, at=at) == room, (number, steps)
                book.used += units if room else 0
            elif what == "hold":
                room = book.has_room(month=month, units=units)
                hold = exchange(customer, at=at, units=units, usage_at=MONTHS[month])
                assert bool(hold) == room, (number, steps)
                if hold:
                    made.append((hold, month, units))
                    book.held[month] = book.held.get(month, 0) + units
            elif made:
                hold, kept_for, kept = made.pop(month % len(made))
                exchange(customer, at=at, ends=[hold])
                book.held[kept_for] -= kept
        for month in MONTHS:
            remaining(customer, at=month)
            use(customer, 1, at=month)
            assert [row.overage_units for row in Balance.objects.all() if row.overage_units] == []
        assert auditing.audit()[0] == []
