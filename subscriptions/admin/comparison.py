"""Say in words what a plan version grants and costs, and what it changes."""

import json

from core import money
from core.admin.operations import Table
from subscriptions.models import Entitlement, Feature, PlanVersion, Price, PriceModel


def find_before(version: PlanVersion) -> PlanVersion | None:
    """Return the plan's version before; None where it is the first."""
    return version.plan.versions.filter(number__lt=version.number).order_by("-number").first()


def table(*, before: PlanVersion | None, after: PlanVersion) -> Table:
    """Return every line of content that differs, with what it was and what it is."""
    was = _content(before) if before else {}
    now = _content(after)
    rows = [
        (name, was.get(name, "–"), now.get(name, "–"))
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    headers = (
        "What",
        f"Version {before.number}" if before else "Before",
        f"Version {after.number}",
    )
    return Table(title="What changes", headers=headers, rows=rows, empty_text="Nothing differs.")


def price_text(price: Price) -> str:
    """Return a price to read, e.g. `29.00 EUR a month`."""
    every = "a" if price.interval_count == 1 else f"every {price.interval_count}"
    amount = money.display(price.unit_amount_minor, currency=price.currency)
    if price.terms:
        amount = f"{price.model} {price.currency} by {terms_text(price.terms)}"
    elif price.model == PriceModel.PER_UNIT:
        amount = f"{amount} per unit"
    return f"{amount} {every} {price.interval}"


def terms_text(terms: object) -> str:
    """Return the terms of a price in a line."""
    return json.dumps(terms, ensure_ascii=False, sort_keys=True)


def entitlement_text(row: Entitlement) -> str:
    """Return what is granted, e.g. `1000 a month (hard)`."""
    if not row.enabled:
        return "not granted"
    if row.feature.type == Feature.Type.BOOLEAN:
        return "granted"
    if row.feature.type == Feature.Type.STATIC:
        return str(row.value)
    limit = "unlimited" if row.limit_units is None else f"{row.limit_units:,}"
    every = "a" if row.reset_count == 1 else f"every {row.reset_count}"
    quantity = " × quantity" if row.per_quantity else ""
    cap = f" up to {row.overage_cap_units:,} more" if row.overage_cap_units is not None else ""
    kept = "all" if row.rollover_max_units is None else f"{row.rollover_max_units:,}"
    rollover = "" if kept == "0" else f", keeps {row.rollover_min_units:,} … {kept} at a reset"
    own = "" if row.scope_limit_units is None else f", {row.scope_limit_units:,} for each"
    return f"{limit}{quantity} {every} {row.reset_interval} ({row.mode}{cap}{own}{rollover})"


def grants(version: PlanVersion) -> Table:
    """Return all that the version grants."""
    rows = [
        (row.feature.name, entitlement_text(row))
        for row in version.entitlements.select_related("feature").order_by("feature__key")
    ]
    return Table(title="", headers=("Feature", "Granted"), rows=rows)


def _content(version: PlanVersion) -> dict[str, str]:
    lines = {
        "trial": f"{version.trial_days} days, then {version.trial_end_policy}",
        "grace": f"{version.grace_seconds} seconds",
        "retries exhausted": version.past_due_policy,
    }
    for price in version.prices.all():
        lines[f"price {price.key}"] = price_text(price)
    for metered in version.metered_prices.select_related("feature"):
        name = f"usage of {metered.feature.key} in {metered.currency}"
        lines[name] = f"{metered.model} by {terms_text(metered.terms)}"
    for row in version.entitlements.select_related("feature"):
        lines[f"feature {row.feature.key}"] = entitlement_text(row)
    return lines
