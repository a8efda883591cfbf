"""Say what a replay is given, the facts, and what it answers, the states."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from core.periods import Period, Recurrence
from metering.sources import Source, Units


@dataclass(frozen=True, kw_only=True)
class Amount:
    """The amount of a grant that is in force from an instant on."""

    at: datetime
    units: Units


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A source as it was first granted, and the amounts that it had later."""

    source: Source
    amounts: tuple[Amount, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Return:
    """Units of a usage that were given back at an instant."""

    at: datetime
    units: Units


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Units used, or held, at an instant; of one instant the smaller id comes first."""

    id: str
    at: datetime
    units: Units
    returns: tuple[Return, ...] = ()

    def units_at(self, at: datetime) -> Units:
        """Return what stands of it at the instant."""
        return self.units - sum(each.units for each in self.returns if each.at <= at)


@dataclass(frozen=True, kw_only=True)
class Reset:
    """A reset by hand; `preserve_overage` None leaves it to the timeline."""

    at: datetime
    retain_anchor: bool = False
    preserve_overage: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Everything that an entitlement's state depends on, in any order.

    A gauge counts its newest usage alone. `usage_period` None is a period that only a reset by
    hand ends. `is_decimal` tells that units are shown as decimals.
    """

    measure_from: datetime
    queries: tuple[datetime, ...]
    usage_period: Recurrence | None = None
    grants: tuple[Grant, ...] = ()
    usage: tuple[Usage, ...] = ()
    resets: tuple[Reset, ...] = ()
    preserve_overage_at_reset: bool = False
    is_soft_limit: bool = False
    is_gauge: bool = False
    is_decimal: bool = False


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state at an instant; `balances` names the active grants alone.

    `grant_used_in_period` is the covered part of the usage, overage preserved from the period
    before included.
    """

    at: datetime
    overage: Units
    usage_in_period: Units
    grant_used_in_period: Units
    period: Period
    is_soft_limit: bool
    balances: Mapping[str, Units] = field(default_factory=dict)

    @property
    def balance(self) -> Units:
        """What is left on all active grants."""
        return sum(self.balances.values())

    @property
    def granted_in_period(self) -> Units:
        """What the period gave so far: the covered part and what is left."""
        return self.grant_used_in_period + self.balance

    @property
    def has_access(self) -> bool:
        """Whether a unit more may be used."""
        return self.is_soft_limit or self.balance > 0
