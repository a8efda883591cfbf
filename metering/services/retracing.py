"""Retrace how the sources of one place came to stand as they stood at an instant; pure over rows.

It applies to the burn-down, in the order of their instants, what the books applied when it
happened: resets and moved anchors, amounts, grants, and what was used and given back.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from core import errors
from metering import burndown, derivation, grants, position
from metering.burndown import State
from metering.derivation import Derived
from metering.models import Grant
from metering.position import ALLOWANCE
from metering.services import prorating
from metering.services.happenings import Happening
from metering.services.policies import Followed
from subscriptions.facts import FeatureFacts
from subscriptions.selectors import History

STEPS_MAX = 50_000


@dataclass(frozen=True, kw_only=True)
class Retraced:
    """The sources at the instant, and what counts there though an earlier period used it.

    `state` is None where nothing was limited yet.
    """

    state: State | None
    carried_units: int


def retrace(
    *,
    history: History,
    feature: FeatureFacts,
    scope: str,
    given: Sequence[Grant],
    happenings: Sequence[Happening],
    followed: Sequence[Followed],
    since: datetime,
    until: datetime,
) -> Retraced:
    """Return how the place stood at `until`, beginning with a full allowance at `since`.

    :raises Invalid: where more than 50,000 boundaries lie between the two.
    """
    walk = _Walk(history, feature, scope, given)
    walk.followed = [each for each in followed if since <= each.at <= until]
    due = sorted(happenings, key=lambda each: (each.at, each.rank, each.line_id))
    others = sorted({*history.changes, *(each.created_at for each in given)})
    at = since
    for _ in range(STEPS_MAX):
        walk.step(at)
        while due and due[0].at <= at:
            walk.apply(due.pop(0))
        following = [each for each in others if each > at][:1]
        following += [each.at for each in due[:1]]
        following += walk.boundaries(at)
        upcoming = min(following, default=None)
        if upcoming is None or upcoming > until:
            walk.step(until)
            return Retraced(state=walk.state, carried_units=walk.carried_units)
        at = upcoming
    detail = "Too many usage periods lie between the first grant and that instant."
    raise errors.Invalid.at("/at", code="too_far", detail=detail)


class _Walk:
    """One place at the instant that was reached."""

    def __init__(
        self, history: History, feature: FeatureFacts, scope: str, given: Sequence[Grant]
    ) -> None:
        self.state: State | None = None
        self.carried_units = 0
        self.followed: list[Followed] = []
        self._history, self._feature, self._scope, self._given = history, feature, scope, given
        self._derived: Derived | None = None
        self._starts_at: datetime | None = None
        self._ends_at: datetime | None = None
        self._preserves = False
        self._counted: Counter[str] = Counter()
        self._withheld = 0
        self._is_unlimited = False
        self._waiting: dict[str, Happening] = {}

    def boundaries(self, at: datetime) -> list[datetime]:
        """Return what comes next by itself."""
        changes = [self._derived.next_change_at if self._derived else None]
        changes += [
            grants.next_change_at(each, at=at) for each in self._given if each.created_at <= at
        ]
        return [each for each in changes if each is not None]

    def step(self, at: datetime) -> None:
        """Apply one instant: reset, amounts, then what recurs or begins; overage burns them."""
        begun = [each for each in self._given if each.created_at <= at]
        left = self._left()
        derived = self._derived = derivation.derive(
            self._history.facts_at(at),
            feature=self._feature,
            at=at,
            scope=self._scope,
            has_grants=any(not grants.is_over(each, at=at) for each in begun),
        )
        if derived.period is None:
            return
        if derived.allowance_units is None:
            self._is_unlimited = True
            self._open(derived)
            self._follow(at, left=left)
            return
        if self.state is None:
            self.state = State(sources={ALLOWANCE: position.allowance_source(derived)})
            self._open(derived)
            self.state.period_ends_at = self._ends_at
        elif derived.period.starts_at != self._starts_at:
            self._move(self.state, derived, at=at)
        state = self.state
        if self._is_unlimited:
            self._is_unlimited = False
            state.sources[ALLOWANCE] = position.allowance_source(
                derived, used=self._counted.total()
            )
            state.line_up()
        self._set_amount(state, at=at)
        position.set_terms(state.sources[ALLOWANCE], derived)
        self._begin(state, begun, at=at)
        self._preserves = derived.terms.preserves_overage
        self._open_waiting(at)
        burndown.cover(state, at=at)
        self._follow(at, left=left)

    def _left(self) -> int:
        """Return what is left of the allowance."""
        if self.state is None or self._is_unlimited:
            return 0
        return int(self.state.sources[ALLOWANCE].balance)

    def _amount(self) -> int:
        """Return what the allowance grants in the period."""
        granted = self._derived.allowance_units if self._derived is not None else None
        return max((granted or 0) - self._withheld, 0)

    def _set_amount(self, state: State, *, at: datetime) -> None:
        amount = self._amount()
        if state.sources[ALLOWANCE].amount != amount:
            burndown.set_amount(state, source_id=ALLOWANCE, at=at, amount=amount)

    def _follow(self, at: datetime, *, left: int) -> None:
        """Do what the usage policies of changes up to the instant did."""
        while self.followed and self.followed[0].at <= at:
            followed = self.followed.pop(0)
            if followed.opens:
                self._begin_generation(followed, at=at, left=left if followed.carries else 0)
            else:
                self._withheld += prorating.withheld_of(
                    followed.moved_units, period=followed.period, at=at
                )
                if self.state is not None and not self._is_unlimited:
                    self._set_amount(self.state, at=at)
                    burndown.cover(self.state, at=at)

    def _begin_generation(self, followed: Followed, *, at: datetime, left: int) -> None:
        holds = followed.holds
        self._withheld = self.carried_units = 0
        self._counted = Counter({str(each.entry_id): each.units for each in holds})
        if self.state is not None and not self._is_unlimited:
            amount = self._amount()
            position.begin_generation(self.state, amount=amount, left=left, holds=holds, at=at)

    def apply(self, each: Happening) -> None:
        """Apply what was used or given back; the boundaries up to it are passed."""
        if each.used_units and self._ends_at is not None and each.usage_at >= self._ends_at:
            self._waiting[each.item_id] = each
        elif each.used_units:
            self._use(each)
        elif each.item_id in self._waiting:
            waiting = self._waiting[each.item_id]
            left = waiting.used_units - each.returned_units
            self._waiting[each.item_id] = replace(waiting, used_units=left)
        else:
            self._give_back(each)

    def _use(self, each: Happening) -> None:
        self._counted[each.item_id] += each.used_units
        if self._starts_at is not None and each.usage_at < self._starts_at:
            self.carried_units += each.used_units
        if self.state is not None and not self._is_unlimited:
            burndown.use(self.state, item_id=each.item_id, at=each.at, units=each.used_units)

    def _give_back(self, each: Happening) -> None:
        self._counted[each.item_id] -= min(each.returned_units, self._counted[each.item_id])
        item = self.state.items.get(each.item_id) if self.state is not None else None
        if self.state is not None and item is not None and not self._is_unlimited:
            standing = item.overage + item.forgiven + sum(burn.units for burn in item.burns)
            units = min(each.returned_units, standing)
            burndown.give_back(self.state, item_id=item.id, at=each.at, units=units)

    def _begin(self, state: State, begun: Sequence[Grant], *, at: datetime) -> None:
        for grant in begun:
            source = state.sources.get(str(grant.pk))
            if source is None and grant.effective_at <= at:
                burndown.begin(state, grants.source_of(grant))
            elif source is not None and grants.recurs_at(grant, at=at):
                burndown.recur(state, source_id=source.id, at=at)

    def _open(self, derived: Derived) -> None:
        if derived.period is not None and derived.period.starts_at != self._starts_at:
            self._starts_at, self._ends_at = derived.period.starts_at, derived.period.ends_at
            self._counted.clear()
            self._withheld = self.carried_units = 0

    def _move(self, state: State, derived: Derived, *, at: datetime) -> None:
        """Leave the period: at its end with rollover, by a moved anchor without."""
        if derived.period is None:
            raise AssertionError
        is_over = self._ends_at is not None and derived.period.starts_at >= self._ends_at
        self._open(derived)
        if is_over:
            overage = int(state.overage)
            burndown.reset(
                state, at=at, period_ends_at=self._ends_at, preserve_overage=self._preserves
            )
            self.carried_units = overage if self._preserves else 0
            return
        epoch = state.sources[ALLOWANCE].epoch + 1
        state.forgive()
        state.sources[ALLOWANCE] = position.allowance_source(derived, epoch=epoch)
        state.trails.pop(ALLOWANCE, None)
        state.period_ends_at = self._ends_at
        state.line_up()

    def _open_waiting(self, at: datetime) -> None:
        """Let the holds of the period burn as it opens, in the order of their making."""
        for item_id, each in list(self._waiting.items()):
            if self._ends_at is None or each.usage_at < self._ends_at:
                del self._waiting[item_id]
                self._counted[item_id] += each.used_units
                if self.state is not None and each.used_units:
                    burndown.use(self.state, item_id=item_id, at=at, units=each.used_units)
