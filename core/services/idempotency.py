"""Claim idempotency keys of every operation but usage, whose ledger claims its own.

The claim commits with the effect. Source: draft-ietf-httpapi-idempotency-key-header.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import orjson
from django.db import IntegrityError, OperationalError
from django.db.models import QuerySet

from core import db, errors, statements
from core.models import IdempotencyRecord

KEY_LENGTH_MAX = 255
Row = TypeVar("Row")
Claim = Callable[[Row, datetime], None]


@dataclass(frozen=True, kw_only=True)
class KeyedRequest:
    """An idempotency key (1 … 255 visible ASCII) and the fingerprint of its request."""

    key: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The answer that a key stands for: its HTTP-neutral status number and body."""

    status: int
    body: Mapping[str, object]
    replayed: bool


class KeyTaken(Exception):
    """Report that a twin's claim committed first; the transaction is lost."""


def fingerprint(*, method: str, path: str, body: object) -> str:
    """Return the SHA-256 of method, path and canonical body: key order does not matter."""
    canonical = orjson.dumps([method, path, body], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


@statements.compiled
def _list_recorded(*, customer_id: UUID, key: str) -> "QuerySet[IdempotencyRecord]":
    return IdempotencyRecord.objects.filter(customer_id=customer_id, key=key)


def find_recorded(*, customer_id: UUID, keyed: KeyedRequest) -> Recorded | None:
    """Return the answer recorded under the key; None where there is none.

    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    records = _list_recorded(customer_id=customer_id, key=keyed.key)
    if not records:
        return None
    record = records[0]
    refuse_another_request(recorded=record.fingerprint, asked=keyed.fingerprint)
    return Recorded(status=record.status, body=record.body, replayed=True)


def refuse_another_request(*, recorded: str, asked: str) -> None:
    """Return where the fingerprints are equal.

    :raises IdempotencyKeyReused: where they differ.
    """
    if recorded != asked:
        detail = "This key was used for a request with another path or body; take a new key."
        raise errors.IdempotencyKeyReused(detail)


def claim_step(
    *,
    customer_id: UUID,
    keyed: KeyedRequest,
    status: int,
    body: Mapping[str, object],
    at: datetime,
) -> Recorded:
    """Record the answer under the key, as the last write of the caller's transaction.

    :raises KeyTaken: where a twin committed first.
    :raises IdempotencyInProgress: where a twin holds the key uncommitted for too long.
    """
    db.transaction_required()
    try:
        IdempotencyRecord.objects.create(
            customer_id=customer_id,
            key=keyed.key,
            fingerprint=keyed.fingerprint,
            status=status,
            body=dict(body),
            created_at=at,
        )
    except IntegrityError as error:
        raise KeyTaken from error
    except OperationalError as error:
        raise in_progress(error) from error
    return Recorded(status=status, body=body, replayed=False)


def in_progress(error: OperationalError) -> Exception:
    """Return what a claim that waited too long means; other errors stay themselves."""
    if not db.is_lock_timeout(error):
        return error
    return errors.IdempotencyInProgress(
        "The first request with this key is still running; try again."
    )


def once(*, customer_id: UUID, keyed: KeyedRequest, run: Callable[[], Recorded]) -> Recorded:
    """Run an operation that claims the key, or give the answer that the key stands for.

    A refusal is not recorded, so after one the key is looked up again: while this request
    waited for its locks, its twin may have done what this one now finds done.

    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    recorded = find_recorded(customer_id=customer_id, keyed=keyed)
    if recorded is not None:
        return recorded
    try:
        return run()
    except (KeyTaken, errors.DomainError):
        recorded = find_recorded(customer_id=customer_id, keyed=keyed)
        if recorded is None:
            raise
        return recorded


def _claim_nothing(_: object, __: datetime) -> None:
    """Leave no record of an answer: for callers without a key."""


NO_CLAIM = _claim_nothing


def once_by_claim(
    *,
    customer_id: UUID,
    keyed: KeyedRequest,
    status: int,
    render: Callable[[Row], Mapping[str, object]],
    act: Callable[[Claim[Row]], object],
) -> Recorded:
    """Run an operation that hands what it did to its claim, as its last write; record the answer.

    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    answers: list[Recorded] = []

    def claim(row: Row, at: datetime) -> None:
        answer = claim_step(
            customer_id=customer_id, keyed=keyed, status=status, body=render(row), at=at
        )
        answers.append(answer)

    def run() -> Recorded:
        act(claim)
        return answers[-1]

    return once(customer_id=customer_id, keyed=keyed, run=run)
