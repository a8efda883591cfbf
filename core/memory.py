"""Remember for some seconds, in this process, what would cost a query to ask again."""

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Values by key, each until its own time is over; at most so many, then it starts anew.

    Safe in threads: each step is one of the interpreter's own.
    """

    def __init__(self, *, entries_max: int) -> None:
        self._entries_max = entries_max
        self._entries: dict[K, tuple[V, float]] = {}

    def find(self, key: K) -> V | None:
        """Return the value kept under the key; None where there is none or its time is over."""
        value, ends_at = self._entries.get(key, (None, 0.0))
        return value if time.monotonic() < ends_at else None

    def keep(self, key: K, value: V, *, seconds: float) -> None:
        """Keep a value for so many seconds."""
        if seconds > 0:
            if len(self._entries) >= self._entries_max:
                self.forget()
            self._entries[key] = (value, time.monotonic() + seconds)

    def forget(self) -> None:
        """Keep nothing."""
        self._entries = {}
