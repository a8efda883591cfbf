"""Import customers row by row: safe to repeat, and one bad row stops no other."""

import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from core.models import Customer
from metering.models import Balance, UsageEntry
from subscriptions.models import Subscription
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
ACME = {
    "external_key": "acme",
    "name": "Acme",
    "time_zone": "Europe/Berlin",
    "plan": "pro",
    "usage": {"api_calls": 120, "exports": 3},
}


@pytest.fixture(autouse=True)
def _catalog(standing_clock) -> None:
    factories.make_plan("free", at=STARTED, limits={"api_calls": 100, "exports": 5})
    limits = {"api_calls": 1000, "exports": None}
    factories.make_plan("pro", at=STARTED, limits=limits, price_minor=2900, rank=10)
    factories.make_feature("sso", at=STARTED, kind="boolean")


def run(tmp_path, rows, *options, name="customers.jsonl"):
    """Import the rows; return the exit code and the report of each."""
    file = tmp_path / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out, code = StringIO(), 0
    try:
        call_command("customers", "import", str(file), "--json", *options, stdout=out)
    except CommandError as error:
        code = error.returncode
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


def results(answer):
    code, reports = answer
    return code, [(each["line"], each["result"], each["code"]) for each in reports]


def stored():
    return (
        list(Customer.objects.order_by("pk").values()),
        list(Subscription.objects.order_by("pk").values()),
        list(Balance.objects.order_by("pk").values()),
        UsageEntry.objects.count(),
    )


def used() -> dict[str, int]:
    return dict(Balance.objects.values_list("feature__key", "used_units"))


class TestImport:
    def test_makes_customer_subscription_and_usage(self, tmp_path, at):
        code, (report,) = run(tmp_path, [ACME])
        assert (code, report) == (
            0,
            {
                "line": 1,
                "external_key": "acme",
                "result": "imported",
                "done": ["customer", "subscription", "api_calls", "exports"],
                "code": "",
                "detail": "",
            },
        )
        customer = Customer.objects.get()
        assert (customer.name, customer.time_zone, customer.currency) == (
            "Acme",
            "Europe/Berlin",
            "EUR",
        )
        row = Subscription.objects.get()
        assert (row.status, row.plan_version.plan.key, row.quantity) == ("active", "pro", 1)
        assert used() == {"api_calls": 120, "exports": 3}

    def test_again_changes_nothing(self, tmp_path):
        run(tmp_path, [ACME])
        before = stored()
        assert results(run(tmp_path, [ACME])) == (0, [(1, "unchanged", "")])
        assert stored() == before

    def test_completes_what_was_cut_off(self, tmp_path):
        run(tmp_path, [{"external_key": "acme", "name": "Acme"}])
        code, (report,) = run(tmp_path, [ACME])
        assert (code, report["done"]) == (0, ["subscription", "api_calls", "exports"])

    def test_refuses_other_figures_than_were_imported(self, tmp_path):
        run(tmp_path, [ACME])
        before = stored()
        other = ACME | {"usage": {"api_calls": 121}}
        assert results(run(tmp_path, [other])) == (1, [(1, "refused", "idempotency_key_reused")])
        assert stored() == before

    def test_goes_on_after_a_row_that_is_refused(self, tmp_path):
        rows = [
            {"external_key": "a"},
            "{broken",
            {"external_key": "b", "plan": "gone"},
            {"external_key": "c", "usage": {"api_cals": 1}},
            {"external_key": "d", "usage": {"sso": 1}},
            {"external_key": "e", "plan": "pro", "currency": "USD"},
            {"external_key": "f", "colour": "red"},
            "",
            {"external_key": "g", "plan": "free", "usage": {"exports": 5}},
        ]
        assert results(run(tmp_path, rows)) == (
            1,
            [
                (1, "imported", ""),
                (2, "refused", "malformed_request"),
                (3, "refused", "plan_unknown"),
                (4, "refused", "feature_unknown"),
                (5, "refused", "feature_not_metered"),
                (6, "refused", "currency_mismatch"),
                (7, "refused", "invalid"),
                (9, "imported", ""),
            ],
        )
        assert used() == {"exports": 5}
        assert {each.external_key for each in Customer.objects.all()} == {"a", "g"}

    def test_records_usage_beyond_a_limit_since_it_happened(self, tmp_path):
        row = {"external_key": "acme", "plan": "free", "usage": {"exports": 9}}
        assert results(run(tmp_path, [row])) == (0, [(1, "imported", "")])
        assert used() == {"exports": 9}

    def test_begins_no_trial(self, tmp_path):
        factories.make_plan("trial", at=STARTED, price_minor=900, version={"trial_days": 14})
        row = {"external_key": "acme", "plan": "trial"}
        assert results(run(tmp_path, [row])) == (0, [(1, "imported", "")])
        assert Subscription.objects.get().status == "active"

    def test_leaves_a_subscription_to_the_plan_as_it_is(self, tmp_path, at):
        customer = factories.make_customer(at=STARTED, name="acme")
        factories.subscribe(customer, "pro", at=STARTED)
        before = list(Subscription.objects.values())
        row = {"external_key": "acme", "plan": "pro", "quantity": 7}
        assert results(run(tmp_path, [row])) == (0, [(1, "unchanged", "")])
        assert list(Subscription.objects.values()) == before

    def test_refuses_another_plan_beside_a_live_one(self, tmp_path):
        customer = factories.make_customer(at=STARTED, name="acme")
        factories.subscribe(customer, "free", at=STARTED)
        before = stored()
        row = {"external_key": "acme", "plan": "pro"}
        assert results(run(tmp_path, [row])) == (1, [(1, "refused", "subscription_exists")])
        assert stored() == before

    @pytest.mark.parametrize(
        "wrong",
        [
            {"external_key": ""},
            {"external_key": None},
            {"external_key": 7},
            {"name": "a\x00"},
            {"time_zone": "Mars"},
            {"currency": "euro"},
            {"quantity": 0},
            {"quantity": "1"},
            {"quantity": 10**7},
            {"usage": []},
            {"usage": {"api_calls": -1}},
            {"usage": {"api_calls": 1.5}},
            {"usage": {"api_calls": True}},
            {"usage": {"api_calls": 10**13}},
            {"plan": 7},
        ],
    )
    def test_refuses_values_that_break_a_rule(self, tmp_path, wrong):
        before = stored()
        assert results(run(tmp_path, [ACME | wrong])) == (1, [(1, "refused", "invalid")])
        assert stored() == before

    def test_refuses_a_row_that_is_no_object(self, tmp_path):
        assert results(run(tmp_path, ["[1]"])) == (1, [(1, "refused", "invalid")])

    def test_only_checks_on_a_dry_run(self, tmp_path):
        before = stored()
        rows = [ACME, {"external_key": "b", "plan": "gone"}, {"external_key": "c"}]
        assert results(run(tmp_path, rows, "--dry-run")) == (
            1,
            [(1, "imported", ""), (2, "refused", "plan_unknown"), (3, "imported", "")],
        )
        assert stored() == before

    def test_reads_csv_as_well(self, tmp_path):
        lines = [
            "external_key,name,plan,quantity,usage.api_calls,usage.exports",
            'acme,"Acme, Inc.",pro,2,120,',
            "beta,,,,7,",
            "gamma,,,two,,",
        ]
        assert results(run(tmp_path, lines, name="customers.csv")) == (
            1,
            [(2, "imported", ""), (3, "imported", ""), (4, "refused", "invalid")],
        )
        assert Customer.objects.get(external_key="acme").name == "Acme, Inc."
        assert Subscription.objects.get().quantity == 2

    @pytest.mark.parametrize("name", ["gone.jsonl", "gone.csv"])
    def test_cannot_read_a_file_that_is_not_there(self, tmp_path, name):
        with pytest.raises(CommandError) as refused:
            call_command("customers", "import", str(tmp_path / name))
        assert refused.value.returncode == 2

    def test_cannot_read_what_is_not_utf8(self, tmp_path):
        file = tmp_path / "customers.csv"
        file.write_bytes(b"external_key\n\xff\n")
        with pytest.raises(CommandError) as refused:
            call_command("customers", "import", str(file))
        assert refused.value.returncode == 2
        assert Customer.objects.count() == 0

    def test_reports_in_words_as_well(self, tmp_path, capsys):
        file = tmp_path / "customers.jsonl"
        file.write_text(json.dumps(ACME))
        call_command("customers", "import", str(file))
        shown = capsys.readouterr().out
        assert "imported  acme  customer, subscription, api_calls, exports" in shown
        assert "1 imported, 0 unchanged, 0 refused" in shown
