"""Store users, customers, credentials, idempotency records and the outbox."""

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from uuid_utils.compat import uuid7

from core.periods import Interval, Recurrence
from core.zones import Zones

SCOPES = (
    "usage:read",
    "usage:write",
    "entitlements:read",
    "subscriptions:read",
    "subscriptions:write",
    "customers:read",
    "customers:write",
    "events:write",
    "meters:read",
    "bookings:read",
    "bookings:write",
    "billing:read",
    "billing:write",
)


if TYPE_CHECKING:
    _TextField = models.TextField[Any, Any]
else:
    _TextField = models.TextField


class DocumentField(_TextField):
    """Keep a JSON document to the byte: a replay answers what the first request answered."""

    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def from_db_value(self, value: str | None, *_: object) -> object:
        """Return the document."""
        return None if value is None else orjson.loads(value)

    def get_prep_value(self, value: object) -> str | None:
        """Return the text to store."""
        return None if value is None else orjson.dumps(value).decode()


class User(AbstractUser):
    """A person who logs in, by username or by e-mail address."""

    email = models.EmailField(max_length=254)
    email_verified_at = models.DateTimeField(null=True, blank=True)
    token_version = models.PositiveIntegerField(
        default=0, help_text="Raised to revoke every token issued so far."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("username"), name="user_username_unique"),
            models.UniqueConstraint(Lower("email"), name="user_email_unique"),
        ]

    def __str__(self) -> str:
        return self.username


class CustomerQuerySet(models.QuerySet["Customer"]):
    """Filter customers."""

    def named(self, name: str) -> "CustomerQuerySet":
        """Keep the customer of an external key, and the one whose id the name writes."""
        with suppress(ValueError):
            return self.filter(Q(external_key=name) | Q(pk=UUID(name)))
        return self.filter(external_key=name)


class Customer(models.Model):
    """Who subscribes; users are its members."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    external_key = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=255)
    time_zone = models.CharField(max_length=63, default="UTC")
    former_zones = models.JSONField(
        null=True, blank=True, help_text="Zones before it; empty where it never changed."
    )
    currency = models.CharField(max_length=3, default="EUR")
    revision = models.PositiveBigIntegerField(
        default=0, help_text="Raised by every operation that holds the customer's lock."
    )
    revised_at = models.DateTimeField(
        null=True, blank=True, help_text="The instant of the operation that raised it last."
    )
    test_clock_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="What time it is for a customer of an integrator's tests; set at creation only.",
    )
    created_at = models.DateTimeField()

    objects = CustomerQuerySet.as_manager()

    def __str__(self) -> str:
        is_told = self.external_key not in {self.name, str(self.pk)}
        return f"{self.name} ({self.external_key})" if is_told else self.name

    @property
    def zones(self) -> Zones:
        """Return the zone that counts from the next boundary on, with those before it."""
        return Zones.read(self.time_zone, self.former_zones)

    @property
    def months(self) -> Recurrence:
        """Return the months since the creation: the periods of the default plan."""
        own = self.zones
        return Recurrence(
            anchor=self.created_at,
            time_zone=own.time_zone,
            interval=Interval.MONTH,
            former_zones=own.former,
        )


class Member(models.Model):
    """A user's place in a customer."""

    class Role(models.TextChoices):
        OWNER = "owner"
        BILLING = "billing"
        MEMBER = "member"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="members")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role, default=Role.OWNER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "customer"], name="member_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.customer_id} as {self.role}"


class ServiceKey(models.Model):
    """A backend's credential: a public prefix and the hash of its secret."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    secret_hash = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(
        null=True, blank=True, help_text="Written at most once a minute."
    )
    rotated_at = models.DateTimeField(
        null=True, blank=True, help_text="When another key was put in its place."
    )

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"

    def is_usable(self, *, at: datetime) -> bool:
        """Tell whether the key authenticates at the instant."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


class RefreshToken(models.Model):
    """One refresh token of a family; spent once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    family = models.UUIDField(db_index=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    spent_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.id} of {self.family}"


class IdempotencyRecord(models.Model):
    """The claim and the answer of one keyed operation outside the usage family."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    body = DocumentField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["customer", "key"], name="idempotency_key_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.key}"


class OutboxEvent(models.Model):
    """A fact committed with the change it speaks of, delivered afterwards."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event_type = models.CharField(max_length=100)
    customer = models.ForeignKey(Customer, null=True, on_delete=models.PROTECT, related_name="+")
    payload = models.JSONField()
    occurred_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.event_type} at {self.occurred_at}"


class OutboxDelivery(models.Model):
    """One consumer's share of an event: leased while it is brought, then marked."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.ForeignKey(OutboxEvent, on_delete=models.PROTECT, related_name="deliveries")
    consumer = models.CharField(max_length=100)
    leased_until = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event", "consumer"], name="outbox_delivery_unique"),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=Q(delivered_at__isnull=True),
                name="outbox_delivery_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.consumer}"


class WorkFailure(models.Model):
    """A piece of due work that failed: tried again later, or parked for a person to see."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.CharField(max_length=100)
    key = models.CharField(max_length=100)
    attempts = models.PositiveIntegerField()
    failed_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField(
        null=True, blank=True, help_text="Empty where it is parked."
    )
    error = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "key"], name="work_failure_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.job} {self.key}: {self.attempts} attempts"


class AuditEntry(models.Model):
    """One mutation: who changed what, from what to what, and why. Append-only by trigger."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    at = models.DateTimeField(db_index=True)
    actor = models.CharField(max_length=255)
    action = models.CharField(max_length=100)
    object_type = models.CharField(max_length=100)
    object_id = models.CharField(max_length=100)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    reason = models.TextField(blank=True)
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["object_type", "object_id", "id"], name="audit_of_object"),
            models.Index(fields=["actor", "id"], name="audit_of_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.action} of {self.object_type} {self.object_id} by {self.actor}"


class Mail(models.Model):
    """A mail to be written and sent: its text, with its links, is made when it is sent."""

    class Kind(models.TextChoices):
        VERIFICATION = "verification"
        RESET = "reset"
        NAME_TAKEN = "name_taken"
        ADDRESS_CHANGED = "address_changed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    address = models.EmailField(max_length=254)
    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True, help_text="Empty once it is sent or given up.")
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["due_at"], name="mail_due", condition=Q(due_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.address}"


class RateState(models.Model):
    """How far ahead of the clock a caller is under one rate limit (core/rates.py)."""

    key = models.CharField(primary_key=True, max_length=64)
    ahead_until_us = models.BigIntegerField(default=0, db_index=True)

    def __str__(self) -> str:
        return self.key
