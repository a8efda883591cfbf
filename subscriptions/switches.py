"""Tell whether an operator has switched a feature off or wide open, from a copy ≤ 2 s old.

It is the one fact that a decision reads from a process's copy. Where the copy is too old and
the database does not answer, nothing is allowed: the error goes up.
"""

import threading
import time
from dataclasses import dataclass
from datetime import datetime

from core import clock as clocks
from subscriptions import errors
from subscriptions.facts import FeatureFacts
from subscriptions.models import Feature, FeatureSwitch

AGE_SECONDS_MAX = 2.0
State = FeatureSwitch.State


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A switch in force until an instant."""

    state: str
    expires_at: datetime


_lock = threading.Lock()
_by_feature_id: dict[int, Switch] = {}
_loaded_at = float("-inf")


def state_of(feature_id: int) -> Switch | None:
    """Return the feature's switch in force now; None where there is none."""
    switch = _copy().get(feature_id)
    if switch is None or clocks.process_clock().now() >= switch.expires_at:
        return None
    return switch


def refuse_suspended(*, feature_id: int, feature_key: str) -> None:
    """Return where the feature is not switched off.

    :raises FeatureSuspended: where it is; nothing is recorded.
    """
    switch = state_of(feature_id)
    if switch is not None and switch.state == State.DENY:
        facts = {"feature": feature_key, "until": clocks.rfc3339(switch.expires_at)}
        detail = f"{feature_key} is switched off for everybody; it comes back by itself."
        raise errors.FeatureSuspended(detail, facts=facts)


def is_open_to_all(feature_id: int) -> bool:
    """Tell whether an operator lets everybody use the feature, over any limit."""
    switch = state_of(feature_id)
    return switch is not None and switch.state == State.ALLOW


def is_on(feature: FeatureFacts, *, otherwise: bool) -> bool:
    """Tell whether the feature is on: as its switch says, and without one as what is granted says.

    A switch that opens a value or units to all grants none of them.
    """
    switch = state_of(feature.id)
    if switch is None:
        return otherwise
    if switch.state == State.DENY:
        return False
    return otherwise or feature.type == Feature.Type.BOOLEAN


def fingerprint() -> str:
    """Return what tells the switches in force now from others; empty where there are none."""
    now = clocks.process_clock().now()
    found = sorted(_copy().items())
    return ",".join(f"{key}:{each.state}" for key, each in found if now < each.expires_at)


def remember(switches: dict[int, Switch], *, loaded_at: float) -> None:
    """Replace this process's copy; `loaded_at` is on the monotonic clock."""
    global _by_feature_id, _loaded_at
    _by_feature_id, _loaded_at = switches, loaded_at


def forget() -> None:
    """Let the next question read the database."""
    remember({}, loaded_at=float("-inf"))


def _copy() -> dict[int, Switch]:
    if time.monotonic() - _loaded_at > AGE_SECONDS_MAX:
        with _lock:
            if time.monotonic() - _loaded_at > AGE_SECONDS_MAX:
                asked_at = time.monotonic()
                remember(_load(), loaded_at=asked_at)
    return _by_feature_id


def _load() -> dict[int, Switch]:
    rows = FeatureSwitch.objects.filter(ended_at__isnull=True)
    found = rows.values_list("feature_id", "state", "expires_at")
    return {each[0]: Switch(state=each[1], expires_at=each[2]) for each in found}
