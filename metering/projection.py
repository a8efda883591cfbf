"""Carry a balance and its sources from their last settling to an instant; pure over rows.

The slow path carries under its locks and writes what changed; a read carries in memory. Where
the allowance alone covers what is counted, plain figures do; where grants, rollover or preserved
overage take part, the burn-down engine walks every boundary passed, oldest first.
"""

from datetime import datetime

from core import periods
from core.models import Customer
from metering import alerts, burndown, derivation, grants, promises
from metering import position as rows
from metering.burndown import Burn, Item, State
from metering.derivation import Derived
from metering.models import Balance, Hold
from metering.position import ALLOWANCE, Carried, Position
from metering.promises import Outlook
from subscriptions.facts import CustomerFacts


def carry(position: Position, *, facts: CustomerFacts, at: datetime) -> Carried:
    """Return the place as it stands at the instant; changes the given rows in memory alone."""
    walk = _Walk(position, facts)
    derived = walk.derive(at)
    current = position.current
    if derived.period is None:
        walk.expire(until=at)
        if current is not None:
            current.denial_code, current.valid_until = derived.denial_code, derived.next_change_at
            current.decided_at = max(at, current.decided_at)
        return walk.carried(derived, row=current)
    if walk.needs_engine(derived):
        walk.through(until=at)
    else:
        walk.expire(until=at)
        walk.row = _plain(position, derived, customer=facts.customer)
        walk.open_provisional(at=at)
    if walk.row is None:
        message = "a period has a row"
        raise AssertionError(message)
    _finish(walk, derived, at=at)
    return walk.carried(derived, row=walk.row)


def _plain(position: Position, derived: Derived, *, customer: Customer) -> Balance:
    """Return the row of the period in force, its limit moved by what the allowance moved."""
    if derived.period is None:
        raise AssertionError
    row = position.row_from(derived.period.starts_at)
    if row is None:
        row = rows.new_row(position, derived, customer=customer)
    allowance = rows.allowance_of(row, derived)
    if row.limit_units is None or row.allowance_units is None or allowance is None:
        row.limit_units = allowance
    else:
        row.limit_units = max(row.limit_units + allowance - row.allowance_units, 0)
    if not row.epoch:
        row.epoch = max(each.epoch for each in position.rows) + 1
    row.is_plain, row.allowance_left_units = True, None
    return row


def _finish(walk: "_Walk", derived: Derived, *, at: datetime) -> None:
    """Write what is derived on the row, absolutely; the counters stay as they are."""
    row, state, terms = walk.row, walk.state, derived.terms
    if row is None or derived.period is None:
        raise AssertionError
    kept = 0
    if state is not None:
        kept = walk.outlook().kept_now(state, at=at, starts_at=row.period_starts_at)
        left = int(burndown.balance(state, at=at)) - kept
        row.limit_units = row.counted_units - int(state.overage) + left
        row.is_plain = walk.is_plain(at=at)
        row.allowance_left_units = None if row.is_plain else int(state.sources[ALLOWANCE].balance)
    row.is_current = True
    row.period_ends_at = derived.period.ends_at
    row.allowance_units, row.priority = rows.allowance_of(row, derived), terms.priority
    row.mode, row.overage_cap_units = terms.mode, terms.overage_cap_units
    row.ceiling_units = rows.ceiling_of(row)
    row.denial_code = derived.denial_code
    changes = [derived.next_change_at]
    changes += [grants.next_change_at(each, at=at) for each in walk.grants]
    row.valid_until = min((each for each in changes if each is not None), default=None)
    row.decided_at = max(at, row.decided_at or at)
    if kept or walk.facts.customer.test_clock_at is not None:
        row.valid_until = at  # other rows or his own time have a say: always on the slow path
    alerts.set_thresholds(row, percents=terms.alert_percents, own=walk.position.thresholds)


class _Walk:
    """Walk a place over every boundary up to an instant, oldest first."""

    def __init__(self, position: Position, facts: CustomerFacts) -> None:
        self.position = position
        self.facts = facts
        self.before = self.row = position.current
        self.state: State | None = None
        self.grants = list(position.grants)
        self.left: list[Balance] = []
        self.expired: list[Hold] = []
        self.opened: list[Hold] = []
        self.rolled_units = 0
        self._preserves = False
        self._before: tuple[object, ...] | None = None
        self._due = sorted(
            (
                (each.expires_at, each.pk, each)
                for each in position.holds
                if each.expires_at is not None
            ),
            key=lambda each: each[:2],
        )

    def _state(self, row: Balance, derived: Derived, *, since: datetime) -> State:
        """Return the engine's state of a row as it was last settled."""
        if row.limit_units is None:
            row.allowance_units = derived.allowance_units
            row.limit_units = max(derived.allowance_units or 0, 0)
        state = rows.state_of(row, given=self.grants, items=self._items(row), since=since)
        rows.set_terms(state.sources[ALLOWANCE], derived)
        return state

    def _items(self, row: Balance) -> list[Item]:
        """Return the items of a row; holds that die on a plain one stand on its allowance."""
        items = list(self.position.items)
        if row.is_plain:
            known = {each.id for each in items}
            dying = (each for each in self.position.holds if each.balance_id == row.pk)
            for hold in dying:
                if not hold.is_provisional and str(hold.entry_id) not in known:
                    at = hold.created_at
                    burn = Burn(source_id=ALLOWANCE, epoch=row.epoch, units=hold.units, at=at)
                    items.append(Item(id=str(hold.entry_id), at=at, burns=[burn]))
        return items

    def outlook(self) -> Outlook:
        return Outlook(
            facts=self.facts,
            feature=self.position.feature,
            grants=self.grants,
            promises=promises.promises_of(self.position.holds) if self.grants else (),
        )

    def derive(self, at: datetime) -> Derived:
        return derivation.derive(
            self.facts,
            feature=self.position.feature,
            at=at,
            scope=self.position.scope,
            has_grants=any(not grants.is_over(each, at=at) for each in self.grants),
        )

    def needs_engine(self, derived: Derived) -> bool:
        """Tell whether more than the allowance takes part, now or since the last settling."""
        if derived.allowance_units is None:
            return False
        row = self.position.current
        if self.grants or (row is not None and not row.is_plain):
            return True
        is_over = row is None or derived.period != periods.Period(
            starts_at=row.period_starts_at, ends_at=row.period_ends_at
        )
        return is_over and _rolls(derived)

    def carried(self, derived: Derived, *, row: Balance | None) -> Carried:
        before = self.before
        if before is not None and row is not None and before is not row:
            before.is_current = False
            before.decided_at = row.decided_at
            self.left.append(before)
        return Carried(
            derived=derived,
            row=row,
            state=self.state,
            left=self.left,
            expired=self.expired,
            opened=self.opened,
            rolled_units=self.rolled_units,
        )

    def expire(self, *, until: datetime) -> None:
        """Let holds die at their instants: their units come back then."""
        while self._due and self._due[0][0] <= until:
            died_at, _, hold = self._due.pop(0)
            self.expired.append(hold)
            for row in self.position.rows:
                if row.pk == hold.balance_id:
                    row.held_units -= hold.units
            rows.give_back(self.state, hold=hold, at=died_at)

    def through(self, *, until: datetime) -> None:
        """Walk the engine over the boundaries after the row's last settling."""
        if self.row is None:
            boundary = self._begin(until=until)
        else:
            since = max(self.row.decided_at, self.row.period_starts_at)
            settled = self.derive(since)
            self.state = self._state(self.row, settled, since=since)
            self._preserves = settled.terms.preserves_overage
            boundary = self.row.valid_until
        while boundary is not None and boundary <= until:
            self.expire(until=boundary)
            derived = self.derive(boundary)
            self._step(derived, at=boundary)
            boundary = self._next(derived, at=boundary, until=until)
        self.expire(until=until)
        self._step(self.derive(until), at=until)

    def _begin(self, *, until: datetime) -> datetime | None:
        """Open the first row ever; what rolls over has done so since the plan was taken."""
        derived = self.derive(until)
        subscription = derived.in_force.subscription
        taken_at = subscription.start_at if subscription else self.facts.customer.created_at
        started = self.derive(taken_at)
        if taken_at >= until or started.period is None or not _rolls(derived):
            taken_at, started = until, derived
        self.row = rows.new_row(self.position, started, customer=self.facts.customer)
        self.state = self._state(self.row, started, since=taken_at)
        self._preserves = started.terms.preserves_overage
        return self._next(started, at=taken_at, until=until)

    def _next(self, derived: Derived, *, at: datetime, until: datetime) -> datetime | None:
        """Return the next boundary; resets that no longer change anything are passed at once."""
        others = [
            derived.in_force.next_change_at,
            derived.effective.next_change_at,
            *(grants.next_change_at(each, at=at) for each in self.grants),
            *(died_at for died_at, _, _ in self._due[:1]),
        ]
        other = min((each for each in others if each is not None), default=None)
        is_opening = derived.period is not None and derived.period.starts_at == at
        reached = self._figures() if is_opening else None
        is_still = is_opening and reached == self._before
        self._before = reached  # what happens between two openings may move the next again
        if is_still and derived.period is not None and derived.period.ends_at is not None:
            last = until if other is None else min(until, other)
            opening = derivation.usage_period(derived.in_force, terms=derived.terms, at=last)
            if opening.starts_at > at:
                return opening.starts_at
        ends_at = derived.period.ends_at if derived.period else None
        return min((each for each in (other, ends_at) if each is not None), default=None)

    def _figures(self) -> tuple[object, ...]:
        if self.state is None:
            return ()
        left = tuple(int(each.balance) for each in self.state.sources.values())
        return (*left, int(self.state.overage), self.row is not None and self.row.counted_units)

    def _step(self, derived: Derived, *, at: datetime) -> None:
        """Apply one instant: reset, amounts, then what recurs or begins; overage burns them."""
        if self.state is None or self.row is None or derived.period is None:
            return
        if derived.period.starts_at != self.row.period_starts_at:
            self._move(derived, at=at)
        state = self.state
        amount = rows.allowance_of(self.row, derived) or 0
        if state.sources[ALLOWANCE].amount != amount:
            burndown.set_amount(state, source_id=ALLOWANCE, at=at, amount=amount)
        rows.set_terms(state.sources[ALLOWANCE], derived)
        for grant in self.grants:
            source = state.sources.get(str(grant.pk))
            if source is None and grant.effective_at <= at:
                burndown.begin(state, grants.source_of(grant))
            elif source is not None and grants.recurs_at(grant, at=at):
                burndown.recur(state, source_id=source.id, at=at)
        self.open_provisional(at=at)
        burndown.cover(state, at=at)

    def _move(self, derived: Derived, *, at: datetime) -> None:
        """Leave the row's period: at its end with rollover, by a moved anchor without."""
        if self.row is None or self.state is None or derived.period is None:
            raise AssertionError
        before, state = self.row, self.state
        starts_at, ends_at = derived.period.starts_at, derived.period.ends_at
        row = self.position.row_from(starts_at) or rows.new_row(
            self.position, derived, customer=self.facts.customer
        )
        if before.period_ends_at is not None and starts_at >= before.period_ends_at:
            overage = int(state.overage)
            burndown.reset(state, at=at, period_ends_at=ends_at, preserve_overage=self._preserves)
            row.carried_units += overage if self._preserves else 0
            row.epoch = state.sources[ALLOWANCE].epoch
            kept = state.sources[ALLOWANCE].balance - state.sources[ALLOWANCE].amount
            self.rolled_units = max(int(kept), 0)
        else:
            allowance = self._state(row, derived, since=at).sources[ALLOWANCE]
            sources = {**state.sources, ALLOWANCE: allowance}
            self.state = State(sources=sources, period_ends_at=ends_at)
        self._preserves = derived.terms.preserves_overage
        self.row = row

    def open_provisional(self, *, at: datetime) -> None:
        """Let the holds of a future period burn as it opens, in the order of their making."""
        waiting = [
            each
            for each in self.position.holds
            if each.is_provisional and self.row is not None and each.balance_id == self.row.pk
        ]
        for hold in sorted(waiting, key=lambda each: (each.created_at, each.pk)):
            hold.is_provisional = False
            self.opened.append(hold)
            if self.state is not None:
                item_id = str(hold.entry_id)
                burndown.use(self.state, item_id=item_id, at=at, units=hold.counted_units)

    def is_plain(self, *, at: datetime) -> bool:
        """Tell whether the allowance alone covers the period that was opened on the way."""
        if self.row is self.before or self.state is None or self.row is None:
            return False
        alone = all(grants.is_over(each, at=at) for each in self.grants)
        return alone and not self.row.counted_units and not self.state.overage


def _rolls(derived: Derived) -> bool:
    return derived.terms.rollover_max_units != 0 or derived.terms.preserves_overage
