"""Keep the books of one transaction: locked balances, what moves on them, and where it burns.

Counters move relatively, what is derived absolutely. Where more than the allowance covers a
balance, each move burns or returns units of its sources, by the burn-down engine.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from core import db
from metering import burndown, position
from metering.burndown import State
from metering.decision import Place
from metering.models import Balance, Grant, Hold
from metering.position import ALLOWANCE, Carried
from metering.promises import Outlook, promises_of
from metering.selectors.items import Snapshot
from metering.services import counting, crossing, expiring, provenance
from subscriptions.facts import CustomerFacts, FeatureFacts


class RowsMissing(Exception):
    """Report that the locked rows do not suffice: start again under the customer's lock."""


@dataclass(kw_only=True)
class _Account:
    """The engine's state of one place, and what of it is stored."""

    state: State
    stored: Snapshot
    foreign: set[str] = field(default_factory=set)


@dataclass(kw_only=True)
class Books:
    """The locked rows of one transaction at its instant; `write_step` writes what moved.

    `features` are those it was asked for. `codes` name the denial of a place without a row; `facts`
    and `given` are what the slow path derived from, `promised` the holds of periods to come by the
    lines that made them; `owner_ids` are the ended subscriptions whose usage moved.
    """

    customer_id: UUID
    at: datetime
    rows: dict[int, Balance] = field(default_factory=dict)
    codes: Mapping[Place, str] = field(default_factory=dict)
    facts: CustomerFacts | None = None
    features: Mapping[int, FeatureFacts] = field(default_factory=dict)
    given: Sequence[Grant] = ()
    promised: dict[UUID, Hold] = field(default_factory=dict)
    owner_ids: set[UUID] = field(default_factory=set)
    _accounts: dict[Place, _Account] = field(default_factory=dict)
    _moves: dict[int, Counter[str]] = field(default_factory=dict)
    _derived: set[int] = field(default_factory=set)
    _due: set[int] = field(default_factory=set)

    @property
    def current(self) -> dict[Place, Balance]:
        """Return the rows that decide, by place."""
        return {place_of(row): row for row in self.rows.values() if row.is_current}

    def count(
        self,
        row: Balance,
        *,
        entry_id: UUID,
        used: int = 0,
        held: int = 0,
        until: datetime | None = None,
    ) -> None:
        """Count units as used or held, and burn them; `until` is when the hold expires."""
        account = self._account(row)
        self._move(row, used_units=used, held_units=held)
        if until is not None:
            self.expect_expiry(row, at=until)
        if account is not None:
            burndown.use(account.state, item_id=str(entry_id), at=self.at, units=used + held)

    def expect_expiry(self, row: Balance, *, at: datetime) -> None:
        """Let the row know the earliest instant at which a hold at its place dies."""
        due_at = row.holds_due_at
        if due_at is None or due_at <= self.at or at < due_at:
            row.holds_due_at = at
            self._derived.add(row.pk)

    def raise_ceiling(self, row: Balance) -> None:
        """Let the row's ceiling follow what is counted: usage after the fact is not refused."""
        if row.ceiling_units is not None:
            row.ceiling_units = max(row.ceiling_units, row.used_units + row.held_units)
            self._derived.add(row.pk)

    def settle(self, row: Balance) -> None:
        """Let what was derived on the row be written."""
        self._derived.add(row.pk)

    def withhold(self, row: Balance, *, units: int) -> None:
        """Take units off the row's allowance until its period ends."""
        account = self._account(row)
        allowance = (row.allowance_units or 0) - units
        if account is not None:
            burndown.set_amount(account.state, source_id=ALLOWANCE, at=self.at, amount=allowance)
            burndown.cover(account.state, at=self.at)
        elif row.limit_units is not None:
            row.limit_units = max(row.limit_units - units, 0)
            row.ceiling_units = position.ceiling_of(row)
        row.withheld_units += units
        row.allowance_units = allowance
        self._derived.add(row.pk)

    def state_of(self, row: Balance) -> State | None:
        """Return the engine's state of a row that draws on more than its allowance."""
        account = self._account(row)
        return account.state if account is not None else None

    def outlook(self, place: Place) -> Outlook | None:
        """Return what stands in view at the place; None where nothing lasts over periods."""
        given = [each for each in self.given if each.feature_id == place.feature_id]
        if self.facts is None or place.scope or not given:
            return None
        waiting = (each for each in self.promised.values() if _place_of_hold(each) == place)
        return Outlook(
            facts=self.facts,
            feature=self.features[place.feature_id],
            grants=given,
            promises=promises_of(waiting),
        )

    def state_at(self, place: Place) -> State | None:
        """Return the engine's state at a place that draws on more than its allowance."""
        account = self._accounts.get(place)
        return account.state if account is not None else None

    def replace_step(self, row: Balance, fresh: Balance, *, holds: Sequence[Hold]) -> None:
        """Let a fresh row decide in a row's place, and move its open holds there."""
        moving = sum(hold.units for hold in holds)
        row.is_current = False
        self._unmark_step([row])
        self._move(row, held_units=-moving)
        fresh.held_units, fresh.is_current = moving, True
        fresh.ceiling_units = position.ceiling_of(fresh)
        fresh.save(force_insert=True)
        self.rows[fresh.pk] = fresh
        self._derived |= {row.pk, fresh.pk}
        Hold.objects.filter(pk__in=[hold.pk for hold in holds]).update(balance=fresh)

    def rehome_step(self, hold: Hold, row: Balance) -> None:
        """Move a hold of a period to come to the row that counts its instant now."""
        former = self.rows[hold.balance_id]
        self._move(former, held_units=-hold.units)
        hold.balance, hold.is_provisional = row, not row.is_current
        Hold.objects.filter(pk=hold.pk).update(balance=row, is_provisional=hold.is_provisional)
        self.count(row, entry_id=hold.entry_id, held=hold.units)
        row.ceiling_units = position.ceiling_of(row)
        self._derived.add(row.pk)

    def carry(self, row: Balance, *, entry_id: UUID, units: int) -> None:
        """Count on a current row what a closed period used: it burns there, and now."""
        account = self._account(row)
        self._move(row, carried_units=units)
        self._derived.add(row.pk)
        if account is not None:
            burndown.use(account.state, item_id=str(entry_id), at=self.at, units=units)
            account.foreign.add(str(entry_id))

    def take_off(
        self,
        row: Balance,
        *,
        entry_id: UUID,
        used: int = 0,
        held: int = 0,
        returned: int,
        at: datetime | None = None,
    ) -> None:
        """Take units off a row's counters, and return some of the entry's to their sources.

        A capture takes the held units off, counts some as used (`used` is negative then), and
        returns the rest. `at` is when they return, now where it is left out.
        """
        current = self.current.get(place_of(row))
        account = self._account(current) if current is not None else None
        self._move(row, used_units=-used, held_units=-held)
        promise = self.promised.pop(entry_id, None)
        if promise is not None and used < 0:  # captured before its period: it waits on
            promise.state, promise.captured_units = Hold.State.CAPTURED, -used
            self.promised[entry_id] = promise
        if account is None or current is None or not returned:
            return
        provenance.load_item(
            state=account.state,
            stored=account.stored,
            entry_id=entry_id,
            row=row,
            current=current,
            units=returned,
        )
        standing = provenance.standing_units(account.state, entry_id=entry_id)
        if standing:
            burndown.give_back(
                account.state,
                item_id=str(entry_id),
                at=at or self.at,
                units=min(returned, standing),
            )
        self._derived.add(current.pk)

    def expire_due_step(self) -> None:
        """Mark the holds that are dead by now; their units come back at their own instants.

        :raises RowsMissing: where one that is due stands on another period's row.
        """
        due = [
            row
            for row in self.rows.values()
            if row.holds_due_at is not None and row.holds_due_at <= self.at
        ]
        if due:
            self.open_accounts_step()
            places = {place_of(row) for row in due}
            dead = expiring.end_due_step(customer_id=self.customer_id, places=places, at=self.at)
            if any(hold.balance_id not in self.rows for hold in dead.holds):
                raise RowsMissing
            self._take_in(dead)
            for hold in dead.holds:
                self.take_off(
                    self.rows[hold.balance_id],
                    entry_id=hold.entry_id,
                    held=hold.units,
                    returned=hold.units,
                    at=hold.expires_at,
                )
            self._due |= {row.pk for row in due}
            self.settle_accounts()  # what came back decides, and what had no way back

    def _take_in(self, dead: expiring.Dead) -> None:
        """Put what the holds had burnt into the states of their places."""
        for place, account in self._accounts.items():
            ended = [each.entry_id for each in dead.holds if _place_of_hold(each) == place]
            provenance.take_in(
                state=account.state,
                stored=account.stored,
                entry_ids=ended,
                burns=[each for each in dead.burns if each.entry_id in ended],
                current=self.current[place],
            )

    def open_accounts_step(self) -> None:
        """Lock the grants of every current row that draws on them, before holds are locked."""
        for row in self.current.values():
            self._account(row)

    def adopt_step(self, carried: Carried, *, stored: Snapshot) -> None:
        """Take over what a place came to under the customer's lock, and store a new row."""
        for hold in carried.expired:
            self._note(hold.balance_id, held_units=-hold.units)
            self._due.add(hold.balance_id)
        expiring.mark_step(carried.expired)
        opened = [hold.pk for hold in carried.opened]
        if opened:
            Hold.objects.filter(pk__in=opened).update(is_provisional=False)
        self._unmark_step(carried.left)
        row = carried.row
        if row is None:
            return
        if row._state.adding:  # noqa: SLF001 - Django tells only here whether it is stored
            row.save(force_insert=True)
        self.rows[row.pk] = row
        self._derived.add(row.pk)
        known = [each.holds_due_at for each in (row, *carried.left) if each.holds_due_at]
        if (carried.left and known) or any(due_at <= self.at for due_at in known):
            self._due.add(row.pk)
        if carried.state is not None:
            self._accounts[place_of(row)] = _Account(state=carried.state, stored=stored)

    def _unmark_step(self, left: Iterable[Balance]) -> None:
        """Take the mark from rows before another gets it: one row a place is current."""
        for row in left:
            Balance.objects.filter(pk=row.pk).update(is_current=False, decided_at=row.decided_at)

    def write_step(self) -> None:
        """Write every row that moved in one statement, then grants and burns.

        The rows' check against their ceiling stands as the second guard.
        """
        db.transaction_required()
        self.settle_accounts()
        touched = [row for pk, row in self.rows.items() if pk in self._moves or self._is_dirty(pk)]
        self._derived |= crossing.publish_step(touched, features=self.features, at=self.at)
        if touched:
            counting.write_step(
                rows=touched,
                moves=self._moves,
                is_derived=bool(self._derived),
                due=self._due,
                at=self.at,
            )
        for place, account in self._accounts.items():
            provenance.save_step(
                account.state,
                stored=account.stored,
                row=self.current[place],
                foreign=account.foreign,
            )

    def settle_accounts(self) -> None:
        """Let the rows know what their sources came to, before who asks next is decided."""
        for place, account in self._accounts.items():
            self._settle(self.current[place], account.state)

    def _settle(self, row: Balance, state: State) -> None:
        """Write on the row what its sources have come to; consuming leaves the limit alone."""
        if row.is_plain:
            return
        left, outlook = int(state.sources[ALLOWANCE].balance), self.outlook(place_of(row))
        if left != row.allowance_left_units or row.pk in self._derived or outlook is not None:
            row.allowance_left_units = left
            balance = int(burndown.balance(state, at=self.at))
            if outlook is not None:
                kept = outlook.kept_now(state, at=self.at, starts_at=row.period_starts_at)
                balance -= kept
                row.valid_until = self.at if kept else row.valid_until
            row.limit_units = row.counted_units - int(state.overage) + balance
            row.ceiling_units = position.ceiling_of(row)
            self._derived.add(row.pk)

    def _is_dirty(self, pk: int) -> bool:
        return pk in self._derived or pk in self._due

    def _account(self, row: Balance) -> _Account | None:
        """Return the engine's state of a current row that draws on more than its allowance.

        It is read by the row's counters as they are stored: before any of them moves.
        """
        if row.is_plain or row.limit_units is None or not row.is_current:
            return None
        place = place_of(row)
        if place not in self._accounts:
            state, stored = provenance.load_state_step(row, at=self.at)
            self._accounts[place] = _Account(state=state, stored=stored)
        return self._accounts[place]

    def _move(self, row: Balance, **counters: int) -> None:
        for name, units in counters.items():
            setattr(row, name, getattr(row, name) + units)
        self._note(row.pk, **counters)

    def _note(self, balance_id: int, **counters: int) -> None:
        self._moves.setdefault(balance_id, Counter()).update(counters)


def _place_of_hold(hold: Hold) -> Place:
    return Place(hold.feature_id, hold.scope)


def place_of(row: Balance) -> Place:
    """Return the place that the row counts."""
    return Place(row.feature_id, row.scope)
