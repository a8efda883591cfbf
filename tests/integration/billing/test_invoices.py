"""Invoices follow a subscription's life: drafts in its transactions, issued on their own."""

from datetime import UTC, datetime, timedelta

import pytest

from billing import errors as own_errors
from billing import selectors
from billing.models import BalanceEntry, Invoice, InvoiceLine, MrrMovement, Payment
from billing.services import corrections, customer_balance, issuing, payments
from core import db, errors
from core.models import OutboxEvent
from subscriptions import renewals
from subscriptions.models import Subscription
from subscriptions.services import actions, add_ons, lifecycle, timeline
from tests import factories
from tests.till import STARTED, make_add_on

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
HALF_WAY = datetime(2026, 4, 16, tzinfo=UTC)
APRIL, MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (4, 5, 6))


def lines(**having) -> list[tuple]:
    return list(
        InvoiceLine.objects.filter(**having)
        .order_by("id")
        .values_list("kind", "description", "amount_minor", "starts_at", "ends_at")
    )


def mrr() -> list[tuple]:
    return list(
        MrrMovement.objects.order_by("id").values_list("kind", "amount_minor", "occurred_at")
    )


def money() -> tuple:
    stored = (Invoice, InvoiceLine, Payment, BalanceEntry, MrrMovement, Subscription)
    rows = [list(model.objects.order_by("pk").values()) for model in stored]
    return (*rows, OutboxEvent.objects.count())


class TestFirstInvoice:
    def test_is_open_until_its_payment_starts_the_period(self, customer, till):
        row = factories.subscribe(customer, "pro", at=STARTED, pay=False)
        assert lines() == [("recurring", "Pro", 1000, None, None)]
        assert mrr() == []
        (invoice,) = till.issue(STARTED)
        assert (invoice.status, invoice.label, invoice.due_minor) == ("open", "INV-000001", 1000)
        paid_at = STARTED + timedelta(hours=2)
        payment = till.mark(invoice, paid_at, reference="bank 7")
        row.refresh_from_db()
        assert (row.status, row.anchor_at) == ("active", paid_at)
        assert (invoice.status, invoice.due_minor, invoice.paid_at) == ("paid", 0, paid_at)
        assert (payment.gateway, payment.amount_minor, payment.is_late) == ("manual", 1000, False)
        assert lines() == [("recurring", "Pro", 1000, paid_at, APRIL + timedelta(hours=2))]
        assert mrr() == [("new", 1000, paid_at)]

    def test_is_paid_with_its_subscription_where_that_is_marked(self, customer, till):
        row = factories.subscribe(customer, "pro", at=STARTED, pay=False)
        till.issue(STARTED)
        lifecycle.mark_paid(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(STARTED)
        )
        invoice = Invoice.objects.get()
        assert (invoice.status, invoice.paid_minor) == ("paid", 1000)
        assert Payment.objects.get().amount_minor == 1000

    def test_is_paid_before_it_is_issued_where_nobody_issued_it(self, customer, till):
        factories.subscribe(customer, "pro", at=STARTED, pay=True)
        assert Invoice.objects.get().status == "draft"
        (invoice,) = till.issue(STARTED)
        assert (invoice.status, invoice.number, invoice.due_minor) == ("paid", 1, 0)

    def test_is_void_where_the_window_closes_unpaid(self, customer, till):
        row = factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.issue(STARTED)
        till.settle(STARTED + DAY)
        row.refresh_from_db()
        invoice.refresh_from_db()
        assert (row.status, invoice.status) == ("expired", "void")
        assert invoice.closed_by == "clock"
        before = money()
        with pytest.raises(own_errors.InvoiceClosed):
            till.mark(invoice, STARTED + DAY)
        assert money() == before

    def test_is_deleted_as_a_draft_where_a_newer_order_comes(self, customer, till):
        factories.subscribe(customer, "pro", at=STARTED, pay=False)
        factories.subscribe(customer, "team", at=STARTED + DAY / 2, pay=False)
        assert [each[1] for each in lines()] == ["Team"]

    def test_asks_for_the_rest_where_the_former_period_still_runs(self, customer, till):
        row = till.subscribe("pro", APRIL)
        actions.cancel_now(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(HALF_WAY)
        )
        again = till.subscribe("pro", HALF_WAY)
        assert again.anchor_at == APRIL
        assert lines(subscription=again) == [("charge", "Remaining time: Pro", 500, HALF_WAY, MAY)]
        assert [kind for kind, *_ in mrr()] == ["new", "churn", "reactivation"]

    def test_comes_at_the_end_of_a_trial(self, customer, till):
        factories.make_plan("try", at=STARTED, price_minor=700, version={"trial_days": 31})
        row = factories.subscribe(customer, "try", at=STARTED)
        assert (lines(), mrr()) == ([], [])
        Subscription.objects.filter(pk=row.pk).update(has_payment_method=True)
        till.settle(APRIL)
        assert lines() == [("recurring", "Try", 700, APRIL, MAY)]
        assert mrr() == [("new", 700, APRIL)]

    def test_is_never_written_for_what_is_free(self, customer, till):
        factories.subscribe(customer, "free", at=STARTED)
        till.settle(MAY)
        assert (lines(), mrr(), till.issue(MAY)) == ([], [], [])


class TestRenewal:
    def test_bills_each_period_once_in_advance(self, customer, till):
        till.subscribe("pro", APRIL)
        till.settle(JUNE)
        till.settle(JUNE)
        assert [each[2:] for each in lines()] == [
            (1000, APRIL, MAY),
            (1000, MAY, JUNE),
            (1000, JUNE, datetime(2026, 7, 1, tzinfo=UTC)),
        ]
        invoices = till.issue(JUNE)
        assert [(each.label, each.billed_at) for each in invoices] == [
            ("INV-000001", APRIL),
            ("INV-000002", MAY),
            ("INV-000003", JUNE),
        ]
        assert invoices[2].due_at == JUNE + 14 * DAY
        assert mrr() == [("new", 1000, APRIL)]

    def test_told_twice_bills_once(self, customer, till):
        row = till.subscribe("pro", APRIL)
        till.settle(MAY)
        row.refresh_from_db()
        period = renewals.billing_period(row, at=MAY)
        with db.transaction():
            timeline.renewed_step(row, period=period, at=MAY)
        assert len(lines()) == 2

    def test_bills_what_was_used_after_the_period(self, customer, till):
        till.subscribe("usage", APRIL)
        factories.consume(customer, 150, at=APRIL + DAY)
        factories.consume(customer, 51, at=MAY - timedelta(microseconds=1))
        till.settle(MAY)
        assert lines(kind="metered") == [("metered", "api_calls", 152, APRIL, MAY)]
        line = InvoiceLine.objects.get(kind="metered")
        assert (line.quantity, line.entries) == (201, 2)
        assert line.invoice.billed_at == MAY
        factories.consume(customer, 100, at=MAY)
        till.settle(JUNE)
        assert len(lines(kind="metered")) == 1

    def test_bills_the_last_usage_at_the_end(self, customer, till):
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 300, at=APRIL + DAY)
        actions.cancel_now(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(HALF_WAY)
        )
        assert lines(kind="metered") == [("metered", "api_calls", 300, APRIL, HALF_WAY)]
        assert mrr()[-1] == ("churn", -500, HALF_WAY)


class TestChange:
    def test_up_credits_the_unused_and_charges_the_rest(self, customer, till):
        row = till.subscribe("pro", APRIL)
        till.change(row, HALF_WAY, plan_key="team")
        assert lines()[1:] == [
            ("proration_credit", "Unused time: Pro", -500, HALF_WAY, MAY),
            ("charge", "Remaining time: Team", 1000, HALF_WAY, MAY),
        ]
        invoice = till.issue(HALF_WAY)[1]
        assert (invoice.total_minor, invoice.due_minor, invoice.status) == (500, 500, "open")
        assert mrr()[1:] == [("expansion", 1000, HALF_WAY)]

    def test_down_waits_for_the_period_and_prorates_nothing(self, customer, till):
        row = till.subscribe("team", APRIL)
        till.change(row, HALF_WAY, plan_key="pro")
        assert (len(lines()), len(mrr())) == (1, 1)
        till.settle(MAY)
        assert lines()[1:] == [("recurring", "Pro", 1000, MAY, JUNE)]
        assert mrr()[1:] == [("contraction", -1000, MAY)]

    def test_of_the_interval_charges_a_whole_new_period(self, customer, till):
        row = till.subscribe("pro", APRIL)
        row = till.change(row, HALF_WAY, plan_key="annual")
        until = datetime(2027, 4, 16, tzinfo=UTC)
        assert lines()[1:] == [
            ("proration_credit", "Unused time: Pro", -500, HALF_WAY, MAY),
            ("charge", "Annual", 20000, HALF_WAY, until),
        ]
        assert mrr()[1:] == [("expansion", 667, HALF_WAY)]
        till.settle(until)
        assert lines()[3:] == [
            ("recurring", "Annual", 20000, until, datetime(2028, 4, 16, tzinfo=UTC))
        ]

    def test_of_the_quantity_charges_more_seats_for_the_rest(self, customer, till):
        row = till.subscribe("seats", APRIL)
        till.change(row, HALF_WAY, quantity=5)
        assert lines()[1:] == [
            ("proration_credit", "Unused time: Seats", -500, HALF_WAY, MAY),
            ("charge", "Remaining time: Seats", 2500, HALF_WAY, MAY),
        ]
        assert mrr()[1:] == [("expansion", 4000, HALF_WAY)]

    def test_on_trial_bills_nothing(self, customer, till):
        factories.make_plan("try", at=STARTED, price_minor=700, version={"trial_days": 31})
        row = factories.subscribe(customer, "try", at=STARTED)
        till.change(row, STARTED + DAY, plan_key="team")
        assert (lines(), mrr()) == ([], [])

    def test_below_nothing_goes_to_the_balance_and_pays_the_next_invoice(self, customer, till):
        row = till.subscribe("annual", APRIL)
        row = till.change(row, APRIL + 73 * DAY, plan_key="pro", when="now")
        invoice = till.issue(APRIL + 73 * DAY)[1]
        assert (invoice.total_minor, invoice.status) == (-15000, "paid")
        entry = BalanceEntry.objects.get()
        assert (entry.kind, entry.amount_minor, entry.balance_minor) == ("proration", 15000, 15000)
        renewal = datetime(2026, 7, 13, tzinfo=UTC)
        till.settle(renewal)
        paid = till.issue(renewal)[2]
        assert (paid.total_minor, paid.balance_minor, paid.status) == (1000, 1000, "paid")
        assert selectors.get_balance_minor(customer_id=customer.pk, currency="EUR") == 14000

    def test_several_times_conserves_what_was_billed(self, customer, till):
        row = till.subscribe("pro", APRIL)
        row = till.change(row, APRIL + 10 * DAY, plan_key="team")
        row = till.change(row, APRIL + 20 * DAY, plan_key="seats", quantity=3)
        amounts = [each[2] for each in lines()]
        assert amounts == [1000, -667, 1333, -667, 1000]
        assert sum(amounts) == 1999  # 333 + 666 + 1000: the vector PO-C1


class TestAddOn:
    @pytest.fixture
    def row(self, till) -> Subscription:
        row = till.subscribe("pro", APRIL)
        make_add_on(row.plan_group, at=STARTED)
        return row

    def hold(self, row, quantity: int, at: datetime) -> None:
        add_ons.set_quantity(
            subscription_id=row.pk,
            order=add_ons.AddOnOrder(add_on_key="support", quantity=quantity),
            actor=factories.ACTOR,
            clock=factories.standing(at),
        )

    def test_is_charged_for_the_rest_then_renewed_then_credited(self, row, till):
        self.hold(row, 2, HALF_WAY)
        assert lines()[1:] == [("charge", "Remaining time: Support", 300, HALF_WAY, MAY)]
        assert mrr()[1:] == [("expansion", 600, HALF_WAY)]
        till.settle(MAY)
        assert lines()[2:] == [
            ("recurring", "Pro", 1000, MAY, JUNE),
            ("recurring", "Support", 600, MAY, JUNE),
        ]
        self.hold(row, 0, MAY)
        assert lines()[4:] == [("proration_credit", "Unused time: Support", -600, MAY, JUNE)]
        assert mrr()[2:] == [("contraction", -600, MAY)]


class TestPayment:
    def test_failure_starts_grace_and_success_ends_it(self, customer, till):
        row = till.subscribe("pro", APRIL)
        till.settle(MAY)
        invoice = till.issue(MAY)[1]
        till.mark(invoice, MAY, status="failed")
        row.refresh_from_db()
        assert (row.status, row.grace_until) == ("past_due", MAY + 7 * DAY)
        assert (invoice.status, len(mrr())) == ("open", 1)
        till.mark(invoice, MAY + DAY)
        row.refresh_from_db()
        assert (row.status, invoice.status) == ("active", "paid")
        assert len(mrr()) == 1

    def test_waits_for_every_failed_invoice_before_it_recovers(self, customer, till):
        row = till.subscribe("pro", APRIL)
        till.settle(MAY)
        till.settle(JUNE)
        _, may, june = till.issue(JUNE)
        till.mark(may, JUNE, status="failed")
        till.mark(june, JUNE, status="failed")
        till.mark(june, JUNE + DAY)
        row.refresh_from_db()
        assert row.status == "past_due"
        till.mark(may, JUNE + DAY)
        row.refresh_from_db()
        assert row.status == "active"

    def test_told_twice_changes_nothing(self, customer, till):
        factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.issue(STARTED)
        till.mark(invoice, STARTED, reference="bank 7")
        before = money()
        till.mark(invoice, STARTED + DAY, reference="bank 7")
        assert money() == before

    def test_of_another_amount_or_for_what_is_closed_is_refused(self, customer, till):
        factories.subscribe(customer, "pro", at=STARTED, pay=False)
        clock = factories.standing(STARTED)
        draft = Invoice.objects.get()
        before = money()
        with pytest.raises(own_errors.InvoiceClosed):
            till.mark(draft, STARTED)
        assert money() == before
        (invoice,) = till.issue(STARTED)
        report = payments.Report(
            invoice_id=invoice.pk,
            gateway="sandbox",
            reference="e1",
            status="succeeded",
            amount_minor=999,
            currency="EUR",
        )
        before = money()
        with pytest.raises(own_errors.AmountMismatch):
            payments.note(report=report, actor=factories.ACTOR, clock=clock)
        with pytest.raises(errors.NotFound):
            till.mark(Invoice(), STARTED)
        assert money() == before

    def test_by_a_gateway_that_comes_too_late_is_recorded_to_refund(self, customer, till):
        row = factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.issue(STARTED)
        till.settle(STARTED + DAY)
        report = payments.Report(
            invoice_id=invoice.pk,
            gateway="sandbox",
            reference="e1",
            status="succeeded",
            amount_minor=1000,
            currency="EUR",
        )
        payment = payments.note(
            report=report, actor=factories.ACTOR, clock=factories.standing(STARTED + DAY)
        )
        row.refresh_from_db()
        assert (payment.is_late, row.status) == (True, "expired")
        assert OutboxEvent.objects.filter(event_type="invoice.payment_late").count() == 1

    def test_reference_of_another_invoice_is_refused(self, customer, till):
        till.subscribe("pro", APRIL)
        till.settle(MAY)
        first, second = till.issue(MAY)
        reference = first.payments.get().reference
        before = money()
        with pytest.raises(errors.Invalid):
            till.mark(second, MAY, reference=reference)
        assert money() == before


class TestCorrection:
    @pytest.fixture
    def invoice(self, till) -> Invoice:
        till.subscribe("pro", APRIL)
        till.settle(MAY)
        return till.issue(MAY)[1]

    def correct(self, act, invoice, **given):
        done = act(
            invoice_id=invoice.pk, actor=factories.ACTOR, clock=factories.standing(MAY), **given
        )
        invoice.refresh_from_db()
        return done

    def test_voids_what_nobody_paid(self, invoice):
        self.correct(corrections.void, invoice)
        assert (invoice.status, invoice.closed_by) == ("void", "test")
        self.correct(corrections.void, invoice)

    def test_gives_back_to_the_balance_what_a_void_invoice_took(self, customer, till):
        customer_balance.adjust(
            customer_id=customer.pk,
            currency="EUR",
            amount_minor=300,
            actor=factories.ACTOR,
            clock=factories.standing(STARTED),
        )
        factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.issue(STARTED)
        assert (invoice.balance_minor, invoice.due_minor) == (300, 700)
        self.correct(corrections.void, invoice)
        assert selectors.get_balance_minor(customer_id=customer.pk, currency="EUR") == 300

    def test_gives_up_what_will_not_be_paid_and_still_takes_the_money(self, invoice, till):
        self.correct(corrections.give_up, invoice)
        assert invoice.status == "uncollectible"
        till.mark(invoice, MAY + DAY)
        assert invoice.status == "paid"

    def test_by_a_credit_note_lowers_what_is_due_then_fills_the_balance(
        self, customer, invoice, till
    ):
        first = self.correct(corrections.credit_note, invoice, amount_minor=400)
        assert (first.label, first.balance_minor, invoice.due_minor) == ("CN-000001", 0, 600)
        till.mark(invoice, MAY)
        second = self.correct(corrections.credit_note, invoice, amount_minor=500)
        assert (second.label, second.balance_minor) == ("CN-000002", 500)
        assert selectors.get_balance_minor(customer_id=customer.pk, currency="EUR") == 500
        before = money()
        with pytest.raises(own_errors.AmountMismatch):
            self.correct(corrections.credit_note, invoice, amount_minor=101)
        assert money() == before

    def test_by_a_credit_note_of_all_closes_the_invoice_and_recovers(self, invoice, till):
        till.mark(invoice, MAY, status="failed")
        self.correct(corrections.credit_note, invoice, amount_minor=1000)
        assert invoice.status == "paid"
        assert Subscription.objects.get().status == "active"

    def test_is_not_credited_again_by_a_later_change(self, invoice, till):
        self.correct(corrections.credit_note, invoice, amount_minor=1000)
        till.change(Subscription.objects.get(), MAY + 10 * DAY, plan_key="team")
        assert lines(kind="proration_credit") == []

    @pytest.mark.parametrize("act", [corrections.void, corrections.give_up])
    def test_refuses_what_is_paid(self, act, till):
        till.subscribe("pro", APRIL)
        (invoice,) = till.issue(APRIL)
        before = money()
        with pytest.raises(own_errors.InvoiceClosed):
            self.correct(act, invoice)
        assert money() == before

    def test_refuses_drafts_void_ones_and_what_was_credited_already(self, customer, till):
        row = till.subscribe("pro", APRIL)
        till.settle(MAY)
        invoice = till.issue(MAY)[1]
        till.change(row, MAY + DAY, plan_key="team")
        before = money()
        with pytest.raises(own_errors.InvoiceClosed):
            self.correct(corrections.void, invoice)
        unissued = Invoice.objects.get(status="draft")
        for act in (corrections.void, corrections.give_up):
            with pytest.raises(own_errors.InvoiceClosed):
                self.correct(act, unissued)
        with pytest.raises(own_errors.InvoiceClosed):
            self.correct(corrections.credit_note, unissued, amount_minor=1)
        with pytest.raises(own_errors.AmountMismatch):
            self.correct(corrections.credit_note, invoice, amount_minor=0)
        assert money() == before


class TestIssue:
    def test_is_done_once(self, customer, till):
        factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.issue(STARTED)
        before = money()
        issuing.issue(invoice_id=invoice.pk, clock=factories.standing(MAY))
        assert till.issue(MAY)
        assert money() == before
        with pytest.raises(errors.NotFound):
            issuing.issue(invoice_id=Invoice().pk, clock=factories.standing(MAY))

    def test_activates_what_the_balance_pays_in_full(self, customer, till):
        customer_balance.adjust(
            customer_id=customer.pk,
            currency="EUR",
            amount_minor=1000,
            actor=factories.ACTOR,
            clock=factories.standing(STARTED),
        )
        row = factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.issue(STARTED)
        row.refresh_from_db()
        assert (invoice.status, row.status) == ("paid", "active")
        assert lines() == [("recurring", "Pro", 1000, STARTED, APRIL)]


class TestBalance:
    @pytest.mark.parametrize(
        ("given", "refusal"),
        [
            ({"amount_minor": 0}, errors.Invalid),
            ({"amount_minor": 1, "currency": "eur"}, errors.Invalid),
            ({"amount_minor": -1}, own_errors.AmountMismatch),
        ],
    )
    def test_refuses_what_it_does_not_hold(self, customer, given, refusal):
        before = money()
        with pytest.raises(refusal):
            customer_balance.adjust(
                customer_id=customer.pk,
                actor=factories.ACTOR,
                clock=factories.standing(STARTED),
                **({"currency": "EUR"} | given),
            )
        with pytest.raises(errors.NotFound):
            customer_balance.adjust(
                customer_id=Invoice().pk,
                currency="EUR",
                amount_minor=1,
                actor=factories.ACTOR,
                clock=factories.standing(STARTED),
            )
        assert money() == before
