"""How long a request waits for the database after it has waited in vain."""

import time

from core import waiting


class TestPatience:
    def test_is_what_is_asked_until_something_was_waited_for_in_vain(self):
        with waiting.request():
            assert waiting.bounded(4.5) == 4.5

    def test_is_a_second_for_all_that_comes_afterwards(self, monkeypatch):
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now)
        with waiting.request():
            waiting.give_up()
            assert waiting.bounded(4.5) == 1.0
            assert waiting.bounded(0.2) == 0.2
            now += 0.75
            waiting.give_up()  # in vain again: it is not lengthened
            assert waiting.bounded(4.5) == 0.25
            now += 5
            assert waiting.bounded(4.5) == 0.0

    def test_is_every_request_s_own(self):
        with waiting.request():
            waiting.give_up()
        with waiting.request():
            assert waiting.bounded(4.5) == 4.5

    def test_has_no_end_outside_requests(self):
        waiting.give_up()
        assert waiting.bounded(4.5) == 4.5
