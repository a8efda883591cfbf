"""Add the usage ledger up by windows of time."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import BigIntegerField, Case, F, Sum, When

from core.periods import Interval, Period
from metering import windows
from metering.models import UsageEntry
from metering.windows import WindowNumber

COUNTED = {
    UsageEntry.Kind.CONSUME: 1,
    UsageEntry.Kind.RECORD: 1,
    UsageEntry.Kind.CAPTURE: 1,
    UsageEntry.Kind.REVERSAL: -1,
    UsageEntry.Kind.ADJUSTMENT: -1,
}
BUCKETS = (Interval.HOUR, Interval.DAY, Interval.WEEK, Interval.MONTH)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The units that a customer used of a feature in one window; below 0 where more came back."""

    period: Period
    units: int


def list_history(*, customer_id: UUID, feature_id: int, spans: Sequence[Period]) -> list[Bucket]:
    """Return what the ledger counted in each of the ascending windows, in one statement.

    An entry counts at the instant at which it was made, a reversal or adjustment against it.
    Members' and entities' usage is in the customer's own.
    """
    windows.prepare_connection()
    taken_off = [kind for kind, sign in COUNTED.items() if sign < 0]
    entries = UsageEntry.objects.filter(
        balance__customer=customer_id,
        balance__feature=feature_id,
        balance__scope="",
        kind__in=list(COUNTED),
        consumed_at__gte=spans[0].starts_at,
        consumed_at__lt=spans[-1].ends_at,
    ).annotate(window=WindowNumber("consumed_at", starts=[each.starts_at for each in spans]))
    units = Case(
        When(kind__in=taken_off, then=-F("units")),
        default=F("units"),
        output_field=BigIntegerField(),
    )
    found = dict(entries.values("window").annotate(total=Sum(units)).values_list("window", "total"))
    return [
        Bucket(period=span, units=int(found.get(number, 0)))
        for number, span in enumerate(spans, start=1)
    ]
