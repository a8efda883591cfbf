"""Replay: every vector."""

import json
from pathlib import Path

import pytest

from metering.services import replay

PATH = Path(__file__).parents[2] / "vectors" / "replay.json"
CASES = json.loads(PATH.read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_vector_holds(case):
    answer = replay.replay(case["timeline"])
    if "error" in case:
        assert answer["error"]["code"] == case["error"], answer
        return
    assert isinstance(answer, list), answer
    told = zip(answer, case["states"], strict=True)
    assert [{name: state[name] for name in facts} for state, facts in told] == case["states"]
