"""Units held for a block of code, and units counted in a caller's own transaction."""

import os
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections, transaction

from core import clock, db
from core import errors as core_errors
from core.services.idempotency import KeyedRequest
from metering import errors
from metering.models import Balance, Grant, Hold, UsageEntry
from metering.services import (
    auditing,
    consumption,
    endings,
    granting,
    holds,
    opening,
    owned_holds,
)
from metering.services.drawing import Wanted
from subscriptions.models import FeatureSwitch
from subscriptions.switches import Switch, remember
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
KEY = KeyedRequest(key="once", fingerprint="f")


@pytest.fixture
def customer():
    factories.make_plan("free", at=AT, limits={"api_calls": 10})
    customer = factories.make_customer(at=AT)
    factories.consume(customer, 4, at=AT)
    return customer


def held(customer, *, units=5, feature="api_calls", keyed=None, at=AT, ttl_seconds=300):
    return holds.held(
        customer_id=customer.pk,
        feature_key=feature,
        units=units,
        ttl_seconds=ttl_seconds,
        keyed=keyed,
        clock=factories.standing(at),
    )


def stored(customer):
    """Return used and held units and how many lines the ledger has."""
    row = Balance.objects.get(customer=customer)
    return row.used_units, row.held_units, UsageEntry.objects.count()


@contextmanager
def rolled_back():
    """Run the block in a transaction, and let a failure after it take all back."""
    with suppress(Failed), transaction.atomic():
        yield
        raise Failed


def everything():
    return [list(model.objects.order_by("id").values()) for model in (Balance, UsageEntry, Hold)]


def states():
    return list(Hold.objects.order_by("id").values_list("state", flat=True))


class Failed(Exception):
    """What a block raises."""


class TestHeld:
    def test_captures_all_that_a_block_leaves(self, customer, django_assert_num_queries):
        # Two transactions, each with its begin and its end.
        with django_assert_num_queries(17), held(customer):
            pass
        assert stored(customer)[:2] == (9, 0)
        assert states() == ["captured"]

    def test_captures_what_was_needed_once(self, customer):
        with held(customer) as hold:
            hold.capture(units=2)
            assert stored(customer)[:2] == (6, 0)
        assert stored(customer)[:2] == (6, 0)

    def test_captures_more_where_it_may_and_fits(self, customer):
        with held(customer) as hold:
            before = everything()
            with pytest.raises(errors.ExceedsHold):
                hold.capture(units=6)
            assert everything() == before
            hold.capture(units=6, may_exceed=True)
        assert stored(customer)[:2] == (10, 0)

    def test_releases_where_it_is_told_to(self, customer):
        with held(customer) as hold:
            hold.release()
        assert stored(customer)[:2] == (4, 0)
        assert states() == ["released"]

    @pytest.mark.parametrize("error", [Failed, KeyboardInterrupt, SystemExit])
    def test_releases_where_the_block_raises(self, customer, error):
        with pytest.raises(error), held(customer):
            raise error
        assert stored(customer)[:2] == (4, 0)
        assert states() == ["released"]

    def test_keeps_what_was_captured_before_the_block_raised(self, customer):
        with suppress(Failed), held(customer) as hold:
            hold.capture(units=1)
            raise Failed
        assert stored(customer)[:2] == (5, 0)

    def test_refuses_more_than_is_left_before_the_block_runs(self, customer):
        with pytest.raises(errors.UsageLimitReached) as refusal, held(customer, units=7):
            pytest.fail("the block ran")
        assert refusal.value.facts()["remaining"] == 6
        assert stored(customer)[:2] == (4, 0)
        assert states() == []

    def test_refuses_a_key_that_names_no_feature(self, customer):
        before = everything()
        with (
            pytest.raises(core_errors.DomainError, match="tokenz"),
            held(customer, feature="tokenz"),
        ):
            pytest.fail("the block ran")
        assert everything() == before

    def test_tells_a_block_that_outlives_its_hold(self, customer):
        with pytest.raises(errors.HoldExpired), held(customer, ttl_seconds=1) as hold:
            hold.clock = factories.standing(AT + timedelta(seconds=1))
        assert stored(customer)[0] == 4
        factories.consume(customer, 6, at=AT + timedelta(seconds=1))
        assert stored(customer)[:2] == (10, 0)

    def test_goes_up_with_the_block_s_own_error_where_the_database_fails(
        self, customer, monkeypatch
    ):
        def fail(*_, **__):
            raise core_errors.Unavailable("gone")

        block = held(customer)
        block.__enter__()
        monkeypatch.setattr(endings, "release", fail)
        assert block.__exit__(Failed, Failed(), None) is False  # so that Failed goes up
        assert states() == ["live"]
        factories.consume(customer, 6, at=AT + timedelta(seconds=300))
        assert stored(customer)[:2] == (10, 0)


class TestHeldFromGrants:
    @pytest.fixture
    def grant(self, customer):
        granting.create(
            customer_id=customer.pk,
            order=granting.Order(feature_key="api_calls", units=8, priority=1),
            actor=factories.ACTOR,
            keyed=holds.fresh_key(),
            render=lambda row: {"id": str(row.pk)},
            clock=factories.standing(AT),
        )
        return Grant.objects.get()

    def test_gives_the_grant_back_what_was_not_needed(self, customer, grant):
        with held(customer) as hold:
            grant.refresh_from_db()
            assert grant.remaining_units == 3
            hold.capture(units=2)
        grant.refresh_from_db()
        assert (grant.remaining_units, stored(customer)[:2]) == (6, (6, 0))

    def test_gives_all_back_where_the_block_raises(self, customer, grant):
        with suppress(Failed), held(customer):
            raise Failed
        grant.refresh_from_db()
        assert (grant.remaining_units, stored(customer)[:2]) == (8, (4, 0))


class TestKey:
    def test_that_succeeded_is_not_counted_again(self, customer):
        for _ in range(2):
            with held(customer, keyed=KEY):
                pass
        assert stored(customer)[:2] == (9, 0)
        assert states() == ["captured"]

    def test_that_failed_is_a_new_attempt_each_time(self, customer):
        for _ in range(3):
            with pytest.raises(Failed), held(customer, keyed=KEY):
                raise Failed
        with held(customer, keyed=KEY):
            pass
        with held(customer, keyed=KEY):
            pass
        assert stored(customer)[:2] == (9, 0)
        assert states() == ["released"] * 3 + ["captured"]

    def test_of_a_block_that_died_is_joined_until_its_hold_expires(self, customer):
        abandoned = held(customer, keyed=KEY)
        abandoned.__enter__()
        with suppress(Failed), held(customer, keyed=KEY) as joined:
            assert joined.is_joined
            raise Failed
        assert stored(customer)[:2] == (4, 5)  # it is the other one's
        with held(customer, keyed=KEY, at=AT + timedelta(seconds=300)) as own:
            assert not own.is_joined
        assert stored(customer)[:2] == (9, 0)
        assert states() == ["expired", "captured"]
        abandoned.gen.close()  # nothing is left to release
        assert stored(customer)[:2] == (9, 0)

    def test_of_another_request_is_refused(self, customer):
        with held(customer, keyed=KEY):
            pass
        before = everything()
        with (
            pytest.raises(core_errors.IdempotencyKeyReused),
            held(customer, keyed=KeyedRequest(key="once", fingerprint="other")),
        ):
            pytest.fail("the block ran")
        assert everything() == before

    def test_replays_its_denial(self, customer):
        for _ in range(2):
            with (
                pytest.raises(errors.UsageLimitReached) as refusal,
                held(customer, units=7, keyed=KEY),
            ):
                pytest.fail("the block ran")
        assert refusal.value.replayed
        assert stored(customer) == (4, 0, 2)

    def test_whose_attempts_all_failed_wants_a_new_one(self, customer, monkeypatch):
        monkeypatch.setattr(holds, "ATTEMPTS_MAX", 2)
        for _ in range(2):
            with pytest.raises(Failed), held(customer, keyed=KEY):
                raise Failed
        before = everything()
        with pytest.raises(errors.HoldAlreadyReleased, match="new key"), held(customer, keyed=KEY):
            pytest.fail("the block ran")
        assert everything() == before


def count(customer, units, *, feature="api_calls", at=AT):
    """Count in the caller's transaction, as docs/enforcement.md shows it."""
    locked = opening.lock_customer_step(customer_id=customer.pk)
    wanted = [Wanted(feature_key=feature, units=units)]
    asked = consumption.StepRequest(wanted=wanted, metadata={"by": "test"})
    return consumption.consume_step(customer=locked, asked=asked, clock=factories.standing(at))


def hold(customer, units):
    locked = opening.lock_customer_step(customer_id=customer.pk)
    wanted = [Wanted(feature_key="api_calls", units=units)]
    return owned_holds.exchange_step(
        customer=locked, owner="booking 1", wanted=wanted, clock=factories.standing(AT)
    )


@pytest.mark.django_db(transaction=True)
class TestCallersTransaction:
    def test_counts_with_the_commit(self, customer):
        with transaction.atomic():
            counted = count(customer, 5)
        (entry,) = counted.entries
        assert (entry.kind, entry.key, entry.consumed_at) == ("consume", None, AT)
        assert (entry.used_units, entry.metadata) == (9, {"by": "test"})
        assert not counted.replayed
        assert stored(customer) == (9, 0, 2)

    def test_takes_a_consume_back_with_its_rollback(self, customer):
        before = everything()
        with rolled_back():
            count(customer, 5)
            assert stored(customer) == (9, 0, 2)
        assert everything() == before

    def test_takes_a_hold_back_with_its_rollback(self, customer):
        before = everything()
        with rolled_back():
            hold(customer, 5)
            assert stored(customer) == (4, 5, 2)
        assert everything() == before

    def test_takes_the_first_use_of_a_period_back(self, customer):
        before = everything()
        with rolled_back():
            count(customer, 5, at=AT + timedelta(days=40))
            assert Balance.objects.count() == 2
        assert everything() == before

    def test_refuses_one_unit_too_many_and_records_nothing(self, customer):
        before = everything()
        with pytest.raises(errors.UsageLimitReached) as refusal, transaction.atomic():
            count(customer, 7)
        assert refusal.value.facts()["remaining"] == 6
        assert everything() == before

    def test_stays_right_where_the_caller_catches_the_refusal_and_commits(self, customer):
        abandoned = held(customer, units=5)
        abandoned.__enter__()
        after = AT + timedelta(seconds=300)
        with transaction.atomic():
            with pytest.raises(errors.UsageLimitReached):
                count(customer, 7, at=after)
            customer.name = "tried"
            customer.save()
        assert stored(customer)[:2] == (4, 0)  # the dead hold is off both, hold and balance
        assert states() == ["expired"]
        assert UsageEntry.objects.filter(kind="denied").count() == 0
        found, _ = auditing.audit(after=None)
        assert found == []

    def test_refuses_a_plan_without_the_feature(self, customer):
        factories.make_feature("exports", at=AT)
        before = everything()
        with pytest.raises(errors.FeatureNotInPlan), transaction.atomic():
            count(customer, 1, feature="exports")
        assert everything() == before

    def test_counts_over_the_limit_where_an_operator_opened_the_feature(self, customer):
        feature_id = Balance.objects.get(customer=customer).feature_id
        until = AT + timedelta(hours=1)
        remember(
            {feature_id: Switch(state=FeatureSwitch.State.ALLOW, expires_at=until)},
            loaded_at=float("inf"),
        )
        with transaction.atomic():
            count(customer, 7)
        assert stored(customer)[:2] == (11, 0)

    def test_is_refused_outside_one(self, customer):
        before = everything()
        asked = consumption.StepRequest(wanted=[Wanted(feature_key="api_calls", units=1)])
        with pytest.raises(RuntimeError, match="caller's transaction"):
            consumption.consume_step(customer=customer, asked=asked, clock=factories.standing(AT))
        assert everything() == before

    def test_is_none_for_a_block_s_hold(self, customer):
        before = everything()
        with pytest.raises(RuntimeError), transaction.atomic(), held(customer):
            pytest.fail("the block ran")
        assert everything() == before

    def test_is_told_from_a_test_case_s(self):
        assert not db.is_in_transaction()
        with transaction.atomic():
            assert db.is_in_transaction()


def test_a_test_case_is_no_transaction_of_a_caller():
    assert not db.is_in_transaction()


@pytest.mark.django_db(transaction=True)
def test_a_process_that_dies_lets_its_hold_expire(customer):
    connections.close_all()
    if hasattr(connection, "close_pool"):
        connection.close_pool()
    child = os.fork()
    if child == 0:
        with held(customer):
            os._exit(9)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 9
    assert stored(customer)[:2] == (4, 5)
    before_expiry = factories.standing(AT + timedelta(seconds=299))
    with clock.overridden(before_expiry), pytest.raises(errors.UsageLimitReached):
        factories.consume(customer, 6, at=before_expiry.at)
    factories.consume(customer, 6, at=AT + timedelta(seconds=300))
    assert stored(customer)[:2] == (10, 0)
    assert states() == ["expired"]


class TestDeath:
    def test_of_a_hold_made_as_another_one_is_found_dead_is_noticed_in_its_turn(self, customer):
        """Where the row forgot the younger one, its units would stay held until the next period."""
        request = [
            consumption.Request(
                customer_id=customer.pk,
                wanted=[Wanted(feature_key="api_calls", units=3)],
                keyed=KeyedRequest(key=f"hold{number}", fingerprint="f"),
            )
            for number in range(2)
        ]
        holds.create(request[0], ttl_seconds=60, clock=factories.standing(AT))
        second_at = AT + timedelta(seconds=61)
        holds.create(request[1], ttl_seconds=60, clock=factories.standing(second_at))
        row = Balance.objects.get(is_current=True)
        assert (row.held_units, row.holds_due_at) == (3, second_at + timedelta(seconds=60))

        after = second_at + timedelta(seconds=61)
        factories.consume(customer, 6, at=after)  # the whole limit is there again

        row.refresh_from_db()
        assert (row.used_units, row.held_units, row.holds_due_at) == (10, 0, None)
        assert set(Hold.objects.values_list("state", flat=True)) == {"expired"}
