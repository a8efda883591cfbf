"""Store the emergency switches of features."""

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from subscriptions.models.catalog import Feature


class FeatureSwitch(models.Model):
    """An operator's word that denies or allows a feature to everybody, until it expires."""

    class State(models.TextChoices):
        DENY = "deny"
        ALLOW = "allow"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="switches")
    state = models.CharField(max_length=8, choices=State)
    reason = models.TextField()
    actor = models.CharField(max_length=255)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "feature switches"
        constraints = [
            models.UniqueConstraint(
                fields=["feature"], condition=Q(ended_at__isnull=True), name="switch_one_live"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="switch_expires_later"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.feature_id} until {self.expires_at}"
