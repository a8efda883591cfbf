"""The four words for transactions, and what the database's errors mean."""

import pytest
from django.db import IntegrityError, InterfaceError, OperationalError

from core import db, errors
from core.models import Customer
from tests import factories


class FakeCause(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def database_error(sqlstate: str) -> OperationalError:
    error = OperationalError(sqlstate)
    error.__cause__ = FakeCause(sqlstate)
    return error


@pytest.mark.django_db(transaction=True)
class TestTransaction:
    def test_commits_on_return_and_runs_what_waits_for_it(self, at):
        done = []
        with db.transaction():
            factories.make_customer(at=at)
            db.after_commit(lambda: done.append(1))
            assert done == []
        assert (done, Customer.objects.count()) == ([1], 1)

    def test_refuses_to_nest(self):
        with db.transaction(), pytest.raises(RuntimeError, match="durable"), db.transaction():
            pass

    def test_is_required_by_steps(self):
        with pytest.raises(RuntimeError, match="transaction"):
            db.transaction_required()
        with pytest.raises(RuntimeError, match="transaction"), db.savepoint():
            pass

    def test_keeps_the_rest_where_a_savepoint_is_undone(self, at):
        with db.transaction():
            factories.make_customer(at=at, name="kept")
            with pytest.raises(IntegrityError), db.savepoint():
                factories.make_customer(at=at, name="kept")
        assert Customer.objects.count() == 1


@pytest.mark.django_db(transaction=True)
class TestOperation:
    def run(self, *outcomes):
        calls = iter(outcomes)
        seen = []

        @db.operation
        def operate():
            outcome = next(calls)
            seen.append(outcome)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        try:
            return operate(), len(seen)
        except errors.DomainError as refused:
            return type(refused), len(seen)

    @pytest.mark.parametrize("sqlstate", [db.DEADLOCK_DETECTED, db.SERIALIZATION_FAILURE])
    def test_repeats_what_the_database_threw_back(self, sqlstate):
        assert self.run(database_error(sqlstate), "done") == ("done", 2)

    def test_gives_up_after_four_attempts(self):
        again = [database_error(db.DEADLOCK_DETECTED)] * db.ATTEMPTS_MAX
        assert self.run(*again, "never") == (errors.Unavailable, db.ATTEMPTS_MAX)

    @pytest.mark.parametrize(
        ("error", "refusal"),
        [
            (database_error(db.LOCK_NOT_AVAILABLE), errors.LockTimeout),
            (database_error(db.QUERY_CANCELED), errors.LockTimeout),
            (OperationalError("database is locked"), errors.LockTimeout),
            (OperationalError("server closed the connection"), errors.Unavailable),
            (InterfaceError("connection already closed"), errors.Unavailable),
        ],
    )
    def test_translates_and_does_not_repeat_the_rest(self, error, refusal):
        assert self.run(error, "never") == (refusal, 1)

    def test_leaves_bugs_what_they_are(self):
        with pytest.raises(IntegrityError):
            self.run(IntegrityError("x"))
