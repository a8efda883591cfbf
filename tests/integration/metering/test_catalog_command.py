"""Keep the catalog as code: export, diff and apply, all or nothing, and never what is published."""

import copy
import getpass
import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from core.models import AuditEntry
from metering.models import Meter
from metering.services import catalogs, meters
from metering.services.meters import Definition
from subscriptions.models import (
    AddOn,
    CatalogRevision,
    Entitlement,
    Feature,
    MeteredPrice,
    Plan,
    PlanGroup,
    PlanVersion,
    Price,
)
from subscriptions.services import catalog
from tests import factories

pytestmark = pytest.mark.django_db
MODELS = (PlanGroup, Feature, Plan, PlanVersion, Price, MeteredPrice, Entitlement, Meter)


def stored():
    return [list(model.objects.order_by("pk").values()) for model in MODELS]


@pytest.fixture
def catalog_rows(at) -> None:
    factories.make_plan(
        "free", at=at, limits={"api_calls": 100}, booleans={"sso": False}, statics={"gb": 5}
    )
    factories.make_plan("pro", at=at, limits={"api_calls": None}, price_minor=2900, rank=10)
    factories.make_plan("draft", at=at, limits={"api_calls": 7}, publish=False)
    definition = Definition(
        key="tokens",
        event_type="used",
        aggregation="sum",
        value_path="$.n",
        group_by={"region": "$.region"},
        filters={"$.ok": [True]},
    )
    meters.define(definition, clock=factories.standing(at))


@pytest.fixture
def document(catalog_rows):
    return json.loads(run("export"))


def run(*arguments) -> str:
    out = StringIO()
    call_command("catalog", *arguments, stdout=out)
    return out.getvalue()


def apply(tmp_path, document, *options, action="apply"):
    """Run the action on the document; return its exit code and the actions by object."""
    file = tmp_path / "catalog.json"
    file.write_text(json.dumps(document))
    out, code = StringIO(), 0
    try:
        call_command("catalog", action, str(file), "--json", *options, stdout=out)
    except CommandError as error:
        code = error.returncode
    report = json.loads(out.getvalue()) if out.getvalue() else {"changes": [], "applied": False}
    return code, {
        (each["kind"], each["key"]): each["action"]
        for each in report["changes"]
        if each["action"] != "unchanged"
    }


def plan_of(document, key):
    (plan,) = [each for each in document["plans"] if each["key"] == key]
    return plan


def entitlement_of(document, plan_key, feature_key):
    granted = plan_of(document, plan_key)["version"]["entitlements"]
    (found,) = [each for each in granted if each["feature"] == feature_key]
    return found


class TestExport:
    def test_writes_the_whole_catalog_in_a_stable_order(self, document, at):
        assert [each["key"] for each in document["plans"]] == ["draft", "free", "pro"]
        assert [each["key"] for each in document["features"]] == ["api_calls", "gb", "sso"]
        assert document["plan_groups"] == [{"key": "main", "name": "Main"}]
        assert plan_of(document, "pro")["is_published"] is True
        assert plan_of(document, "draft")["is_published"] is False
        assert entitlement_of(document, "free", "api_calls")["limit_units"] == 100
        assert plan_of(document, "pro")["version"]["prices"][0]["unit_amount_minor"] == 2900
        (meter,) = document["meters"]
        assert (meter["key"], meter["filters"], meter["feature"]) == (
            "tokens",
            {"$.ok": [True]},
            None,
        )
        assert "id" not in meter
        assert run("export") == json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def test_leaves_out_what_is_archived(self, document, at):
        clock = factories.standing(at)
        catalog.archive_plan(plan_id=Plan.objects.get(key="pro").pk, clock=clock)
        meters.archive(meter_id=Meter.objects.get().pk, clock=clock)
        again = json.loads(run("export"))
        assert [each["key"] for each in again["plans"]] == ["draft", "free"]
        assert again["meters"] == []

    def test_asks_the_database_as_often_for_many_plans_as_for_few(
        self, document, at, django_assert_max_num_queries
    ):
        for number in range(5):
            factories.make_plan(f"more{number}", at=at)
        with django_assert_max_num_queries(9):
            catalogs.export()


class TestApply:
    def test_of_what_stands_changes_nothing(self, document, tmp_path):
        before = stored()
        assert apply(tmp_path, document) == (0, {})
        assert apply(tmp_path, document, action="diff") == (0, {})
        assert stored() == before

    def test_makes_a_catalog_from_nothing_and_again_changes_nothing(self, tmp_path, at):
        factories.make_plan("free", at=at, booleans={"sso": True}, statics={"gb": 5})
        document = json.loads(run("export"))
        text = json.dumps(document).replace('"free', '"start').replace("api_calls", "calls")
        text = text.replace('"main"', '"other"').replace('"Main"', '"Other"')
        renamed = json.loads(text.replace('"sso"', '"sso2"').replace('"gb"', '"gb2"'))
        renamed["meters"] = [
            {"key": "calls", "name": "", "event_type": "called", "aggregation": "count"}
        ]
        renamed["meters"][0]["name"] = "Calls"
        revision = CatalogRevision.objects.get().number

        code, changes = apply(tmp_path, renamed)

        assert code == 0
        assert {key: action for key, action in changes.items() if action != "not_named"} == {
            ("plan_groups", "other"): "created",
            ("features", "calls"): "created",
            ("features", "gb2"): "created",
            ("features", "sso2"): "created",
            ("plans", "start"): "created",
            ("versions", "start version"): "published",
            ("meters", "calls"): "created",
        }
        assert {key for key, action in changes.items() if action == "not_named"} == {
            ("plan_groups", "main"),
            ("features", "api_calls"),
            ("features", "gb"),
            ("features", "sso"),
            ("plans", "free"),
        }
        assert CatalogRevision.objects.get().number > revision
        exported = json.loads(run("export"))
        assert plan_of(exported, "start") == plan_of(renamed, "start")
        before = stored()
        code, changes = apply(tmp_path, renamed)
        assert (code, set(changes.values())) == (0, {"not_named"})
        assert stored() == before

    def test_makes_and_publishes_an_add_on_which_then_never_changes(self, document, tmp_path):
        entitlement = {"feature": "api_calls", "units": 500}
        price = {"key": "m", "currency": "EUR", "unit_amount_minor": 500}
        more = {"key": "more", "name": "More", "plan_group": "main", "prices": [price]}
        document["add_ons"].append(more | {"entitlements": [entitlement]})
        told = apply(tmp_path, document)
        assert told == (
            0,
            {("add_ons", "more"): "created", ("add_ons", "more content"): "drafted"},
        )
        assert AddOn.objects.get().published_at is None
        document["add_ons"][0]["is_published"] = True
        assert apply(tmp_path, document) == (0, {("add_ons", "more content"): "published"})
        assert apply(tmp_path, document) == (0, {})
        (exported,) = json.loads(run("export"))["add_ons"]
        assert (exported["is_published"], exported["entitlements"][0]["units"]) == (True, 500)
        document["add_ons"][0]["entitlements"][0]["units"] = 600
        code, changes = apply(tmp_path, document)
        assert (code, changes) == (1, {("add_ons", "more content"): "refused"})
        assert AddOn.objects.get().entitlements.get().units == 500

    @pytest.mark.parametrize(
        "wrong",
        [
            {"prices": [{"key": "m", "currency": "eur", "unit_amount_minor": 5}]},
            {"entitlements": [{"feature": "api_calls"}]},
            {"entitlements": [{"feature": "gb"}]},
        ],
    )
    def test_refuses_an_add_on_that_cannot_be_published(self, document, tmp_path, wrong):
        more = {"key": "more", "name": "More", "plan_group": "main", "is_published": True}
        document["add_ons"].append(more | wrong)
        code, changes = apply(tmp_path, document)
        assert (code, changes[("add_ons", "more content")]) == (1, "refused")
        assert AddOn.objects.count() == 0

    def test_updates_names_and_ranks(self, document, tmp_path):
        plan_of(document, "pro")["name"] = "Professional"
        plan_of(document, "pro")["rank"] = 11
        document["features"][0]["description"] = "Calls of the API"
        document["meters"][0]["name"] = "Tokens used"
        assert apply(tmp_path, document) == (
            0,
            {
                ("plans", "pro"): "updated",
                ("features", "api_calls"): "updated",
                ("meters", "tokens"): "updated",
            },
        )
        pro = Plan.objects.get(key="pro")
        assert (pro.name, pro.rank, Meter.objects.get().name) == (
            "Professional",
            11,
            "Tokens used",
        )

    def test_refuses_to_change_what_is_published_and_all_else_with_it(self, document, tmp_path):
        entitlement_of(document, "free", "api_calls")["limit_units"] = 200
        plan_of(document, "pro")["name"] = "Professional"
        before = stored()
        code, changes = apply(tmp_path, document)
        assert (code, changes[("versions", "free version")]) == (1, "refused")
        assert stored() == before

    def test_drafts_a_new_version_where_it_is_told_to(self, document, tmp_path, at):
        entitlement_of(document, "free", "api_calls")["limit_units"] = 200
        told = apply(tmp_path, document, "--new-versions")
        assert told == (0, {("versions", "free version"): "drafted"})
        versions = PlanVersion.objects.filter(plan__key="free").order_by("number")
        assert [
            (each.status, each.entitlements.get(feature__key="api_calls").limit_units)
            for each in versions
        ] == [("published", 100), ("draft", 200)]
        before = stored()
        assert apply(tmp_path, document, "--new-versions") == (0, {})
        assert stored() == before
        catalog.publish(plan_version_id=versions[1].pk, clock=factories.standing(at))
        assert apply(tmp_path, document) == (0, {})

    def test_brings_a_draft_to_the_file_and_publishes_it_where_the_file_does(
        self, document, tmp_path
    ):
        entitlement_of(document, "draft", "api_calls")["limit_units"] = 8
        assert apply(tmp_path, document) == (0, {("versions", "draft version"): "drafted"})
        plan_of(document, "draft")["is_published"] = True
        code, changes = apply(tmp_path, document)
        assert (code, changes) == (0, {("versions", "draft version"): "published"})
        version = PlanVersion.objects.get(plan__key="draft")
        assert (version.status, version.entitlements.get().limit_units) == ("published", 8)

    @pytest.mark.parametrize(
        ("path", "value", "refused"),
        [
            (("features", 0, "type"), "static", ("features", "api_calls")),
            (("meters", 0, "aggregation"), "max", ("meters", "tokens")),
            (("meters", 0, "group_by"), {}, ("meters", "tokens")),
        ],
    )
    def test_refuses_to_change_a_meaning(self, document, tmp_path, path, value, refused):
        kind, index, name = path
        document[kind][index][name] = value
        if value == "static":
            document[kind][index]["plan_group"] = None
        before = stored()
        code, changes = apply(tmp_path, document)
        assert (code, changes[refused]) == (1, "refused")
        assert stored() == before

    def test_refuses_a_plan_that_cannot_be_published(self, document, tmp_path):
        added = copy.deepcopy(plan_of(document, "free"))
        added["key"] = "new"
        added["version"]["prices"] = [
            {"key": "p", "currency": "XXX", "unit_amount_minor": 1, "interval": "lifetime"}
        ]
        document["plans"].append(added)
        before = stored()
        code, changes = apply(tmp_path, document)
        assert (code, changes[("versions", "new version")]) == (1, "refused")
        assert stored() == before

    def test_refuses_a_meter_that_makes_no_sense(self, document, tmp_path):
        wrong = document["meters"][0] | {"key": "other", "value_path": "n"}
        document["meters"].append(wrong)
        before = stored()
        code, changes = apply(tmp_path, document)
        assert (code, changes[("meters", "other")]) == (1, "refused")
        assert stored() == before

    def test_refuses_what_is_archived(self, document, tmp_path, at):
        catalog.archive_plan(plan_id=Plan.objects.get(key="pro").pk, clock=factories.standing(at))
        before = stored()
        code, changes = apply(tmp_path, document)
        assert (code, changes[("plans", "pro")]) == (1, "refused")
        assert stored() == before

    @pytest.mark.parametrize("option", ["--dry-run", "diff"])
    def test_says_what_it_would_do_and_does_nothing(self, document, tmp_path, option):
        plan_of(document, "pro")["name"] = "Professional"
        before = stored()
        if option == "diff":
            answer = apply(tmp_path, document, action="diff")
            assert answer == (1, {("plans", "pro"): "updated"})
        else:
            assert apply(tmp_path, document, option) == (0, {("plans", "pro"): "updated"})
        assert stored() == before

    def test_tells_in_a_diff_what_the_file_does_not_name(self, document, tmp_path):
        document["meters"] = []
        answer = apply(tmp_path, document, action="diff")
        assert answer == (1, {("meters", "tokens"): "not_named"})

    @pytest.mark.parametrize(
        ("break_it", "pointer"),
        [
            (lambda d: d.update(format=2), "/format"),
            (lambda d: d.update(extra=[]), "/extra"),
            (lambda d: d.update(features={}), "/features"),
            (lambda d: d["features"].append({"key": "sso"}), "/features/3"),
            (lambda d: d["features"].append(7), "/features/3"),
            (lambda d: d["features"][0].update(colour="red"), "/features/0/colour"),
            (lambda d: d["features"][0].update(name=7), "/features/0/name"),
            (lambda d: d["features"][0].update(type="magic"), "/features/0/type"),
            (lambda d: d["features"][0].update(plan_group="gone"), "/features/0/plan_group"),
            (lambda d: d["features"][0].update(plan_group=None), "/features/0"),
            (lambda d: plan_of(d, "pro").update(rank="1"), "/plans/2/rank"),
            (lambda d: plan_of(d, "pro").update(rank=True), "/plans/2/rank"),
            (lambda d: plan_of(d, "pro").update(is_published=1), "/plans/2"),
            (lambda d: plan_of(d, "pro").update(version=[]), "/plans/2"),
            (
                lambda d: entitlement_of(d, "pro", "api_calls").update(limit_units=-1),
                "/plans/2/version/entitlements/0/limit_units",
            ),
        ],
    )
    def test_refuses_a_file_of_another_shape(self, document, tmp_path, capsys, break_it, pointer):
        break_it(document)
        before = stored()
        file = tmp_path / "catalog.json"
        file.write_text(json.dumps(document))
        with pytest.raises(CommandError) as refused:
            call_command("catalog", "apply", str(file))
        assert refused.value.returncode == 2
        assert str(refused.value).startswith(f"{pointer}: ")
        assert stored() == before

    @pytest.mark.parametrize("text", ["", "{", "[]", None])
    def test_refuses_what_is_no_json_object(self, tmp_path, text):
        file = tmp_path / "catalog.json"
        if text is not None:
            file.write_text(text)
        with pytest.raises(CommandError) as refused:
            call_command("catalog", "apply", str(file))
        assert refused.value.returncode == 2

    def test_needs_a_file(self):
        with pytest.raises(CommandError) as refused:
            call_command("catalog", "diff")
        assert refused.value.returncode == 2

    def test_reports_in_words_as_well(self, document, tmp_path, capsys):
        file = tmp_path / "catalog.json"
        plan_of(document, "pro")["name"] = "Professional"
        file.write_text(json.dumps(document))
        call_command("catalog", "apply", str(file))
        shown = capsys.readouterr().out
        assert "updated    plans pro  name" in shown
        assert shown.endswith("Applied.\n")


class TestAudit:
    def test_has_a_line_of_every_row_that_was_made_or_changed(self, tmp_path, document):
        document["features"].append({"key": "seats", "name": "Seats", "type": "boolean"})
        document["plans"][0]["name"] = "Drafted"
        document["plan_groups"][0]["name"] = "Principal"
        entitlement_of(document, "pro", "api_calls")["limit_units"] = 9
        document["meters"].append(
            {"key": "n", "name": "n", "event_type": "n", "aggregation": "count"}
        )
        before = AuditEntry.objects.count()
        assert apply(tmp_path, document, "--new-versions", "--dry-run")[0] == 0
        assert AuditEntry.objects.count() == before
        assert apply(tmp_path, document, "--new-versions", "--reason", "spring")[0] == 0
        entries = list(AuditEntry.objects.filter(reason="spring").order_by("id"))
        assert [each.action for each in entries] == [
            "plan_group.changed",
            "feature.created",
            "plan.changed",
            "plan_version.drafted",
            "plan_version.changed",
            "meter.defined",
        ]
        assert {each.actor for each in entries} == {f"shell {getpass.getuser()}"}
        group, content = entries[0], entries[4]
        assert (group.before, group.after) == ({"name": "Main"}, {"name": "Principal"})
        (was,), (now,) = content.before["entitlements"], content.after["entitlements"]
        assert (was["limit_units"], now["limit_units"]) == (None, 9)

    def test_has_nothing_of_what_was_refused(self, tmp_path, document):
        entitlement_of(document, "pro", "api_calls")["limit_units"] = 9
        document["plan_groups"][0]["name"] = "Principal"
        before = AuditEntry.objects.count()
        assert apply(tmp_path, document)[0] == 1
        assert AuditEntry.objects.count() == before
        assert PlanGroup.objects.get().name == "Main"
