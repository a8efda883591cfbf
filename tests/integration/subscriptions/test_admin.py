"""The catalog and subscriptions in the admin: edited as a draft, moved by the services."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from subscriptions import selectors
from subscriptions.models import (
    Entitlement,
    Feature,
    FeatureSwitch,
    Plan,
    PlanVersion,
    Price,
    Subscription,
    TimelineEntry,
)
from subscriptions.services import actions, catalog
from tests import factories, staff

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]

Status = PlanVersion.Status


@pytest.fixture
def manager(world) -> Client:
    return staff.client("catalog manager")


def version_form(version: PlanVersion, *, limit: str, amount: str) -> dict[str, str]:
    """Return what the page of a version with one price and one entitlement sends."""
    price, row = version.prices.get(), version.entitlements.get()
    return {
        "trial_days": "14",
        "trial_end_policy": "cancel",
        "grace_seconds": "604800",
        "past_due_policy": "cancel",
        "prices-TOTAL_FORMS": "1",
        "prices-INITIAL_FORMS": "1",
        "prices-0-id": str(price.pk),
        "prices-0-plan_version": str(version.pk),
        "prices-0-key": price.key,
        "prices-0-currency": "EUR",
        "prices-0-unit_amount_minor": amount,
        "prices-0-interval": "month",
        "prices-0-interval_count": "1",
        "prices-0-model": "flat",
        "metered_prices-TOTAL_FORMS": "1",
        "metered_prices-INITIAL_FORMS": "0",
        "metered_prices-0-feature": str(row.feature_id),
        "metered_prices-0-plan_version": str(version.pk),
        "metered_prices-0-currency": "EUR",
        "metered_prices-0-model": "per_unit",
        "metered_prices-0-terms": '{"unit_amount": "0.002"}',
        "entitlements-TOTAL_FORMS": "1",
        "entitlements-INITIAL_FORMS": "1",
        "entitlements-0-id": str(row.pk),
        "entitlements-0-plan_version": str(version.pk),
        "entitlements-0-feature": str(row.feature_id),
        "entitlements-0-enabled": "on",
        "entitlements-0-value": "",
        "entitlements-0-priority": "10",
        "entitlements-0-rollover_min_units": "0",
        "entitlements-0-rollover_max_units": "20",
        "entitlements-0-alert_percents": "",
        "entitlements-0-limit_units": limit,
        "entitlements-0-mode": "hard",
        "entitlements-0-reset_interval": "month",
        "entitlements-0-reset_count": "1",
        "reason": "more for less",
    }


class TestPlanVersion:
    def test_is_edited_as_a_draft_with_prices_and_entitlements(self, world, manager):
        form = version_form(world.draft, limit="77", amount="1500")
        assert manager.post(staff.page(world.draft), form).status_code == 302
        world.draft.refresh_from_db()
        assert (world.draft.trial_days, world.draft.past_due_policy) == (14, "cancel")
        granted = Entitlement.objects.get(plan_version=world.draft)
        assert (granted.limit_units, granted.rollover_max_units) == (77, 20)
        assert (granted.value, granted.alert_percents) == (None, [])
        assert world.draft.metered_prices.get().terms == {"unit_amount": "0.002"}
        assert Price.objects.get(plan_version=world.draft).unit_amount_minor == 1500

    @pytest.mark.parametrize("name", ["published", "archived"])
    def test_is_never_edited_once_published(self, world, name):
        version = world.rows[name]
        version.entitlements.all()
        browser, before = staff.client(superuser=True), staff.rows()
        shown = browser.get(staff.page(version)).content.decode()
        assert 'name="_save"' not in shown
        assert " a month (hard)" in shown
        assert browser.post(staff.page(version), {"trial_days": "9"}).status_code == 403
        assert staff.rows() == before

    def test_that_was_published_while_it_was_edited_keeps_what_was_published(
        self, world, manager, at, monkeypatch
    ):
        form = version_form(world.draft, limit="77", amount="1500")
        lock = catalog.lock_draft_step

        def publish_first(*, plan_version_id: int) -> PlanVersion:
            PlanVersion.objects.filter(pk=plan_version_id).update(
                status=Status.PUBLISHED, published_at=at
            )
            return lock(plan_version_id=plan_version_id)

        monkeypatch.setattr(catalog, "lock_draft_step", publish_first)
        answer = manager.post(staff.page(world.draft), form, follow=True)
        assert "Nothing was saved." in answer.content.decode()
        assert Entitlement.objects.get(plan_version=world.draft).limit_units == 9

    def test_is_drafted_from_its_plan_alone(self, world):
        browser = staff.client(superuser=True)
        assert browser.get("/admin/subscriptions/planversion/add/").status_code == 403

    def test_is_published_with_its_consequence_told_before(self, world, manager):
        revision = selectors.get_catalog_revision()
        draft = catalog.draft(
            plan_id=world.plan.pk, clock=factories.standing(world.plan.created_at)
        )
        draft.entitlements.filter(feature__key="api_calls").update(limit_units=5000)
        told = manager.get(staff.page(draft, "publish_version")).content.decode()
        assert "Version 2 is archived; its 1 live subscriptions keep it." in told
        assert "2,000 a month (hard)" in told
        assert "5,000 a month (hard)" in told
        answer = manager.post(staff.page(draft, "publish_version"), staff.confirmed())
        assert answer.status_code == 302
        statuses = dict(PlanVersion.objects.filter(plan=world.plan).values_list("number", "status"))
        assert statuses == {1: "archived", 2: "archived", 3: "published"}
        assert selectors.get_catalog_revision() == revision + 1
        entry = LogEntry.objects.get()
        assert entry.get_change_message() == "Publish: a ticket asks for it"
        assert entry.object_repr == "pro v3"

    def test_that_cannot_be_published_says_all_that_is_wrong(self, world, manager, at):
        catalog.archive_feature(feature_id=world.feature.pk, clock=factories.standing(at))
        Price.objects.filter(plan_version=world.draft).update(interval="lifetime")
        before = staff.rows()
        answer = manager.post(staff.page(world.draft, "publish_version"), staff.confirmed())
        shown = answer.content.decode()
        assert answer.status_code == 409
        assert "The feature is archived." in shown
        assert "lifetime is no billing interval" in shown
        assert staff.rows() == before
        assert LogEntry.objects.count() == 0

    def test_is_archived_and_drafted_anew(self, world, manager):
        told = manager.get(staff.page(world.published, "archive_version")).content.decode()
        assert "The 1 live subscriptions of this version go on unchanged." in told
        manager.post(staff.page(world.published, "archive_version"), staff.confirmed())
        world.published.refresh_from_db()
        assert world.published.status == Status.ARCHIVED
        answer = manager.post(staff.page(world.published, "next_version"), staff.confirmed())
        draft = PlanVersion.objects.get(plan=world.plan, status=Status.DRAFT)
        assert answer["Location"] == staff.page(draft)
        assert draft.entitlements.get(feature__key="api_calls").limit_units == 2000

    def test_is_archived_once(self, world, manager):
        address = staff.page(world.archived, "archive_version")
        before = staff.rows()
        assert manager.post(address, staff.confirmed()).status_code == 409
        assert staff.rows() == before

    def test_is_compared_with_the_one_before(self, world, manager):
        shown = manager.get(staff.page(world.published, "compare_versions")).content.decode()
        assert "Version 2 (published) against 1 (archived): 1 differences." in shown
        assert "1,000 a month (hard)" in shown
        assert "2,000 a month (hard)" in shown

    def test_gives_its_subscribers_to_the_one_on_offer(self, world, manager, at):
        customer = factories.make_customer(at=at)
        row = factories.subscribe(customer, "pro", at=at)
        factories.new_version(world.plan, at=at, limits={"api_calls": 3000})
        address = staff.page(world.published, "migrate_subscribers")
        before = staff.rows()
        told = manager.get(address).content.decode()
        assert "2 subscribers move to pro v3, 1 stay" in told
        assert staff.rows() == before
        answer = manager.post(address, staff.confirmed(), follow=True)
        assert "2 subscribers moved to pro v3" in answer.content.decode()
        row.refresh_from_db()
        assert str(row.plan_version) == "pro v3"
        assert row.timeline.latest("id").reason == "a ticket asks for it"

    def test_stands_in_a_row_with_price_and_live_subscriptions(self, world, manager):
        shown = manager.get(staff.listed("subscriptions.PlanVersion", q="pro")).content.decode()
        assert shown.count("29.00 EUR a month") == 2
        assert 'data-label="Live subscriptions">1</td>' in shown.replace("\n", "")


class TestFeature:
    FORM = {"key": "seats", "name": "Seats", "description": "", "type": "metered", "unit": "seat"}
    FORM |= {"scope": "customer", "reason": "a new offer"}

    def test_is_added_and_keeps_its_key_type_and_group(self, world, manager):
        form = {**self.FORM, "plan_group": str(world.group.pk)}
        revision = selectors.get_catalog_revision()
        assert manager.post("/admin/subscriptions/feature/add/", form).status_code == 302
        seats = Feature.objects.get(key="seats")
        assert selectors.get_catalog_revision() == revision + 1
        changed = {**form, "key": "other", "type": "boolean", "name": "Places"}
        assert manager.post(staff.page(seats), changed).status_code == 302
        seats.refresh_from_db()
        assert (seats.key, seats.type, seats.name) == ("seats", "metered", "Places")

    def test_that_is_metered_needs_a_group(self, world, manager):
        answer = manager.post("/admin/subscriptions/feature/add/", self.FORM)
        assert answer.status_code == 200
        assert not Feature.objects.filter(key="seats").exists()

    def test_is_archived_and_told_who_keeps_granting_it(self, world, manager):
        address = staff.page(world.feature, "archive_feature")
        assert "keep granting it: pro, taster." in manager.get(address).content.decode()
        assert manager.post(address, staff.confirmed()).status_code == 302
        world.feature.refresh_from_db()
        assert world.feature.archived_at is not None


class TestSwitch:
    def test_denies_a_feature_to_everybody_until_it_is_ended(self, world):
        owner = staff.client("owner")
        address = staff.page(world.feature, "switch_feature")
        asked = {"state": "deny", "ttl_seconds": "600"}
        told = owner.post(address, {"reason": "x", **asked}).content.decode()
        assert "api_calls is refused to every customer within 2 seconds" in told
        owner.post(address, staff.confirmed(**asked))
        switch = FeatureSwitch.objects.get(feature=world.feature)
        assert (switch.state, switch.reason) == ("deny", "a ticket asks for it")
        owner.post(staff.page(switch, "end_switch"), staff.confirmed())
        switch.refresh_from_db()
        assert switch.ended_at is not None

    def test_holds_no_longer_than_a_week(self, world):
        before = staff.rows()
        values = staff.confirmed(state="deny", ttl_seconds="604801")
        answer = staff.client("owner").post(staff.page(world.feature, "switch_feature"), values)
        assert answer.status_code == 200
        assert staff.rows() == before


class TestPlan:
    def test_is_added_drafted_and_archived(self, world, manager):
        form = {"key": "max", "name": "Max", "plan_group": str(world.group.pk), "rank": "9"}
        form |= {"reason": "a new offer"}
        assert manager.post("/admin/subscriptions/plan/add/", form).status_code == 302
        plan = Plan.objects.get(key="max")
        address = staff.page(plan, "draft_version")
        assert "An empty draft, version 1, is made." in manager.get(address).content.decode()
        manager.post(address, staff.confirmed())
        assert plan.versions.get().status == Status.DRAFT
        assert "is a draft already" in manager.get(address).content.decode()
        manager.post(staff.page(plan, "archive_plan"), staff.confirmed())
        plan.refresh_from_db()
        assert plan.archived_at is not None

    def test_group_and_plan_keep_their_keys(self, world, manager):
        why = {"reason": "a new name"}
        manager.post(staff.page(world.group), {"key": "x", "name": "Principal"} | why)
        form = {"key": "x", "name": "Professional", "rank": "3"} | why
        manager.post(staff.page(world.plan), form)
        world.group.refresh_from_db()
        world.plan.refresh_from_db()
        assert (world.group.key, world.group.name) == ("main", "Principal")
        assert (world.plan.key, world.plan.name, world.plan.rank) == ("pro", "Professional", 3)


class TestSubscription:
    def test_is_marked_paid_under_the_name_and_reason_of_staff(self, world):
        finance = staff.client("finance")
        address = staff.page(world.waiting, "mark_paid")
        assert "paid 29.00 EUR a month for Pro v2" in finance.get(address).content.decode()
        assert finance.post(address, staff.confirmed()).status_code == 302
        world.waiting.refresh_from_db()
        line = TimelineEntry.objects.get(subscription=world.waiting, to_status="active")
        assert world.waiting.status == Subscription.Status.ACTIVE
        assert line.actor.startswith("staff ")
        assert line.reason == "a ticket asks for it"
        assert line.request_id

    def test_is_not_paid_twice(self, world):
        before = staff.rows()
        answer = staff.client("finance").post(
            staff.page(world.active, "mark_paid"), staff.confirmed()
        )
        assert answer.status_code == 409
        assert staff.rows() == before

    def test_is_canceled_at_once(self, world):
        answer = staff.client("support").post(
            staff.page(world.active, "cancel_now"), staff.confirmed(), follow=True
        )
        world.active.refresh_from_db()
        assert world.active.status == Subscription.Status.CANCELED
        assert "a ticket asks for it" in answer.content.decode()

    def test_ends_with_its_period_and_goes_on_where_that_is_undone(self, world):
        support = staff.client("support")
        address = staff.page(world.active, "cancel_at_period_end")
        assert "It ends 2026-04-10 12:00 UTC" in support.get(address).content.decode()
        support.post(address, staff.confirmed())
        world.active.refresh_from_db()
        assert world.active.cancel_at == datetime(2026, 4, 10, 12, tzinfo=UTC)
        support.post(staff.page(world.active, "undo_cancel"), staff.confirmed())
        world.active.refresh_from_db()
        assert world.active.cancel_at is None
        before = staff.rows()
        again = support.post(staff.page(world.active, "undo_cancel"), staff.confirmed())
        assert again.status_code == 409
        assert staff.rows() == before

    def test_is_paused_until_an_instant_and_resumed(self, world):
        support = staff.client("support")
        until = {"resume_at_0": "2026-03-20", "resume_at_1": "08:00:00"}
        told = support.post(staff.page(world.active, "pause"), {"reason": "x", **until})
        assert "has no access from now until 2026-03-20 08:00 UTC" in told.content.decode()
        support.post(staff.page(world.active, "pause"), staff.confirmed(**until))
        world.active.refresh_from_db()
        assert (world.active.status, world.active.resume_at.day) == ("paused", 20)
        support.post(staff.page(world.active, "resume"), staff.confirmed())
        world.active.refresh_from_db()
        assert world.active.status == "active"

    @pytest.mark.parametrize("day", ["2026-03-01", "2028-01-01"])
    def test_is_paused_neither_backwards_nor_for_years(self, world, day):
        before = staff.rows()
        until = {"resume_at_0": day, "resume_at_1": "08:00:00"}
        answer = staff.client("support").post(
            staff.page(world.active, "pause"), staff.confirmed(**until)
        )
        assert answer.status_code == 409
        assert staff.rows() == before

    def test_changes_as_its_preview_told(self, world, at):
        factories.make_plan("max", at=at, limits={"api_calls": 9000}, price_minor=9900, rank=90)
        support, address = staff.client("support"), staff.page(world.active, "change_plan")
        asked = {"plan": "max", "quantity": "2", "when": "", "usage_policy": "keep"}
        told = support.post(address, {"reason": "x", **asked}).content.decode()
        assert "Upgrade: pro v2 becomes max v1, now." in told
        assert "1 × 29.00 EUR a month becomes 2 × 99.00 EUR a month." in told
        assert "9,000 a month (hard)" in told
        assert support.post(address, staff.confirmed(**asked)).status_code == 302
        world.active.refresh_from_db()
        assert (str(world.active.plan_version), world.active.quantity) == ("max v1", 2)

    def test_has_its_trial_extended_as_its_preview_told(self, world, at):
        row = world.trial
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        support, address = staff.client("support"), staff.page(row, "extend_trial")
        later = row.trial_ends_at + timedelta(days=7)
        asked = {"ends_at_0": f"{later:%Y-%m-%d}", "ends_at_1": f"{later:%H:%M:%S}"}
        told = support.post(address, {"reason": "x", **asked}).content.decode()
        assert f"{later:%Y-%m-%d}" in told
        assert "moves along" in told
        assert support.post(address, staff.confirmed(**asked)).status_code == 302
        row.refresh_from_db()
        assert (row.trial_ends_at, row.cancel_at) == (later, later)
        assert TimelineEntry.objects.order_by("id").last().reason == "a ticket asks for it"

    def test_is_not_changed_to_what_it_is(self, world):
        before = staff.rows()
        values = staff.confirmed(plan="pro", quantity="1", when="", usage_policy="keep")
        answer = staff.client("support").post(staff.page(world.active, "change_plan"), values)
        assert answer.status_code == 409
        assert staff.rows() == before

    def test_is_shown_with_its_timeline_and_the_status_in_effect(self, world):
        browser = staff.client("read-only")
        shown = browser.get(staff.page(world.active)).content.decode()
        assert "payment_succeeded" in shown
        query = {"status": "active", "q": world.customer.external_key.replace(" ", "+")}
        listed = browser.get(staff.listed("subscriptions.Subscription", **query))
        assert listed.context["cl"].result_count == 1

    def test_and_its_timeline_are_never_edited_by_hand(self, world):
        browser, before = staff.client(superuser=True), staff.rows()
        line = TimelineEntry.objects.first()
        for row in (world.active, line):
            assert browser.post(staff.page(row), {"status": "active"}).status_code == 403
        assert staff.rows() == before
