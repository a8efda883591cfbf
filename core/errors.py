"""Define what the domain may refuse, without any word of HTTP."""

import enum
from collections.abc import Mapping
from typing import ClassVar


class Category(enum.Enum):
    """Sort refusals by what the caller can do about them."""

    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    PAYMENT_REQUIRED = "payment_required"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    NOT_ALLOWED = "not_allowed"
    CONFLICT = "conflict"
    VERSION_CONFLICT = "version_conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    UNPROCESSABLE = "unprocessable"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


class DomainError(Exception):
    """Refuse an operation with a stable code, a title, a detail and facts.

    `facts()` are JSON-ready members that stand beside the problem's own. `replayed` marks a
    recorded refusal that is given again under its idempotency key. The class's examples stand
    in the schema.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    category: ClassVar[Category]
    example_detail: ClassVar[str] = ""
    example_facts: ClassVar[Mapping[str, object]] = {}

    def __init__(
        self, detail: str, *, facts: Mapping[str, object] | None = None, replayed: bool = False
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.replayed = replayed
        self._facts = dict(facts or {})

    def facts(self) -> dict[str, object]:
        """Return the facts that explain the refusal."""
        return dict(self._facts)


class Malformed(DomainError):
    """Refuse what cannot be read as the expected shape."""

    code = "malformed_request"
    title = "The request cannot be read"
    category = Category.MALFORMED


class UnknownField(DomainError):
    """Refuse an input field that the operation does not know."""

    code = "unknown_field"
    title = "The request has an unknown field"
    category = Category.MALFORMED


class NaiveDatetime(DomainError):
    """Refuse a time without an offset."""

    code = "naive_datetime"
    title = "The time has no offset"
    category = Category.MALFORMED


class IdempotencyKeyMissing(DomainError):
    """Refuse a mutation without its Idempotency-Key."""

    code = "idempotency_key_missing"
    title = "The Idempotency-Key is missing"
    category = Category.MALFORMED


class IdempotencyKeyReused(DomainError):
    """Refuse a key that stands for another payload or path."""

    code = "idempotency_key_reused"
    title = "The Idempotency-Key was used for another request"
    category = Category.UNPROCESSABLE


class IdempotencyInProgress(DomainError):
    """Refuse a twin whose first request has not ended within the wait."""

    code = "idempotency_in_progress"
    title = "The first request with this key is still running"
    category = Category.CONFLICT


class Unauthenticated(DomainError):
    """Refuse a caller without a valid credential."""

    code = "unauthenticated"
    title = "Authentication is required"
    category = Category.UNAUTHENTICATED


class TokenRevoked(DomainError):
    """Refuse a token that was revoked."""

    code = "token_revoked"
    title = "The token is revoked"
    category = Category.UNAUTHENTICATED


class TokenSpent(DomainError):
    """Refuse a refresh token that was used before."""

    code = "token_spent"
    title = "The refresh token is spent"
    category = Category.UNAUTHENTICATED


class PermissionDenied(DomainError):
    """Refuse a caller who may not do this."""

    code = "permission_denied"
    title = "You may not do this"
    category = Category.DENIED


class InsufficientScope(DomainError):
    """Refuse a service key whose scopes do not cover the operation."""

    code = "insufficient_scope"
    title = "The service key lacks a scope"
    category = Category.DENIED


class NotFound(DomainError):
    """Refuse what does not exist for this caller."""

    code = "not_found"
    title = "There is no such thing"
    category = Category.NOT_FOUND


class Invalid(DomainError):
    """Refuse values that break a rule; `errors` carries pointer, code and detail of each."""

    code = "invalid"
    title = "A value is not valid"
    category = Category.UNPROCESSABLE
    example_detail = "Ensure this value is greater than or equal to 1."
    example_facts: ClassVar[Mapping[str, object]] = {
        "errors": [
            {
                "pointer": "/units",
                "code": "min_value",
                "detail": "Ensure this value is greater than or equal to 1.",
            }
        ]
    }

    @classmethod
    def at(cls, pointer: str, *, code: str, detail: str) -> "Invalid":
        """Return the refusal of one value, named by its JSON pointer."""
        return cls(detail, facts={"errors": [{"pointer": pointer, "code": code, "detail": detail}]})


class VersionConflict(DomainError):
    """Refuse a change made on an older version than the stored one."""

    code = "version_conflict"
    title = "The object has changed"
    category = Category.VERSION_CONFLICT


class TestClockRefused(DomainError):
    """Refuse a test clock where none is allowed, or for a customer who has none."""

    code = "test_clock_refused"
    title = "The customer has no test clock"
    category = Category.UNPROCESSABLE
    __test__ = False  # its name is not a test's


class LockTimeout(DomainError):
    """Refuse after waiting for a lock as long as configured; nothing changed."""

    code = "lock_timeout"
    title = "The row is busy"
    category = Category.UNAVAILABLE


class Unavailable(DomainError):
    """Refuse because the database cannot answer; closed, never open."""

    code = "unavailable"
    title = "The service is not available"
    category = Category.UNAVAILABLE


class MethodNotAllowed(DomainError):
    """Refuse a method that the address does not know."""

    code = "method_not_allowed"
    title = "The method is not allowed here"
    category = Category.NOT_ALLOWED


class PayloadTooLarge(DomainError):
    """Refuse a body beyond the configured size."""

    code = "payload_too_large"
    title = "The body is too large"
    category = Category.TOO_LARGE


class UnsupportedMediaType(DomainError):
    """Refuse a body of a type that the operation does not read."""

    code = "unsupported_media_type"
    title = "The body's media type is not supported"
    category = Category.UNSUPPORTED


class RateLimited(DomainError):
    """Refuse for a while a caller who asks too often; a used-up limit is never this."""

    code = "rate_limited"
    title = "Too many requests"
    category = Category.RATE_LIMITED


class Internal(DomainError):
    """Report a fault of ours, without detail; the log has it under the request id."""

    code = "internal_error"
    title = "The service failed"
    category = Category.INTERNAL
