"""Run ours and theirs in turns, and show the ratios: medians with their least and greatest."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
Turn = Callable[[], float]


@dataclass(kw_only=True)
class Figure:
    """One comparison: rates of both, a second, turn by turn, and the ratio to reach."""

    name: str
    against: str
    goal: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Return ours by theirs, of each round."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def row(self) -> list[str]:
        """Return the cells of the figure's row."""
        ratios = self.ratios
        return [
            self.name,
            f"{statistics.median(self.ours):,.0f}",
            self.against,
            f"{statistics.median(self.theirs):,.0f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})",
            self.goal,
        ]


HEADINGS = ["what", "a second", "against", "a second", "ratio (least … greatest)", "goal"]


def interleave(comparisons: Sequence[tuple[Figure, Turn, Turn]], *, rounds: int) -> list[Figure]:
    """Let every pair take its turns, round by round, and return the figures."""
    for number in range(rounds):
        for figure, ours, theirs in comparisons:
            pair = [(figure.ours, ours), (figure.theirs, theirs)]
            for rates, turn in pair if number % 2 == 0 else reversed(pair):
                rates.append(turn())
            print(f"  {number + 1}/{rounds} {figure.name}: {figure.ratios[-1]:.2f}", flush=True)
    return [figure for figure, _, _ in comparisons]


def report(name: str, figures: Sequence[Figure], *, notes: Sequence[str] = ()) -> None:
    """Print the table with the machine, and write both to `benchmarks/results/`."""
    rows = [HEADINGS, *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    text = "\n".join([*lines, "", machine(), *notes])
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(f"{text}\n")
    measured = [
        {"name": each.name, "against": each.against, "ours": each.ours, "theirs": each.theirs}
        for each in figures
    ]
    (RESULTS / f"{name}.json").write_text(json.dumps(measured, indent=1) + "\n")


def machine() -> str:
    """Return on what and when this was measured."""
    load = os.getloadavg()[0]
    at = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{os.cpu_count()} processors ({platform.machine()}), Python {platform.python_version()}, "
        f"load {load:.1f} at the end, {at}"
    )
