"""Six parallel calls with one refresh token: one succeeds."""

import threading
from collections import Counter

import pytest
from rest_framework.test import APIClient

from core import clock, errors
from core.api import tokens as edge
from core.models import RefreshToken
from core.services import tokens
from tests import factories
from tests.concurrency import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def token():
    now = clock.process_clock().now()
    user = factories.make_user(at=now)
    return tokens.issue(user_id=user.pk, clock=clock.process_clock())


def test_control_without_the_users_lock_all_see_it_unspent(token):
    barrier = threading.Barrier(6)

    def unlocked():
        row = RefreshToken.objects.get(pk=token.pk)
        barrier.wait()
        return row.spent_at is None

    assert racing.in_threads([unlocked] * 6) == [True] * 6


def test_one_of_six_rotates_and_no_family_is_revoked(token):
    def rotate():
        try:
            tokens.rotate(
                user_id=token.user_id,
                token_id=token.pk,
                token_version=0,
                clock=clock.process_clock(),
            )
        except errors.TokenSpent:
            return "spent"
        return "rotated"

    assert Counter(racing.in_threads([rotate] * 6)) == {"rotated": 1, "spent": 5}
    assert RefreshToken.objects.count() == 2
    assert not RefreshToken.objects.filter(revoked_at__isnull=False).exists()


def test_over_http_one_of_six_succeeds_and_its_pair_goes_on(token):
    encoded = edge.pair(user=token.user, refresh=token)["refresh"]

    def refresh(value=encoded):
        return APIClient().post("/api/token/refresh/", {"refresh": value}, format="json")

    answers = racing.in_threads([refresh] * 6)
    outcomes = Counter((each.status_code, each.json().get("code")) for each in answers)
    assert outcomes == {(200, None): 1, (401, "token_spent"): 5}
    winner = next(each.json() for each in answers if each.status_code == 200)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {winner['access']}")
    assert client.get("/api/users/me/").status_code == 200
    assert refresh(winner["refresh"]).status_code == 200
