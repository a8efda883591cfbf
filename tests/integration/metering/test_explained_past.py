"""What explain answered at an instant it answers later too, whatever has happened since."""

from datetime import UTC, datetime, timedelta

import pytest

from core import clock as clocks
from core.models import Customer
from core.services.idempotency import KeyedRequest
from metering.api.explanation import explanation
from metering.services import consumption, endings, explaining, granting, holds
from subscriptions import planning, selectors, states
from subscriptions.models import Feature, TimelineEntry
from subscriptions.services import actions, changes, overriding
from tests import factories

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def explained(customer, feature, count, *, at, now):
    question = explaining.Question(
        customer=Customer.objects.get(pk=customer.pk),
        feature=selectors.get_feature(key=feature),
        units=count,
        at=at,
    )
    body = explanation(explaining.explain(question, clock=clocks.FixedClock(at=now)))
    for each in body["grants"]:
        del each["remaining"]  # stored as of the last settling, and brought forward by the next
    return body


class Told:
    """Answers that explain gave at their instants, of several features."""

    def __init__(self, customer, *features) -> None:
        self.customer, self.features, self.answers = customer, features, []

    def ask(self, at) -> dict:
        """Ask now, a moment after what has just been done; return the last answer."""
        at += timedelta(seconds=1)
        for feature in self.features:
            answer = explained(self.customer, feature, 5, at=None, now=at)
            self.answers.append((feature, at, answer))
        return self.answers[-len(self.features)][2]

    def ask_again(self, *, now) -> None:
        """Ask for each of them later."""
        for feature, at, answer in self.answers:
            assert explained(self.customer, feature, 5, at=at, now=now) == answer, (feature, at)


@pytest.fixture
def told():
    pool = factories.make_feature("tokens", at=MARCH)
    factories.make_feature("images", at=MARCH)
    Feature.objects.filter(key="images").update(pool=pool, pool_rate_units=10)
    factories.make_plan("free", at=MARCH, limits={"api_calls": 10}, booleans={"sso": False})
    limits = {"api_calls": 100, "images": 50, "tokens": 500}
    factories.make_plan("pro", at=MARCH, limits=limits, rank=1, booleans={"sso": True})
    more = {"api_calls": 300, "tokens": 900}
    factories.make_plan("team", at=MARCH, limits=more, rank=2)
    customer = factories.make_customer(at=MARCH)
    return Told(customer, "api_calls", "images", "sso")


def at(month: int, day: int, hour: int = 12):
    return datetime(2026, month, day, hour, tzinfo=UTC)


@pytest.mark.django_db
class TestLife:
    def test_of_months_is_told_as_it_was(self, told):
        customer, clock = told.customer, factories.standing
        assert told.ask(at(3, 1))["plan"]["key"] == "free"
        factories.consume(customer, 8, at=at(3, 2))
        told.ask(at(3, 2))
        row = factories.subscribe(customer, "pro", at=at(3, 10))
        told.ask(at(3, 10))
        factories.consume(customer, 90, at=at(3, 11))
        factories.consume(customer, 20, at=at(3, 12), feature="images")
        told.ask(at(3, 12))
        granting.create(
            customer_id=customer.pk,
            order=granting.Order(feature_key="api_calls", units=30, expires_at=at(4, 20)),
            actor=factories.ACTOR,
            keyed=keyed("grant"),
            render=lambda made: {"id": str(made.pk)},
            clock=clock(at(3, 13)),
        )
        assert told.ask(at(3, 13))["balance"]["limit"] == 130
        overriding.create(
            customer_id=customer.pk,
            order=overriding.Order(
                feature_key="api_calls", units=40, reason="goodwill", ends_at=at(4, 15)
            ),
            actor=factories.ACTOR,
            keyed=keyed("override"),
            render=lambda made: {"id": str(made.pk)},
            clock=clock(at(3, 14)),
        )
        assert told.ask(at(3, 14))["balance"]["limit"] == 170
        factories.consume(customer, 60, at=at(3, 15))
        held = self.hold(customer, 15, at=at(3, 16, 1))
        assert len(told.ask(at(3, 16, 1))["holds"]) == 1
        self.end(endings.release, customer, held, at=at(3, 16, 2))
        assert told.ask(at(3, 16, 2))["holds"] == []
        self.change(row, "team", at=at(3, 20))
        assert told.ask(at(3, 20))["plan"]["key"] == "team"
        self.change(row, "pro", at=at(3, 25))  # at the end of the period
        assert told.ask(at(3, 25))["plan"]["key"] == "team"
        assert told.ask(at(4, 11))["plan"]["key"] == "pro"
        factories.consume(customer, 70, at=at(4, 12))
        told.ask(at(4, 12))
        told.ask(at(4, 16))  # the override is over
        told.ask(at(4, 21))  # and the grant
        actions.pause(subscription_id=row.pk, actor=factories.ACTOR, clock=clock(at(4, 22)))
        assert told.ask(at(4, 22))["code"] == "subscription_paused"
        actions.resume(subscription_id=row.pk, actor=factories.ACTOR, clock=clock(at(4, 23)))
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=clock(at(4, 24))
        )
        assert told.ask(at(4, 24))["plan"]["status"] == "active"
        assert told.ask(at(5, 11))["plan"]["key"] == "free"
        factories.consume(customer, 3, at=at(5, 12))
        told.ask(at(5, 12))
        factories.subscribe(customer, "team", at=at(5, 20))
        told.ask(at(5, 20))

        for later in (at(5, 21), at(7, 1), at(12, 31)):
            told.ask_again(now=later)

    @pytest.mark.parametrize("policy", planning.POLICIES)
    @pytest.mark.parametrize("grants", [0, 1])
    def test_with_a_change_in_mid_period_is_told_as_it_was(self, told, policy, grants):
        customer, clock = told.customer, factories.standing
        row = factories.subscribe(customer, "pro", at=at(3, 10))
        for number in range(grants):
            granting.create(
                customer_id=customer.pk,
                order=granting.Order(feature_key="api_calls", units=30),
                actor=factories.ACTOR,
                keyed=keyed(f"grant{number}"),
                render=lambda made: {"id": str(made.pk)},
                clock=clock(at(3, 11)),
            )
        factories.consume(customer, 70, at=at(3, 12))
        factories.consume(customer, 3, at=at(3, 12), feature="images")
        self.hold(customer, 15, at=at(3, 16, 11))
        told.ask(at(3, 16, 11))
        order = changes.ChangeOrder(plan_key="team", usage_policy=policy)
        changes.change(
            subscription_id=row.pk, order=order, actor=factories.ACTOR, clock=clock(at(3, 16))
        )
        whole = {"keep": 300, "reset": 300, "carry_balance": 315, "prorate_limit": 300 - 39}
        used = {"keep": 70, "prorate_limit": 70}.get(policy, 0)
        answer = told.ask(at(3, 16))["balance"]
        figures = (whole[policy] + 30 * grants, used, 15)
        assert (answer["limit"], answer["used"], answer["held"]) == figures
        told.ask(at(3, 17))  # the hold is over
        factories.consume(customer, 120, at=at(3, 18))
        told.ask(at(3, 18))
        self.change(row, "pro", at=at(3, 25))  # at the end of the period
        told.ask(at(3, 26))
        told.ask(at(4, 11))
        factories.consume(customer, 20, at=at(4, 12))
        told.ask(at(4, 12))

        for later in (at(4, 13), at(7, 1)):
            told.ask_again(now=later)

    def hold(self, customer, units, *, at):
        request = consumption.Request(
            customer_id=customer.pk,
            wanted=[consumption.Wanted(feature_key="api_calls", units=units)],
            keyed=keyed(f"hold {at}"),
        )
        made = holds.create(request, ttl_seconds=7200, clock=factories.standing(at))
        return made.entries[0].operation_id

    def end(self, act, customer, hold_id, *, at):
        ending = endings.Ending(customer_id=customer.pk, hold_id=hold_id, keyed=keyed(f"end {at}"))
        act(ending, clock=factories.standing(at))

    def change(self, row, plan_key, *, at):
        changes.change(
            subscription_id=row.pk,
            order=changes.ChangeOrder(plan_key=plan_key),
            actor=factories.ACTOR,
            clock=factories.standing(at),
        )

    def test_of_one_whose_states_were_not_kept_is_told_by_what_is_known(self, told, monkeypatch):
        """Lines that an earlier release wrote name the status alone."""
        monkeypatch.setattr(states, "document_of", lambda _: None)
        row = factories.subscribe(told.customer, "pro", at=at(3, 10))
        told.ask(at(3, 10))
        actions.pause(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at(3, 11))
        )
        told.ask(at(3, 11))
        assert set(TimelineEntry.objects.values_list("state", flat=True)) == {None}
        told.ask_again(now=at(4, 30))

    def test_takes_a_constant_number_of_statements(self, told, django_assert_num_queries):
        factories.subscribe(told.customer, "pro", at=at(3, 10))
        for number in range(2):
            for day in range(11, 14):
                factories.consume(told.customer, 2, at=at(3 + number, day))
            explained(told.customer, "api_calls", 1, at=at(3, 12), now=at(6, 1))
            # customer; subscriptions, timeline, plans, what stands beside; grants, lines
            with django_assert_num_queries(7):
                explained(told.customer, "api_calls", 1, at=at(3, 12), now=at(6, 1))


def keyed(key: str) -> KeyedRequest:
    return KeyedRequest(key=key, fingerprint="f")
