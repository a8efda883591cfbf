"""Measure by windows and groups: every aggregation against plain Python, exactly."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from core import errors
from core.periods import Interval
from metering import measuring
from metering.errors import MeterUnknown
from metering.measuring import Question
from metering.models import Meter, MeterEvent
from metering.services import ingest, meters
from metering.services.arrivals import Event
from metering.services.meters import Definition
from tests import factories

pytestmark = pytest.mark.django_db
DST_ENDS_AT = datetime(2026, 10, 25, 1, tzinfo=UTC)
REGIONS, PLANS = ("eu", "us", None), ("free", "pro")


def define(aggregation, *, at, **fields) -> Meter:
    path = "" if aggregation == "count" else "$.n"
    definition = Definition(
        key=f"m-{aggregation}",
        event_type="used",
        aggregation=aggregation,
        value_path=path,
        group_by={"region": "$.region", "plan": "$.plan"},
        late_horizon_seconds=86_400 * 400,
        **fields,
    )
    return meters.define(definition, clock=factories.standing(at))


def sent(customer, number, occurred_at, **data) -> Event:
    return Event(
        customer_id=customer.pk,
        source="/s",
        event_id=f"e{number}",
        event_type="used",
        occurred_at=occurred_at,
        data=data,
    )


def count(events, *, at) -> None:
    outcomes = ingest.ingest(events=events, clock=factories.standing(at))
    assert {outcome.result for outcome in outcomes} == {"counted"}


def question(meter, customer, at, **fields) -> Question:
    span = {"starts_at": at - timedelta(days=3), "ends_at": at + timedelta(days=1)}
    return Question(meter=meter, customer_id=customer.pk, **(span | fields))


def rounded(value: Fraction) -> int:
    whole, rest = divmod(abs(value), 1)
    magnitude = int(whole) + (1 if rest >= Fraction(1, 2) else 0)
    return -magnitude if value < 0 else magnitude


ORACLES = {
    "count": lambda values, scale: len(values),
    "sum": lambda values, scale: sum(values),
    "max": lambda values, scale: max(values),
    "min": lambda values, scale: min(values),
    "avg": lambda values, scale: rounded(Fraction(sum(values) * 10**6, len(values) * scale)),
    "unique_count": lambda values, scale: len(set(values)),
    "latest": lambda values, scale: values[-1],
}


class TestMeasure:
    @pytest.mark.parametrize("aggregation", list(ORACLES))
    def test_equals_plain_python_by_day_and_group(self, at, aggregation):
        """A seeded stream over a DST change in Berlin, another customer's events beside it."""
        at = datetime(2026, 10, 26, 12, tzinfo=UTC)
        customer, other = (factories.make_customer(at=at) for _ in range(2))
        meter = define(aggregation, at=at)
        stream = random.Random(7)
        expected = defaultdict(list)
        events = []
        for number in range(400):
            own = stream.random() < 0.8
            when = at - timedelta(seconds=stream.randrange(3 * 86_400))
            data = {"n": stream.randrange(-50, 50), "plan": stream.choice(PLANS)}
            region = stream.choice(REGIONS)
            data |= {"region": region} if region else {}
            events.append(sent(customer if own else other, number, when, **data))
            if own:
                day = (
                    when + timedelta(hours=2 if when < datetime(2026, 10, 25, 1, tzinfo=UTC) else 1)
                ).date()
                expected[(day.day, region, data["plan"])].append((when, number, data["n"]))
        count(events, at=at)

        figures = measuring.measure(
            question(
                meter,
                customer,
                at,
                window=Interval.DAY,
                time_zone="Europe/Berlin",
                group_by=("region", "plan"),
            )
        )

        oracle = ORACLES[aggregation]
        assert {
            (
                (each.period.starts_at + timedelta(hours=6)).day,
                each.group["region"],
                each.group["plan"],
            ): each.value
            for each in figures
        } == {
            key: oracle([value for *_, value in sorted(values)], 1)
            for key, values in expected.items()
        }
        assert len(figures) == len(expected) > 12

    def test_puts_an_event_at_a_boundary_into_the_new_window(self, at):
        customer = factories.make_customer(at=at)
        meter = define("count", at=at)
        midnight = datetime(2026, 3, 10, tzinfo=UTC)
        instants = [midnight - timedelta(microseconds=1), midnight, midnight + timedelta(hours=1)]
        count([sent(customer, n, when) for n, when in enumerate(instants)], at=at)

        figures = measuring.measure(question(meter, customer, at, window=Interval.DAY))

        assert [(each.period.starts_at.day, each.value) for each in figures] == [(9, 1), (10, 2)]
        whole = question(meter, customer, at, starts_at=midnight, ends_at=instants[2])
        assert [each.value for each in measuring.measure(whole)] == [1]

    def test_adds_beyond_what_sixty_four_bits_hold(self, at):
        customer = factories.make_customer(at=at)
        meter = define("sum", at=at, is_decimal=True)
        largest = "999999999999.999999"
        count([sent(customer, n, at, n=largest) for n in range(20)], at=at)
        (figure,) = measuring.measure(question(meter, customer, at))
        assert figure.value == 20 * 999_999_999_999_999_999 > 2**63
        assert figure.is_millionths

    @pytest.mark.parametrize(
        ("values", "is_decimal", "average"),
        [
            ([1, 2], False, 1_500_000),
            ([1, 1, 2], False, 1_333_333),
            ([1, 2, 2], False, 1_666_667),
            ([-1, -2, -2], False, -1_666_667),
            (["0.000001", 0], True, 1),
            (["-0.000001", 0], True, -1),
        ],
    )
    def test_rounds_an_average_half_away_from_zero(self, at, values, is_decimal, average):
        customer = factories.make_customer(at=at)
        meter = define("avg", at=at, is_decimal=is_decimal)
        count([sent(customer, n, at, n=value) for n, value in enumerate(values)], at=at)
        (figure,) = measuring.measure(question(meter, customer, at))
        assert (figure.value, figure.is_millionths) == (average, True)

    def test_takes_the_latest_by_time_then_arrival_then_place(self, at):
        customer = factories.make_customer(at=at)
        meter = define("latest", at=at)
        count([sent(customer, 9, at, n=1), sent(customer, 8, at, n=2)], at=at)
        count([sent(customer, 7, at - timedelta(seconds=1), n=3)], at=at + timedelta(seconds=5))
        assert [each.value for each in measuring.measure(question(meter, customer, at))] == [2]
        count([sent(customer, 6, at, n=4)], at=at + timedelta(seconds=5))
        assert [each.value for each in measuring.measure(question(meter, customer, at))] == [4]

    def test_filters_by_group(self, at):
        customer = factories.make_customer(at=at)
        meter = define("sum", at=at)
        given = [("eu", "pro", 1), ("eu", "free", 2), ("us", "pro", 4)]
        count(
            [
                sent(customer, n, at, n=value, region=region, plan=plan)
                for n, (region, plan, value) in enumerate(given)
            ],
            at=at,
        )
        for where, total in (
            ({"region": "eu"}, 3),
            ({"region": "eu", "plan": "pro"}, 1),
            ({"plan": "pro"}, 5),
        ):
            (figure,) = measuring.measure(question(meter, customer, at, where=where))
            assert figure.value == total
        assert measuring.measure(question(meter, customer, at, where={"plan": "gone"})) == []

    def test_refuses_unknown_groups_empty_spans_and_too_many_windows(self, at):
        customer = factories.make_customer(at=at)
        meter = define("count", at=at)
        long = {"starts_at": at - timedelta(minutes=measuring.WINDOWS_MAX), "ends_at": at}
        for wrong in (
            {"group_by": ("country",)},
            {"where": {"country": "de"}},
            {"starts_at": at, "ends_at": at},
            long | {"window": Interval.MINUTE, "ends_at": at + timedelta(seconds=1)},
        ):
            with pytest.raises(errors.Invalid):
                measuring.measure(question(meter, customer, at, **wrong))
        most = question(meter, customer, at, **long, window=Interval.MINUTE)
        assert measuring.measure(most) == []

    def test_refuses_more_figures_than_it_may_answer(self, at, monkeypatch):
        customer = factories.make_customer(at=at)
        meter = define("count", at=at)
        monkeypatch.setattr(measuring, "FIGURES_MAX", 2)
        for number, region in enumerate(("eu", "us")):
            count([sent(customer, number, at, region=region)], at=at)
        asked = question(meter, customer, at, group_by=("region",))
        assert len(measuring.measure(asked)) == 2
        count([sent(customer, 3, at)], at=at)
        with pytest.raises(errors.Invalid, match="more than 2 figures"):
            measuring.measure(asked)

    def test_reads_by_the_index_of_customer_meter_and_time(self, at):
        assert ["customer", "meter", "occurred_at"] in [
            index.fields for index in MeterEvent._meta.indexes
        ]


class TestGetMeter:
    @pytest.mark.parametrize("key", ["gone", "a\x00b"])
    def test_refuses_a_key_that_names_none(self, key):
        with pytest.raises(MeterUnknown):
            measuring.get_meter(key=key)
