"""Threads of one process come one after the other, in no circle, and leave nothing behind."""

import threading
import time

import pytest

from core import db, errors, turns
from tests.concurrency import racing


class TestTurns:
    def test_come_one_after_the_other(self):
        inside, seen = [0], []

        def act(keys):
            with turns.in_turn(keys=keys) as has_waited:
                inside[0] += 1
                seen.append(inside[0])
                time.sleep(0.002)
                inside[0] -= 1
            return has_waited

        waited = racing.in_threads([lambda: act({"a", "b"}), lambda: act({"b", "a"})] * 10)

        assert seen == [1] * 20
        assert waited.count(False) >= 1
        assert turns._lines == {}

    def test_of_other_keys_wait_for_nobody(self):
        barrier = threading.Barrier(2, timeout=10)

        def act(key):
            with turns.in_turn(keys={key}) as has_waited:
                barrier.wait()
            return has_waited

        assert racing.in_threads([lambda: act("a"), lambda: act("b")]) == [False, False]

    def test_end_with_an_error_as_well(self):
        for _ in range(2):
            with pytest.raises(ValueError, match="mine"), turns.in_turn(keys={"a"}):
                raise ValueError("mine")
        assert turns._lines == {}

    def test_that_do_not_come_are_told_and_nothing_is_run(self, monkeypatch):
        monkeypatch.setattr(turns, "WAIT_SECONDS_MAX", 0.05)
        release = threading.Event()
        ran = []

        def hold():
            with turns.in_turn(keys={"a"}):
                return release.wait(timeout=10)

        def ask():
            try:
                with turns.in_turn(keys={"b", "a"}):
                    ran.append("ask")
            except errors.LockTimeout as refusal:
                return refusal.code
            finally:
                release.set()
            return "ran"

        holder = threading.Thread(target=hold)
        holder.start()
        while not turns._lines:
            time.sleep(0.001)
        assert ask() == "lock_timeout"
        holder.join()
        assert ran == []
        assert turns._lines == {}

    @pytest.mark.django_db(transaction=True)
    def test_are_not_waited_for_in_a_transaction(self):
        with db.transaction(), pytest.raises(RuntimeError), turns.in_turn(keys={"a"}):
            pass
        assert turns._lines == {}
