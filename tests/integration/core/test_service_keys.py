"""Service keys: rotated with an overlap, shown once, their use noted cheaply."""

import io
import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from core import errors
from core.actors import Actor
from core.models import AuditEntry, ServiceKey
from core.services import service_keys
from tests import factories

pytestmark = pytest.mark.django_db
ACTOR = Actor(name="user 1", reason="yearly")
DAY = timedelta(days=1)


def make(at, *, expires_at=None) -> service_keys.NewKey:
    return service_keys.create(
        name="backend",
        scopes=("usage:write",),
        expires_at=expires_at,
        clock=factories.standing(at),
    )


def rotate(made, at, overlap_seconds=3600) -> service_keys.NewKey:
    return service_keys.rotate(
        service_key_id=made.service_key.pk,
        overlap_seconds=overlap_seconds,
        actor=ACTOR,
        clock=factories.standing(at),
    )


def works(made, at) -> bool:
    try:
        service_keys.authenticate(credential=made.credential, clock=factories.standing(at))
    except errors.Unauthenticated:
        return False
    return True


class TestRotate:
    def test_lets_both_work_during_the_overlap(self, at):
        old = make(at, expires_at=at + 30 * DAY)
        new = rotate(old, at)
        assert works(old, at + timedelta(minutes=59))
        assert works(new, at + timedelta(minutes=59))
        assert not works(old, at + timedelta(hours=1))
        assert works(new, at + timedelta(hours=1))
        assert new.service_key.scopes == ["usage:write"]
        assert new.service_key.expires_at == at + 30 * DAY
        entry = AuditEntry.objects.get(action="service_key.rotated")
        assert (entry.actor, entry.reason) == ("user 1", "yearly")

    def test_never_lengthens_the_old_ones_life(self, at):
        old = make(at, expires_at=at + timedelta(minutes=5))
        rotate(old, at)
        assert not works(old, at + timedelta(minutes=5))

    def test_without_overlap_ends_the_old_one_at_once(self, at):
        old = make(at)
        rotate(old, at, overlap_seconds=0)
        assert not works(old, at)

    @pytest.mark.parametrize("overlap", [-1, service_keys.OVERLAP_SECONDS_MAX + 1])
    def test_refuses_an_overlap_out_of_bounds(self, at, overlap):
        old = make(at)
        with pytest.raises(errors.Invalid):
            rotate(old, at, overlap_seconds=overlap)
        assert ServiceKey.objects.count() == 1

    def test_refuses_what_ended_or_was_rotated_or_is_not_there(self, at):
        old = make(at)
        rotate(old, at)
        with pytest.raises(errors.VersionConflict):
            rotate(old, at)
        revoked = make(at)
        service_keys.revoke(service_key=revoked.service_key, clock=factories.standing(at))
        service_keys.revoke(service_key=revoked.service_key, clock=factories.standing(at + DAY))
        assert ServiceKey.objects.get(pk=revoked.service_key.pk).revoked_at == at
        with pytest.raises(errors.VersionConflict):
            rotate(revoked, at)
        revoked.service_key.pk = uuid.uuid4()
        with pytest.raises(errors.NotFound):
            rotate(revoked, at)
        with pytest.raises(errors.NotFound):
            service_keys.revoke(service_key=revoked.service_key, clock=factories.standing(at))
        assert ServiceKey.objects.count() == 3


class TestLastUse:
    def test_is_written_at_most_once_a_minute(self, at, django_assert_num_queries):
        made = make(at)
        with django_assert_num_queries(2):
            assert works(made, at)
        with django_assert_num_queries(1):
            assert works(made, at + timedelta(seconds=59))
        assert ServiceKey.objects.get().last_used_at == at
        with django_assert_num_queries(2):
            assert works(made, at + timedelta(seconds=60))
        assert ServiceKey.objects.get().last_used_at == at + timedelta(seconds=60)

    def test_is_not_written_for_a_wrong_secret(self, at):
        made = make(at)
        wrong = service_keys.NewKey(
            service_key=made.service_key, credential=f"{made.service_key.prefix}.wrong"
        )
        assert not works(wrong, at)
        assert ServiceKey.objects.get().last_used_at is None


class TestCommand:
    def run(self, *words) -> str:
        out = io.StringIO()
        call_command("servicekeys", *words, stdout=out)
        return out.getvalue().strip()

    def test_makes_lists_rotates_and_revokes(self):
        credential = self.run("create", "backend", "--scope", "usage:write", "--days", "30")
        prefix, _, secret = credential.partition(".")
        listed = self.run("list")
        assert prefix in listed
        assert secret not in listed
        assert "usable" in listed
        second = self.run("rotate", prefix, "--overlap-seconds", "60", "--reason", "yearly")
        assert second.partition(".")[0] != prefix
        assert "is revoked" in self.run("revoke", prefix)
        assert "ended" in self.run("list")

    def test_names_what_is_wrong(self):
        with pytest.raises(CommandError, match="no service key"):
            self.run("revoke", "nope")
        with pytest.raises(CommandError, match="expiry"):
            self.run("create", "x", "--scope", "usage:write", "--days", "-1")
        assert not ServiceKey.objects.exists()
