"""docs/replay.md: its example is what the function answers, its fields are those that are read."""

import json
import re
from pathlib import Path

from metering.services import replay
from metering.services.replay import reading
from subscriptions.models import PRIORITY_DEFAULT

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "replay.md").read_text()
BLOCK = re.compile(r"^```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class TestReplayPage:
    def test_shows_what_is_answered(self):
        timeline, states = (json.loads(block) for block in BLOCK.findall(PAGE))
        assert replay.replay(timeline) == states

    def test_names_every_field(self):
        first_cells = re.findall(r"^\| ([\w, ]+) \|", PAGE, re.MULTILINE)
        named = {name for cell in first_cells for name in cell.split(", ")}
        answered = {"balances", "balance", "overage", "usage_in_period", "period", "has_access"}
        assert reading.TIMELINE | reading.GRANT | answered <= named

    def test_tells_the_default_priority(self):
        assert f"| {PRIORITY_DEFAULT} |" in PAGE
