"""What explain answered in the course of random lives it answers at their end again.

EXPLAIN_EXAMPLES=1000 lives more of them.
"""

import contextlib
import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from metering import errors
from metering.models import Balance, Hold, UsageEntry
from subscriptions import planning
from subscriptions.models import Subscription
from subscriptions.services import actions, changes
from tests import factories
from tests.integration.metering.test_explained_past import explained
from tests.integration.metering.test_stored_equals_replayed import Life, features

SHORT = 2
EXAMPLES = int(os.environ.get("EXPLAIN_EXAMPLES", str(SHORT)))


class Remembered(Life):
    """A life of which answers are kept, to be asked for again at its end."""

    rollover = 0

    def __init__(self) -> None:
        super().__init__()
        self.answers = []

    @rule(feature=features, count=st.integers(1, 40))
    def remember(self, feature: str, count: int) -> None:
        at = self.clock().at
        answer = explained(self.customer, feature, count, at=None, now=at)
        self.answers.append((feature, count, at, answer))

    @rule(feature=features)
    def pause_for_a_moment(self, feature: str) -> None:
        row = self.subscription
        actions.pause(subscription_id=row.pk, actor=factories.ACTOR, clock=self.clock())
        self.remember(feature=feature, count=1)
        actions.resume(subscription_id=row.pk, actor=factories.ACTOR, clock=self.clock())

    def settle_and_compare_grants(self) -> None:
        before = [
            list(model.objects.order_by("pk").values()) for model in (Balance, UsageEntry, Hold)
        ]
        later = self.at + timedelta(days=40)
        for feature, count, at, answer in self.answers:
            again = explained(self.customer, feature, count, at=at, now=later)
            assert again == answer, (feature, at)
        assert before == [
            list(model.objects.order_by("pk").values()) for model in (Balance, UsageEntry, Hold)
        ]


class RememberedPolicies(Remembered):
    """One whose changes of plan treat the usage so far by any policy, which no replay tells."""

    rollover = 15

    def stored_is_replayed(self) -> None:
        """Leave the comparison out."""

    def allowed(self, wanted, act):
        with contextlib.suppress(errors.UsageLimitReached):
            return act(self.request(wanted))
        return None

    @rule(policy=st.sampled_from(planning.POLICIES))
    def change_plan(self, policy: str) -> None:
        key = Subscription.objects.get(pk=self.subscription.pk).plan_version.plan.key
        other = "large" if key == "small" else "small"
        order = changes.ChangeOrder(plan_key=other, when="now", usage_policy=policy)
        row = self.subscription
        changes.change(
            subscription_id=row.pk, order=order, actor=factories.ACTOR, clock=self.clock()
        )


class RememberedPlainPolicies(RememberedPolicies):
    """One without grants or rollover, so that plain figures tell all but the policies."""

    rollover = 0

    @rule()
    def grant(self) -> None:
        """Give nothing."""


class RememberedSoft(Remembered):
    mode = "soft"


class RememberedRolling(Remembered):
    rollover = 15


MACHINES = [
    Remembered,
    RememberedSoft,
    RememberedRolling,
    RememberedPolicies,
    RememberedPlainPolicies,
]


@pytest.mark.django_db
@pytest.mark.timeout(3600 * 48)
@pytest.mark.parametrize("machine", MACHINES)
def test_an_answer_is_given_again_later(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            derandomize=EXAMPLES <= SHORT,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        ),
    )
