"""Give four words for transactions, and keep the order of locks.

`transaction` owns one, `transaction_required` stands in one, `savepoint` guards a part,
`after_commit` runs later. `operation` repeats a whole operation that the database threw back.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import ParamSpec, TypeVar

from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
)
from django.db import transaction as django_transaction

from core import errors

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS_MAX = 4
SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
IDLE_IN_TRANSACTION_TIMEOUT = "25P03"
ORDER_ATTRIBUTE = "_engine_lock_order"


class LockRank(IntEnum):
    """Order every lock of the engine; a transaction takes them in rising order.

    Source: docs/adr/0003-lock-order.md.
    """

    CUSTOMER = 10
    SUBSCRIPTION = 20
    RESOURCE = 30
    BALANCE = 40
    GRANT = 50
    HOLD = 60
    ROW = 70
    SEQUENCE = 80


class LockOrderViolated(RuntimeError):
    """Report a lock taken against the order: a bug, never an answer."""


@contextmanager
def transaction() -> Iterator[None]:
    """Own a transaction: returning from the block means that it is committed.

    :raises RuntimeError: inside another transaction.
    """
    with django_transaction.atomic(durable=True):
        yield


@contextmanager
def snapshot() -> Iterator[None]:
    """Read all of the block from one snapshot of the database, and write nothing.

    A transaction that stands already is joined: it has its own view.
    """
    if connection.in_atomic_block:
        yield
        return
    with django_transaction.atomic(durable=True):
        if is_postgres():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


@contextmanager
def savepoint() -> Iterator[None]:
    """Guard a part of the caller's transaction: an error undoes the part alone."""
    transaction_required()
    with django_transaction.atomic():
        yield


def transaction_required() -> None:
    """Refuse to go on outside a transaction.

    :raises RuntimeError: outside a transaction.
    """
    if not connection.in_atomic_block:
        msg = "this step needs the caller's transaction"
        raise RuntimeError(msg)


def is_in_transaction() -> bool:
    """Tell whether a transaction stands; the one that a test case rolls back is none."""
    return any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


def after_commit(action: Callable[[], None]) -> None:
    """Run the action once the transaction is committed, at once where there is none."""
    django_transaction.on_commit(action)


def is_postgres() -> bool:
    """Tell whether the database has row locks of its own."""
    return connection.vendor == "postgresql"


def release_connection() -> None:
    """Give this thread's connection back to the pool while it waits for another thread.

    It takes one again when it next asks the database. Nothing is done where there is no pool, or
    in a transaction.
    """
    own = connections[DEFAULT_DB_ALIAS]
    if own.connection is None or own.in_atomic_block:
        return
    if own.vendor == "postgresql" and own.settings_dict["OPTIONS"].get("pool"):
        own.close()


def note_lock(*, rank: LockRank, key: str) -> None:
    """Record a lock about to be taken, and refuse one against the order.

    :raises LockOrderViolated: where a higher lock is already held in this transaction.
    """
    transaction_required()
    blocks = [
        block for block in connection.atomic_blocks if not getattr(block, "_from_testcase", False)
    ]
    owner = blocks[0] if blocks else None
    held_by, highest = getattr(connection, ORDER_ATTRIBUTE, (None, (0, "")))
    if held_by is not owner or owner is None:
        highest = (0, "")
    if (rank, key) < highest:
        msg = f"lock {rank.name} {key} after {highest}"
        raise LockOrderViolated(msg)
    setattr(connection, ORDER_ATTRIBUTE, (owner, (int(rank), key)))


def array(values: Iterable[object]) -> str:
    """Return numbers, UUIDs or instants as the text of a PostgreSQL array, to be cast to it.

    The driver writes a list element by element in Python, and types one of integers by its
    largest, which makes a statement of each size.
    """
    return "{" + ",".join(["NULL" if each is None else str(each) for each in values]) + "}"


def text_array(values: Iterable[str]) -> str:
    """Return texts as the text of a PostgreSQL array, to be cast to `text[]`."""
    quoted = [each.replace("\\", "\\\\").replace('"', '\\"') for each in values]
    return '{"' + '","'.join(quoted) + '"}' if quoted else "{}"


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's SQLSTATE of a database error, or an empty string."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def operation(function: Callable[P, R]) -> Callable[P, R]:
    """Repeat the whole operation where the database threw it back, at most four times in all.

    :raises LockTimeout: when a lock was not granted in time; nothing changed.
    :raises Unavailable: when the database does not answer.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return function(*args, **kwargs)
            except (OperationalError, InterfaceError, DatabaseError) as error:
                if not _is_worth_repeating(error) or attempt == ATTEMPTS_MAX:
                    raise translated(error) from error
        raise AssertionError  # the loop returns or raises

    return run


def _is_worth_repeating(error: DatabaseError | InterfaceError) -> bool:
    repeatable = sqlstate(error) in {SERIALIZATION_FAILURE, DEADLOCK_DETECTED}
    return repeatable and not connection.in_atomic_block


def is_lock_timeout(error: BaseException) -> bool:
    """Tell whether the database gave up waiting for another transaction."""
    return sqlstate(error) in {LOCK_NOT_AVAILABLE, QUERY_CANCELED} or "database is locked" in str(
        error
    )


def translated(error: Exception) -> Exception:
    """Return what a database's error means to a caller; other errors stay themselves."""
    if is_lock_timeout(error):
        return errors.LockTimeout("The row is locked by another request; try again.")
    if (
        isinstance(error, OperationalError | InterfaceError)
        or sqlstate(error) == IDLE_IN_TRANSACTION_TIMEOUT
    ):
        detail = "The database does not answer, the outcome is unknown: repeat with the same key."
        return errors.Unavailable(detail)
    return error
