"""Let requests that come at once share a transaction: one drainer per process takes what piled up.

A lone request runs in its own thread, at once. Those that come meanwhile queue; the drainer's
thread decides all that are there in one transaction, and answers each after its commit. A waiter
holds no connection. Source: docs/adr/0018-group-commit.md.
"""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from core import db, waiting
from core import errors as core_errors
from metering.locks import Wait
from metering.services import groups
from metering.services.asking import Consumed
from metering.services.groups import Asked, Outcome, Verdict

GROUP_MAX = 256
GATHER_SECONDS = 50e-6
IDLE_SECONDS = 1.0
PATIENCE_SECONDS = 1.0
Answer = Consumed | None
logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that waits for its group: what came of it, or which requests it is to lead.

    `is_left` says that the database left the group without an answer.

    Who is woken wakes the next: waking all at once would let all of them contend for the
    interpreter, and each would be switched to twice.
    """

    asked: Asked
    outcome: Outcome | Exception = Verdict.ALONE
    led: Sequence["Ticket"] = ()
    following: "Ticket | None" = None
    has_given_up: bool = False
    is_left: bool = False
    done: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.done.acquire()

    def wait(self) -> None:
        """Wait until the waiter is woken, and wake the next.

        :raises Unavailable: where that takes longer than any lock may; the key resolves it.
        """
        seconds = settings.ENGINE.lock_timeout_ms / 1000 + PATIENCE_SECONDS
        is_woken = self.done.acquire(timeout=seconds)
        if not is_woken:
            self.has_given_up = True
        if (is_woken or self.done.acquire(blocking=False)) and self.following is not None:
            self.following.wake()
        if not is_woken:
            waiting.give_up()
            logger.warning("a request waited %.1f s for its group in vain", seconds)
            detail = "The database does not answer, the outcome is unknown: repeat with this key."
            raise core_errors.Unavailable(detail)

    def wake(self) -> None:
        """Wake the waiter; where he has given up, the next in his place."""
        ticket: Ticket | None = self
        while ticket is not None:
            ticket.done.release()
            if not ticket.has_given_up or not ticket.done.acquire(blocking=False):
                return
            ticket = ticket.following


def wake_all(tickets: Sequence[Ticket]) -> None:
    """Wake the waiters, each by the one before him."""
    for ticket, following in itertools.pairwise(tickets):
        ticket.following = following
    if tickets:
        tickets[0].wake()


class Combiner:
    """The queue of one process, and the thread that drains it while there is something in it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: list[Ticket] = []
        self._is_lone = False
        self._is_draining = False
        self._thread: threading.Thread | None = None
        self._had_replays = False

    def enter(self, ticket: Ticket) -> bool:
        """Return whether the caller is alone and decides himself; else the ticket is queued."""
        with self._changed:
            if not (self._is_lone or self._is_draining):
                self._is_lone = True
                return True
            self._queue.append(ticket)
            if not self._is_draining:
                self._is_draining = True
                self._wake()
            return False

    def leave(self) -> None:
        """Let the next caller be the lone one."""
        with self._changed:
            self._is_lone = False

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="group commit", daemon=True)
            self._thread.start()
        else:
            self._changed.notify()

    def _run(self) -> None:
        while True:
            group = self._take()
            self._drain(group)
            if len(group) > 1:
                time.sleep(GATHER_SECONDS)  # its callers come again: they double the next group

    def _take(self) -> list[Ticket]:
        with self._changed:
            while not self._queue:
                self._is_draining = False
                if not self._changed.wait(timeout=IDLE_SECONDS):
                    _close()
            group = self._queue[:GROUP_MAX]
            del self._queue[:GROUP_MAX]
            return group

    def _drain(self, group: Sequence[Ticket]) -> None:
        """Decide a group: briefly, else without the rows that are locked; settle every ticket."""
        try:
            wait, outcomes = self._decide([ticket.asked for ticket in group])
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever
            _note_failure(error)
            wait, outcomes = Wait.BRIEFLY, {}
            for ticket in group:
                ticket.is_left = isinstance(error, OperationalError | InterfaceError)
        if not db.is_postgres():
            _close()  # before anybody goes on: a fork that inherits it would drop its locks
        self._had_replays = Verdict.RECORDED in outcomes.values()
        locked: dict[UUID, list[Ticket]] = {}
        settled = []
        for ticket in group:
            ticket.outcome = outcomes.get(ticket.asked, Verdict.ALONE)
            if ticket.outcome is Verdict.ABSENT and wait is Wait.NOT_AT_ALL:
                locked.setdefault(ticket.asked.request.customer_id, []).append(ticket)
            else:
                settled.append(ticket)
        wake_all(settled)
        for leader, *others in locked.values():
            leader.led = (leader, *others)
            leader.wake()

    def _decide(self, group: Sequence[Asked]) -> tuple[Wait, Mapping[Asked, Outcome]]:
        try:
            return Wait.BRIEFLY, groups.decide(
                group, wait=Wait.BRIEFLY, is_replay_likely=self._had_replays
            )
        except DatabaseError as error:
            if not db.is_lock_timeout(error):
                raise
            return Wait.NOT_AT_ALL, groups.decide(group, wait=Wait.NOT_AT_ALL)


_combiner = Combiner()


def decide(asked: Asked) -> Answer:
    """Decide the request with those that come at once; None where it is to be decided alone.

    What is answered, or raised as a denial, is committed.

    :raises UsageDenied: with the failing item's feature; recorded under the key.
    :raises LockTimeout: where its rows were locked too long; nothing changed.
    :raises Unavailable: where the outcome is unknown; the key resolves it.
    """
    if connection.in_atomic_block:
        return _decide_lone(asked)
    ticket = Ticket(asked)
    if _combiner.enter(ticket):
        try:
            return _decide_lone(asked)
        finally:
            _combiner.leave()
    db.release_connection()  # else the waiters could hold all that the drainer may need
    ticket.wait()
    if ticket.is_left:
        waiting.give_up()
    if ticket.led:
        _decide_led(ticket.led)
    return _answer(ticket.outcome)


def _decide_lone(asked: Asked) -> Answer:
    try:
        outcomes = groups.decide([asked], wait=Wait.PATIENTLY)
    except (DatabaseError, InterfaceError) as error:
        if connection.in_atomic_block or db.is_lock_timeout(error):
            raise
        _close()  # what came of it is unknown: alone, the key finds it out
        return None
    return _answer(outcomes[asked])


def _decide_led(tickets: Sequence[Ticket]) -> None:
    """Decide the requests of one customer whose rows were locked, waiting as any operation does."""
    outcomes: Mapping[Asked, Outcome] = {}
    failure: Exception | None = None
    try:
        outcomes = groups.decide([ticket.asked for ticket in tickets], wait=Wait.PATIENTLY)
    except Exception as error:  # noqa: BLE001 - as above
        _note_failure(error)
        failure = db.translated(error) if db.is_lock_timeout(error) else None
    for ticket in tickets:
        ticket.outcome = failure or outcomes.get(ticket.asked, Verdict.ALONE)
    wake_all(tickets[1:])


def _answer(outcome: Outcome | Exception) -> Answer:
    """Return what is answered; None for what is to be decided alone."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome if isinstance(outcome, Consumed) else None


def _note_failure(error: Exception) -> None:
    """Log what nobody expects of a group, and take no risk with its connection."""
    if not isinstance(error, DatabaseError | InterfaceError | core_errors.DomainError):
        logger.error("a group failed; its requests are decided one by one", exc_info=error)
    _close()


def _close() -> None:
    """Let this thread take another connection when it next asks; a broken one may fail to close."""
    with contextlib.suppress(DatabaseError, InterfaceError):
        connection.close()


def _forget() -> None:
    """Start anew in a forked process: the drainer's thread stayed behind."""
    global _combiner  # noqa: PLW0603 - one queue per process is the point
    _combiner = Combiner()


os.register_at_fork(after_in_child=_forget)
