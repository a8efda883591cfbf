"""Switch a feature off, or open to everybody, in an emergency: reasoned, expiring, audited."""

from datetime import datetime, timedelta

from core import clock as clocks
from core import db, errors
from core.actors import Actor
from core.services import audit
from subscriptions import errors as own_errors
from subscriptions import locks, switches
from subscriptions.models import Feature, FeatureSwitch

TTL_SECONDS_MIN, TTL_SECONDS_MAX = 60, 7 * 24 * 3600


@db.operation
def turn(
    *, feature_key: str, state: str, ttl_seconds: int, actor: Actor, clock: clocks.Clock
) -> FeatureSwitch:
    """Deny or allow a feature to everybody for a time; a switch in force is replaced.

    Every process obeys within 2 s, this one at once. `ttl_seconds` is 60 … 604,800; the actor
    gives a reason.

    :raises FeatureUnknown: where the key names none.
    :raises Invalid: for another state, a time out of its bounds, or no reason.
    """
    if state not in FeatureSwitch.State.values:
        raise errors.Invalid.at("/state", code="invalid_choice", detail="A state is deny or allow.")
    if not TTL_SECONDS_MIN <= ttl_seconds <= TTL_SECONDS_MAX:
        detail = f"A switch holds {TTL_SECONDS_MIN} … {TTL_SECONDS_MAX} seconds."
        raise errors.Invalid.at("/ttl_seconds", code="out_of_bounds", detail=detail)
    if not actor.reason.strip():
        raise errors.Invalid.at("/reason", code="required", detail="Say why.")
    with db.transaction():
        feature = _locked(feature_key)
        at = clock.now()
        _end_step(feature, actor=actor, at=at)
        switch = FeatureSwitch.objects.create(
            feature=feature,
            state=state,
            reason=actor.reason,
            actor=actor.name,
            created_at=at,
            expires_at=at + timedelta(seconds=ttl_seconds),
        )
        audit.record_step(
            actor=actor,
            action="feature.switched",
            row=switch,
            at=at,
            after=audit.snapshot(switch),
        )
        db.after_commit(switches.forget)
        return switch


@db.operation
def release(*, feature_key: str, actor: Actor, clock: clocks.Clock) -> bool:
    """End the feature's switch; tell whether there was one in force.

    :raises FeatureUnknown: where the key names none.
    """
    with db.transaction():
        feature = _locked(feature_key)
        was_in_force = _end_step(feature, actor=actor, at=clock.now())
        db.after_commit(switches.forget)
        return was_in_force


def _end_step(feature: Feature, *, actor: Actor, at: datetime) -> bool:
    """End the live row of the feature, at its own expiry where that has passed."""
    live = FeatureSwitch.objects.filter(feature=feature, ended_at__isnull=True).first()
    if live is None:
        return False
    before = audit.snapshot(live)
    live.ended_at = min(at, live.expires_at)
    live.save(update_fields=["ended_at"])
    audit.record_step(
        actor=actor,
        action="feature.switch_ended",
        row=live,
        at=at,
        before=before,
        after=audit.snapshot(live),
    )
    return live.ended_at == at


def _locked(feature_key: str) -> Feature:
    try:
        return locks.lock_feature(key=feature_key)
    except Feature.DoesNotExist as error:
        raise own_errors.FeatureUnknown.named(feature_key) from error
