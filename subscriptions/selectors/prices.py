"""Read prices; one of a published version never changes and is read once a process."""

from collections.abc import Iterable

from subscriptions.models import MeteredPrice, PlanVersion, Price, Subscription

_prices_by_id: dict[int, Price] = {}
_metered_by_version: dict[int, tuple[MeteredPrice, ...]] = {}


def give_prices(rows: Iterable[Subscription]) -> None:
    """Let each subscription have its price at hand, read in one statement or known already."""
    priced = {row: row.price_id for row in rows if row.price_id is not None}
    unknown = set(priced.values()) - _prices_by_id.keys()
    read = _read_prices(unknown) if unknown else {}
    for row, price_id in priced.items():
        row.price = read[price_id] if price_id in read else _prices_by_id[price_id]


def _read_prices(ids: set[int]) -> dict[int, Price]:
    rows = Price.objects.filter(pk__in=ids).select_related("plan_version")
    found = {each.pk: each for each in rows}
    _prices_by_id.update(
        {pk: each for pk, each in found.items() if each.plan_version.published_at is not None}
    )
    return found


def list_metered_prices(*, plan_version_id: int, currency: str) -> list[MeteredPrice]:
    """Return what the usage of the version's features costs in the currency, by feature."""
    known = _metered_by_version.get(plan_version_id)
    if known is None:
        version = PlanVersion.objects.get(pk=plan_version_id)
        rows = version.metered_prices.select_related("feature").order_by("feature__key")
        known = tuple(rows)
        if version.published_at is not None:
            _metered_by_version[plan_version_id] = known
    return [each for each in known if each.currency == currency]


def forget_prices() -> None:
    """Empty this process's copy of the prices."""
    _prices_by_id.clear()
    _metered_by_version.clear()
