"""Plan versions: drafts are edited, what is published never changes, not even by hand."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from django.db import IntegrityError, connection, transaction

from core import errors
from subscriptions import errors as own_errors
from subscriptions import selectors
from subscriptions.models import (
    CatalogRevision,
    Entitlement,
    Feature,
    MeteredPrice,
    Plan,
    PlanVersion,
    Price,
    Subscription,
    TimelineEntry,
)
from subscriptions.services import catalog
from tests import factories

TWICE = "Give the amount in minor units or in the terms, not in both."
pytestmark = pytest.mark.django_db


@pytest.fixture
def plan(at) -> Plan:
    return factories.make_plan("pro", at=at, limits={"api_calls": 1000}, statics={"storage_gb": 5})


def content() -> tuple[list[dict], ...]:
    return tuple(
        list(model.objects.order_by("pk").values())
        for model in (PlanVersion, Price, MeteredPrice, Entitlement, CatalogRevision)
    )


def price_usage(version: PlanVersion, feature: Feature) -> MeteredPrice:
    return MeteredPrice.objects.create(
        plan_version=version, feature=feature, currency="EUR", terms={"unit_amount": "0.0005"}
    )


class TestDraft:
    def test_equals_the_newest_version_and_there_is_one_at_a_time(self, plan, at):
        clock = factories.standing(at)
        draft = catalog.draft(plan_id=plan.pk, clock=clock)
        again = catalog.draft(plan_id=plan.pk, clock=clock)
        assert (draft.number, draft.status, again.pk) == (2, "draft", draft.pk)
        assert list(draft.entitlements.values_list("feature__key", "limit_units", "value")) == [
            ("api_calls", 1000, None),
            ("storage_gb", None, 5),
        ]
        assert list(draft.prices.values_list("key", flat=True)) == ["pro-monthly"]

    def test_of_a_plan_without_versions_is_its_first(self, plan, at):
        PlanVersion.objects.all()
        empty = Plan.objects.create(
            key="empty", name="Empty", plan_group=plan.plan_group, created_at=at
        )
        assert catalog.draft(plan_id=empty.pk, clock=factories.standing(at)).number == 1


class TestPublish:
    def test_puts_a_version_on_offer_and_archives_the_one_before(self, plan, at):
        revision = selectors.get_catalog_revision()
        version = factories.new_version(plan, at=at, limits={"api_calls": 2000})
        statuses = plan.versions.order_by("number").values_list("status", "published_at")
        assert list(statuses) == [("archived", at), ("published", at)]
        assert version.archived_at is None
        assert selectors.get_catalog_revision() == revision + 1

    def test_is_refused_for_what_is_no_draft(self, plan, at):
        before = content()
        with pytest.raises(own_errors.InvalidTransition):
            catalog.publish(plan_version_id=plan.versions.get().pk, clock=factories.standing(at))
        with pytest.raises(errors.NotFound):
            catalog.publish(plan_version_id=0, clock=factories.standing(at))
        assert content() == before

    @pytest.mark.parametrize(
        ("feature", "change", "detail"),
        [
            ("api_calls", {"value": 5}, "A metered feature has no value."),
            (
                "api_calls",
                {"limit_units": None, "mode": "soft"},
                "What is unlimited has no overage.",
            ),
            (
                "api_calls",
                {"reset_interval": "day"},
                "In this plan group it resets every 1 month; that is fixed.",
            ),
            ("storage_gb", {"value": None}, "A static feature needs a value."),
            ("storage_gb", {"limit_units": 5}, "Only metered features have limits."),
        ],
    )
    def test_is_refused_for_what_does_not_fit_together(self, plan, at, feature, change, detail):
        draft = catalog.draft(plan_id=plan.pk, clock=factories.standing(at))
        draft.entitlements.filter(feature__key=feature).update(**change)
        before = content()
        with pytest.raises(errors.Invalid) as refused:
            catalog.publish(plan_version_id=draft.pk, clock=factories.standing(at))
        assert refused.value.facts()["errors"] == [
            {
                "pointer": f"/entitlements/{feature}",
                "code": "not_publishable",
                "detail": detail,
            }
        ]
        assert content() == before

    def test_is_refused_for_archived_features_foreign_groups_and_odd_prices(self, plan, at):
        draft = catalog.draft(plan_id=plan.pk, clock=factories.standing(at))
        feature = factories.make_feature("tokens", at=at, group="other")
        Entitlement.objects.create(plan_version=draft, feature=feature, limit_units=1)
        draft.prices.update(interval="lifetime")
        catalog.archive_feature(
            feature_id=factories.make_feature("api_calls", at=at).pk,
            clock=factories.standing(at),
        )
        with pytest.raises(errors.Invalid) as refused:
            catalog.publish(plan_version_id=draft.pk, clock=factories.standing(at))
        assert [each["detail"] for each in refused.value.facts()["errors"]] == [
            "The feature is archived.",
            "The feature belongs to another plan group.",
            "A price recurs; lifetime is no billing interval.",
        ]

    @pytest.mark.parametrize(
        ("change", "detail"),
        [
            ({"currency": "eur"}, "'eur' is no currency of ISO 4217."),
            (
                {"model": "percentage", "unit_amount_minor": 0, "terms": {"rate_percent": "2"}},
                "A percentage prices usage; make a metered price.",
            ),
            ({"model": "volume", "unit_amount_minor": 0}, "A volume price needs tiers."),
            ({"terms": {"amount": "9.99"}, "unit_amount_minor": 1}, TWICE),
        ],
    )
    def test_is_refused_for_prices_without_sound_terms(self, plan, at, change, detail):
        draft = catalog.draft(plan_id=plan.pk, clock=factories.standing(at))
        draft.prices.update(**change)
        before = content()
        with pytest.raises(errors.Invalid) as refused:
            catalog.publish(plan_version_id=draft.pk, clock=factories.standing(at))
        assert refused.value.facts()["errors"] == [
            {"pointer": "/prices/pro-monthly", "code": "not_publishable", "detail": detail}
        ]
        assert content() == before

    def test_is_refused_for_a_price_of_usage_that_the_version_does_not_grant(self, plan, at):
        draft = catalog.draft(plan_id=plan.pk, clock=factories.standing(at))
        for key in ("storage_gb", "exports"):
            price_usage(draft, factories.make_feature(key, at=at))
        before = content()
        with pytest.raises(errors.Invalid) as refused:
            catalog.publish(plan_version_id=draft.pk, clock=factories.standing(at))
        assert [each["pointer"] for each in refused.value.facts()["errors"]] == [
            "/metered_prices/exports",
            "/metered_prices/storage_gb",
        ]
        assert content() == before

    def test_of_terms_and_metered_prices_is_kept_and_copied_to_the_next_draft(self, plan, at):
        draft = catalog.draft(plan_id=plan.pk, clock=factories.standing(at))
        draft.prices.update(terms={"amount": "19.999"}, unit_amount_minor=0)
        price_usage(draft, factories.make_feature("api_calls", at=at))
        catalog.publish(plan_version_id=draft.pk, clock=factories.standing(at))
        following = catalog.draft(plan_id=plan.pk, clock=factories.standing(at))
        assert following.metered_prices.get().read_terms().amount == Fraction("0.0005")
        assert following.prices.get().read_terms().amount == Fraction("19.999")
        assert not following.prices.get().is_free


class TestArchive:
    def test_takes_a_version_off_the_offer_and_keeps_its_subscribers(self, plan, at):
        customer = factories.make_customer(at=at)
        factories.subscribe(customer, "pro", at=at)
        version = plan.versions.get()
        catalog.archive_version(plan_version_id=version.pk, clock=factories.standing(at))
        assert selectors.find_offered_version(plan_key="pro") is None
        assert Subscription.objects.get().plan_version_id == version.pk
        assert factories.consume(customer, 1, at=at).entries[0].limit_units == 1000
        with pytest.raises(own_errors.InvalidTransition):
            catalog.archive_version(plan_version_id=version.pk, clock=factories.standing(at))

    def test_of_a_plan_is_done_once(self, plan, at):
        for _ in range(2):
            catalog.archive_plan(plan_id=plan.pk, clock=factories.standing(at))
            revision = selectors.get_catalog_revision()
        assert revision == 2  # publishing, archiving
        plan.refresh_from_db()
        assert plan.archived_at == at


class TestPublishedVersion:
    @pytest.mark.parametrize(
        "change",
        [
            lambda: PlanVersion.objects.update(trial_days=30),
            lambda: PlanVersion.objects.update(status="draft"),
            lambda: PlanVersion.objects.update(status="archived", number=7),
            lambda: Entitlement.objects.update(limit_units=10**9),
            lambda: Price.objects.update(unit_amount_minor=0),
            lambda: Price.objects.update(terms={}),
            lambda: price_usage(PlanVersion.objects.get(), Feature.objects.get(key="api_calls")),
            lambda: Price.objects.create(
                plan_version=PlanVersion.objects.get(),
                key="x",
                currency="EUR",
                unit_amount_minor=1,
            ),
        ],
    )
    def test_is_never_changed_not_even_past_the_code(self, plan, change):
        before = content()
        with pytest.raises(IntegrityError, match="immutable"), transaction.atomic():
            change()
        assert content() == before

    @pytest.mark.postgres
    @pytest.mark.parametrize("model", [Entitlement, Price, PlanVersion])
    def test_is_never_deleted_not_even_by_hand(self, plan, model):
        before = content()
        with (
            pytest.raises(IntegrityError, match="immutable"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"DELETE FROM {model._meta.db_table}")
        assert content() == before

    def test_while_a_draft_is_edited_freely(self, plan, at):
        draft = catalog.draft(plan_id=plan.pk, clock=factories.standing(at))
        draft.entitlements.update(limit_units=None)
        draft.prices.all().delete()
        draft.entitlements.all().delete()
        draft.delete()
        assert plan.versions.count() == 1


class TestTimeline:
    def test_is_never_rewritten(self, plan, at):
        factories.subscribe(factories.make_customer(at=at), "pro", at=at)
        with pytest.raises(IntegrityError, match=r"append.only"), transaction.atomic():
            TimelineEntry.objects.update(reason="never happened")


class TestDefaultPlanVersion:
    def test_reaches_a_customer_at_his_next_month(self, at):
        started = datetime(2026, 3, 1, tzinfo=UTC)
        free = factories.make_plan("free", at=started, limits={"api_calls": 100})
        customer = factories.make_customer(at=started)
        factories.consume(customer, 1, at=at)
        factories.new_version(free, at=at, limits={"api_calls": 7})
        before = factories.consume(customer, 1, at=datetime(2026, 3, 31, 23, 59, tzinfo=UTC))
        after = factories.consume(customer, 1, at=datetime(2026, 4, 1, tzinfo=UTC))
        assert before.entries[0].limit_units == 100
        assert after.entries[0].limit_units == 7
        newcomer = factories.make_customer(at=at + timedelta(days=1))
        entry = factories.consume(newcomer, 1, at=at + timedelta(days=1)).entries[0]
        assert entry.limit_units == 7
