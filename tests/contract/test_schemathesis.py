"""The API keeps its own schema, whatever it is sent: every operation, by callers of every kind.

Short and repeatable by default; SCHEMATHESIS_EXAMPLES makes it long and random.
"""

import os
from pathlib import Path

import pytest
import schemathesis
from django.db import connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from core import clock, db
from core.models import User
from core.services import service_keys
from subscriptionEngine.wsgi import application
from tests import factories

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "0"))
EXAMPLES_SHORT = 6
# What a schema allows may still be refused: a limit is used up, a plan unknown, a rule broken.
# It may not be unreadable (400), nor of a wrong kind (405, 413, 415).
ALLOWED_REFUSALS = ("401", "402", "403", "404", "409", "412", "422", "429")
CONFIG = {"checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", *ALLOWED_REFUSALS]}}}
SCHEMA = schemathesis.openapi.from_path(
    str(ROOT / "openapi.yaml"), config=SchemathesisConfig.from_dict(CONFIG)
)
SCHEMA.app = application
OPERATIONS = {each.ok().label: each.ok() for each in SCHEMA.get_all_operations()}
USERS = ("user", "other", "staff")
CALLERS = ("anonymous", *USERS, "backend")
NOT_HERE = {
    "POST /api/events/": [
        negative_data_rejection,  # it answers 200, and of each event what became of it
        positive_data_acceptance,  # only application/json needs ce- headers; no schema can say so
    ]
}


@pytest.fixture(scope="module")
def kept_callers(kept_rows):
    """Make what is sold, three users, and the credential of a backend."""
    now = clock.DatabaseClock().now()
    factories.make_plan("free", at=now, limits={"api_calls": 3})
    factories.make_plan("pro", at=now, price_minor=2900, rank=10)
    users = {name: factories.make_user(at=now, username=name) for name in USERS}
    User.objects.filter(username="staff").update(is_staff=True, is_superuser=True)
    return users, factories.make_service_key(scopes=service_keys.SCOPES).credential


@pytest.fixture
def headers_of(kept_callers, monkeypatch):
    """Return the headers of each caller, who has a plan to use up.

    The server's end of a request would drop the test's connection, and its transaction with it.
    """
    default = connections["default"]
    monkeypatch.setattr(default, "close_if_unusable_or_obsolete", lambda: None)
    if db.is_postgres():
        with connection.cursor() as cursor:  # the test's one transaction waits for examples
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    users, credential = kept_callers
    found = {"anonymous": {}, "backend": {"Authorization": f"Api-Key {credential}"}}
    for name, user in users.items():
        header = factories.client_for(user)._credentials["HTTP_AUTHORIZATION"]
        found[name] = {"Authorization": header}
    return found


def run(operation, headers_of, mode) -> None:
    """Send examples and hold each answer to the schema."""
    excluded = NOT_HERE.get(operation.label, [])

    @given(
        case=operation.as_strategy(generation_mode=mode),
        caller=st.sampled_from(CALLERS),
    )
    @settings(
        max_examples=EXAMPLES or EXAMPLES_SHORT,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def holds(case, caller):
        given_headers = dict(case.headers or {})
        kept = {name: given_headers[name] for name in given_headers if name != "Authorization"}
        case.headers = kept
        case.call_and_validate(headers=headers_of[caller], excluded_checks=excluded)

    holds()


@pytest.mark.parametrize("label", OPERATIONS)
class TestOperation:
    def test_keeps_its_schema_for_what_the_schema_allows(self, headers_of, label):
        run(OPERATIONS[label], headers_of, GenerationMode.POSITIVE)

    def test_keeps_its_schema_for_what_the_schema_forbids(self, headers_of, label):
        try:
            run(OPERATIONS[label], headers_of, GenerationMode.NEGATIVE)
        except Unsatisfiable:  # an operation without input has nothing to forbid
            operation = OPERATIONS[label]
            assert not any((operation.body, operation.query, operation.path_parameters))


def test_every_operation_is_asked():
    assert len(OPERATIONS) == (ROOT / "openapi.yaml").read_text().count("operationId:")
