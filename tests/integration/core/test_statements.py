"""A compiled read returns what its queryset returns, whatever it is given, and writes once."""

import threading
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.sql.compiler import SQLCompiler

from core import statements
from core.models import Customer, Member
from subscriptions.models import PlanVersion
from tests.factories import make_customer, make_plan, make_user

pytestmark = pytest.mark.django_db


def named(*, keys, before, zone, is_named):
    rows = Customer.objects.filter(external_key__in=keys, created_at__lt=before)
    if zone is not None:
        rows = rows.filter(time_zone=zone)
    return rows.exclude(name="") if is_named else rows


def texts_written(monkeypatch) -> list[str]:
    """Return a list that grows by each text that Django's compiler writes."""
    written = []
    plain = SQLCompiler.as_sql

    def noting(self, *args, **kwargs):
        text = plain(self, *args, **kwargs)
        written.append(text[0])
        return text

    monkeypatch.setattr(SQLCompiler, "as_sql", noting)
    return written


@pytest.fixture
def customers(at: datetime) -> list[Customer]:
    return [make_customer(at=at, name=f"customer-{number}") for number in range(12)]


class TestCompiled:
    @pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 12])
    @pytest.mark.parametrize("zone", [None, "UTC", "Europe/Rome"])
    @pytest.mark.parametrize("is_named", [True, False])
    def test_returns_what_the_queryset_returns(self, customers, at, count, zone, is_named):
        read = statements.compiled(named)
        for days in (1, 0, 1):
            given = {
                "keys": {each.external_key for each in customers[:count]},
                "before": at + timedelta(days=days),
                "zone": zone,
                "is_named": is_named,
            }
            found = read(**given)
            assert found == list(named(**given))
            assert len(found) == (count if days and zone != "Europe/Rome" else 0)

    def test_reads_what_stands_now(self, customers, at):
        read = statements.compiled(named)
        given = {"keys": ["customer-1"], "before": at + timedelta(1), "zone": None}
        assert read(**given, is_named=True)[0].name == "customer-1"
        Customer.objects.filter(pk=customers[1].pk).update(name="another")
        assert read(**given, is_named=True)[0].name == "another"

    def test_keeps_joined_rows(self, at, django_assert_num_queries):
        user = make_user(at=at)

        @statements.compiled
        def members(*, user_id):
            return Member.objects.filter(user_id=user_id).select_related("customer", "user")

        for _ in range(2):
            with django_assert_num_queries(1):
                (member,) = members(user_id=user.pk)
                assert (member.user, member.customer.created_at) == (user, at)

    def test_keeps_columns_and_flat_values(self, at):
        version = make_plan("pro", at=at, limits={"api_calls": 5}).versions.get()

        @statements.compiled
        def columns(*, plan_ids):
            rows = PlanVersion.objects.filter(plan_id__in=plan_ids)
            return rows.values_list("plan__key", "id", "published_at")

        @statements.compiled
        def ids(*, plan_ids):
            return PlanVersion.objects.filter(plan_id__in=plan_ids).values_list("pk", flat=True)

        for _ in range(2):
            assert columns(plan_ids=[version.plan_id]) == [
                (version.plan.key, version.pk, version.published_at)
            ]
            assert ids(plan_ids=[version.plan_id]) == [version.pk]

    def test_keeps_unions_subqueries_and_slices(self, customers):
        @statements.compiled
        def either(*, one, other):
            rows = Customer.objects.values_list("external_key")
            return rows.filter(external_key=one).union(rows.filter(external_key=other), all=True)

        @statements.compiled
        def first_within(*, keys):
            within = Customer.objects.filter(external_key__in=keys)
            is_within = Q(pk__in=within.values("pk"))
            return Customer.objects.filter(is_within).order_by("-external_key")[:1]

        for one, other in (("customer-1", "customer-2"), ("customer-3", "nobody")):
            assert set(either(one=one, other=other)) == {(one,), (other,)} - {("nobody",)}
            assert first_within(keys=["customer-0", one]) == [customers[int(one[-1])]]

    @pytest.mark.postgres
    def test_writes_a_text_for_each_shape_once(self, customers, at, monkeypatch):
        read = statements.compiled(named)
        written = texts_written(monkeypatch)
        for count, zone, expected in ((1, None, 1), (2, None, 2), (1, None, 2), (2, "UTC", 3)):
            for each in customers[:2]:
                keys = [each.external_key, *"ab"][:count]
                found = read(keys=keys, before=at + timedelta(1), zone=zone, is_named=True)
                assert found == [each]
            assert len(written) == expected

    @pytest.mark.postgres
    def test_refuses_to_leave_an_argument_out(self, customers):
        @statements.compiled
        def careless(*, keys, at):
            return Customer.objects.filter(external_key__in=keys)

        with pytest.raises(ValueError, match="left out"):
            careless(keys=["customer-1"], at=1)

    @pytest.mark.postgres
    @pytest.mark.django_db(transaction=True)
    def test_serves_all_threads_at_once_by_connections_of_their_own(
        self, customers, at, monkeypatch
    ):
        read = statements.compiled(named)
        given = {"before": at + timedelta(1), "zone": None, "is_named": True}
        read(keys=["customer-0"], **given)
        written, begins, found = texts_written(monkeypatch), threading.Barrier(4), {}

        def work(number):
            begins.wait()
            key = f"customer-{number}"
            found[number] = [read(keys=[key], **given) for _ in range(50)]
            connection.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert found == {number: [[customers[number]]] * 50 for number in range(4)}
        assert written == []

    @pytest.mark.postgres
    @pytest.mark.django_db(transaction=True)
    def test_locks_inside_a_transaction_only(self, customers):
        @statements.compiled
        def locked(*, keys):
            return Customer.objects.filter(external_key__in=keys).select_for_update()

        with transaction.atomic():
            assert locked(keys=["customer-1"]) == [customers[1]]
            assert self.free_keys() == {each.external_key for each in customers} - {"customer-1"}
        with pytest.raises(RuntimeError):
            locked(keys=["customer-1"])

    def free_keys(self) -> set[str]:
        """Return whom another connection could lock."""
        found = set()

        def look():
            with transaction.atomic():
                rows = Customer.objects.select_for_update(skip_locked=True)
                found.update(each.external_key for each in rows)
            connection.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return found
