"""Read balances, the ledger and where units come from; nothing here writes or locks."""

from metering.selectors.balances import get_balances_at
from metering.selectors.ledger import list_entries
from metering.selectors.overview import (
    Overview,
    Standing,
    get_overview,
    governing_of,
    overview_from,
    overview_of,
    standing_of,
    would_be,
)
from metering.selectors.reading import Reading, find_reading

__all__ = [
    "Overview",
    "Reading",
    "Standing",
    "find_reading",
    "get_balances_at",
    "get_overview",
    "governing_of",
    "list_entries",
    "overview_from",
    "overview_of",
    "standing_of",
    "would_be",
]
