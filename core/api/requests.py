"""Take from a request what services need: its idempotency key and its id."""

import re

from rest_framework.request import Request

from core import errors
from core.api import problems
from core.services import idempotency
from core.services.idempotency import KeyedRequest

HEADER = "Idempotency-Key"
VISIBLE_ASCII = re.compile(r"[!-~]{1,255}", re.ASCII)


def keyed(request: Request) -> KeyedRequest:
    """Return the request's idempotency key with the fingerprint of method, path and body.

    :raises IdempotencyKeyMissing: without the header.
    :raises Malformed: for a key that is not 1 … 255 visible ASCII characters.
    """
    key = request.headers.get(HEADER)
    if key is None or not key.strip():
        detail = f"Send the header {HEADER}: a fresh value per operation, the same on a retry."
        raise errors.IdempotencyKeyMissing(detail)
    refuse_odd_key(key)
    fingerprint = idempotency.fingerprint(
        method=request.method or "", path=request.path, body=request.data
    )
    return KeyedRequest(key=key, fingerprint=fingerprint)


def refuse_odd_key(key: str) -> None:
    """Return where the key is 1 … 255 visible ASCII characters.

    :raises Malformed: where it is not.
    """
    if not VISIBLE_ASCII.fullmatch(key):
        detail = f"{HEADER} is 1 … {idempotency.KEY_LENGTH_MAX} visible ASCII characters."
        raise errors.Malformed(detail)


def request_id(request: Request) -> str:
    """Return the id under which this request is logged and answered."""
    return problems.request_id(request)
