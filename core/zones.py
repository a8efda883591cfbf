"""Keep the zones in which somebody's periods were counted, beside the one that counts now."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self
from zoneinfo import available_timezones

from core import errors
from core.clock import rfc3339
from core.periods import FormerZone

CHANGES_MAX = 50


@functools.cache
def known() -> frozenset[str]:
    """Return the names of all IANA time zones: read once, for it opens hundreds of files."""
    return frozenset(available_timezones())


def is_known(name: str) -> bool:
    """Tell whether the name is an IANA time zone."""
    return name in known()


@dataclass(frozen=True, kw_only=True)
class Zones:
    """The zone that counts from the next boundary on, and those before it, the oldest first."""

    time_zone: str
    former: tuple[FormerZone, ...] = ()

    @classmethod
    def read(cls, time_zone: str, documents: Sequence[Mapping[str, Any]] | None) -> Self:
        """Return the zone with those before it, as a column keeps them."""
        former = tuple(
            FormerZone(
                time_zone=each["time_zone"],
                changed_at=datetime.fromisoformat(each["changed_at"]),
                renews_at=datetime.fromisoformat(each["renews_at"]),
            )
            for each in documents or ()
        )
        return cls(time_zone=time_zone, former=former)

    @property
    def documents(self) -> list[dict[str, str]] | None:
        """Return the zones before it as a column keeps them; None where it never changed."""
        return [
            {
                "time_zone": each.time_zone,
                "changed_at": rfc3339(each.changed_at),
                "renews_at": rfc3339(each.renews_at),
            }
            for each in self.former
        ] or None

    def changed(self, *, to: str, at: datetime, renews_at: datetime) -> Self:
        """Return the zones after a change at the instant, while a period runs up to `renews_at`.

        :raises Invalid: after 50 changes.
        """
        if self.time_zone == to:
            return self
        if len(self.former) == CHANGES_MAX:
            detail = f"The time zone was changed {CHANGES_MAX} times; it stays as it is."
            raise errors.Invalid.at("/time_zone", code="too_many", detail=detail)
        former = FormerZone(time_zone=self.time_zone, changed_at=at, renews_at=renews_at)
        return replace(self, time_zone=to, former=(*self.former, former))
