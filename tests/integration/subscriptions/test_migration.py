"""Migrating subscribers: limits now, the price from the next period, usage kept, resumable."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from core import clock, errors
from core.models import Customer, OutboxEvent
from metering import selectors as metering_selectors
from subscriptions import errors as own_errors
from subscriptions.models import PlanVersion, Subscription, TimelineEntry
from subscriptions.services import actions, changes, migration
from subscriptions.services.changes import ChangeOrder
from subscriptions.services.migration import Migration
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
ENDS = datetime(2026, 4, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def old() -> PlanVersion:
    plan = factories.make_plan("pro", at=AT, limits={"api_calls": 10}, price_minor=900, rank=5)
    return plan.versions.get()


def publish_new(old: PlanVersion, *, limit: int = 20, price_minor: int | None = None):
    draft = factories.catalog.draft(plan_id=old.plan_id, clock=factories.standing(AT))
    draft.entitlements.update(limit_units=limit)
    if price_minor is not None:
        draft.prices.update(unit_amount_minor=price_minor)
    return factories.catalog.publish(plan_version_id=draft.pk, clock=factories.standing(AT))


def migrate(old, new, *, at=AT, **options) -> migration.Report:
    asked = Migration(
        from_version_id=old.pk, to_version_id=new.pk, is_dry_run=options.pop("is_dry_run", False)
    )
    return migration.migrate_subscribers(
        asked, actor=factories.ACTOR, clock=factories.standing(at), **options
    )


def standing(customer, at):
    shown = metering_selectors.get_overview(
        customer=Customer.objects.get(pk=customer.pk), clock=factories.standing(at)
    ).standings["api_calls"]
    return shown.limit_units, shown.used_units, shown.remaining_units


def everything() -> tuple:
    return (
        list(Subscription.objects.order_by("pk").values()),
        list(Customer.objects.order_by("pk").values()),
        TimelineEntry.objects.count(),
        OutboxEvent.objects.count(),
    )


class TestMigrate:
    def test_moves_limits_now_and_keeps_usage(self, old):
        customer = factories.make_customer(at=AT)
        row = factories.subscribe(customer, "pro", at=AT)
        factories.consume(customer, 5, at=AT)
        new = publish_new(old)
        report = migrate(old, new)
        assert (report.migrated, report.skipped, report.is_done) == ((row.pk,), (), False)
        assert standing(customer, AT) == (20, 5, 15)  # UL12
        assert TimelineEntry.objects.last().event == "migrate_version"
        assert migrate(old, new, after_id=report.last_id).is_done
        assert migrate(old, new).is_done

    def test_lets_the_price_follow_with_the_next_period(self, old):
        row = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)
        new = publish_new(old, price_minor=1200)
        migrate(old, new)
        row.refresh_from_db()
        assert (row.plan_version_id, row.price.unit_amount_minor) == (new.pk, 900)
        assert (row.change_at, row.change_kind) == (ENDS, "migration")
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(ENDS)
        )
        row.refresh_from_db()
        assert (row.price.unit_amount_minor, row.change_at) == (1200, None)
        told = OutboxEvent.objects.filter(event_type="subscription.plan_changed").order_by("id")
        assert [each.payload["kind"] for each in told] == ["migration", "migration"]
        assert told[0].payload["from_price"] == told[0].payload["to_price"]

    @pytest.mark.parametrize(("target", "quantity"), [("free", None), ("pro", 1)])
    def test_leaves_a_scheduled_change_to_the_customer(self, old, target, quantity):
        factories.make_plan("free", at=AT)
        row = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)
        Subscription.objects.update(quantity=3)
        changes.change(
            subscription_id=row.pk,
            order=ChangeOrder(plan_key=target, quantity=quantity),
            actor=factories.ACTOR,
            clock=factories.standing(AT),
        )
        new = publish_new(old, price_minor=1200)
        migrate(old, new)
        row.refresh_from_db()
        assert row.plan_version_id == new.pk
        assert (row.change_to.plan.key, row.change_at) == (target, ENDS)
        if target == "pro":
            assert (row.change_to_id, row.change_quantity) == (new.pk, 1)
            assert row.change_price.unit_amount_minor == 1200

    def test_tried_dry_changes_nothing_and_reports_the_same(self, old):
        row = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)
        new = publish_new(old)
        before = everything()
        assert migrate(old, new, is_dry_run=True).migrated == (row.pk,)
        assert everything() == before

    def test_skips_and_names_whom_it_cannot_move(self, old):
        waiting = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT, pay=False)
        live = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)
        ended = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)
        actions.cancel_now(
            subscription_id=ended.pk, actor=factories.ACTOR, clock=factories.standing(AT)
        )
        new = publish_new(old)
        first = migrate(old, new, batch=1)
        assert [each.subscription_id for each in first.skipped] == [waiting.pk]
        second = migrate(old, new, batch=1, after_id=first.last_id)
        assert second.migrated == (live.pk,)
        waiting.refresh_from_db()
        assert waiting.plan_version_id == old.pk

    def test_skips_a_subscriber_for_whom_there_is_no_price(self, old):
        row = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)
        draft = factories.catalog.draft(plan_id=old.plan_id, clock=factories.standing(AT))
        draft.prices.update(interval="year")
        new = factories.catalog.publish(plan_version_id=draft.pk, clock=factories.standing(AT))
        report = migrate(old, new)
        assert (report.migrated, report.skipped[0].subscription_id) == ((), row.pk)
        assert "no price" in report.skipped[0].reason
        row.refresh_from_db()
        assert row.plan_version_id == old.pk

    def test_is_refused_for_another_plan_or_what_is_not_published(self, old):
        other = factories.make_plan("max", at=AT).versions.get()
        new = publish_new(old)
        for source, target in ((old, other), (new, old)):
            with pytest.raises(own_errors.PlanNotAvailable):
                migrate(source, target)
        with pytest.raises(errors.NotFound):
            migrate(old, PlanVersion(pk=0))

    def test_moves_a_free_subscriber_without_any_price(self):
        plan = factories.make_plan("plain", at=AT, publish=False)
        old = plan.versions.get()
        old.prices.all().delete()
        factories.catalog.publish(plan_version_id=old.pk, clock=factories.standing(AT))
        row = factories.subscribe(factories.make_customer(at=AT), "plain", at=AT)
        new = publish_new(old)
        migrate(old, new)
        row.refresh_from_db()
        assert (row.plan_version_id, row.price_id, row.change_at) == (new.pk, None, None)


class TestCommand:
    def run(self, *arguments) -> str:
        shown = StringIO()
        with clock.overridden(clock.FixedClock(at=AT)):
            call_command("migrate_subscribers", *arguments, "--reason", "new", stdout=shown)
        return shown.getvalue()

    def test_goes_batch_by_batch_and_reports_each(self, old):
        for _ in range(3):
            factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)
        waiting = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT, pay=False)
        publish_new(old)
        dry = self.run("pro", "--from-version", "1", "--dry-run", "--batch", "2")
        assert dry.startswith("2 migrated, 0 skipped\n1 migrated, 1 skipped\n")
        shown = self.run("pro", "--from-version", "1", "--json").splitlines()
        report = json.loads(shown[0])
        assert (report["migrated"], list(report["skipped"])) == (3, [str(waiting.pk)])
        assert TimelineEntry.objects.filter(event="migrate_version").count() == 3

    def test_names_a_plan_or_version_that_is_not_there(self, old):
        for arguments in (("nope", "--from-version", "1"), ("pro", "--from-version", "9")):
            with pytest.raises(CommandError, match="no such version"):
                self.run(*arguments)

    def test_says_why_it_refuses(self, old):
        with pytest.raises(CommandError, match="two such"):
            self.run("pro", "--from-version", "1")
