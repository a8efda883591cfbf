"""Define meters, and keep what one means for ever."""

import pytest
from django.db import IntegrityError, transaction

from core import errors
from metering.models import Meter, MeterEvent
from metering.services import meters
from metering.services.meters import Definition
from tests import factories

REFUSED = r"never changes|meter_immutable"
pytestmark = pytest.mark.django_db
TOKENS = {"key": "tokens", "event_type": "used", "aggregation": "sum", "value_path": "$.n"}


class TestDefine:
    def test_makes_a_meter_as_it_is_told(self, at):
        given = TOKENS | {
            "is_decimal": True,
            "group_by": {"region": "$.region"},
            "filters": {"$.ok": [True]},
            "late_horizon_seconds": 60,
        }
        made = meters.define(Definition(**given), clock=factories.standing(at))
        row = Meter.objects.get()
        assert row == made
        assert (row.name, row.created_at, row.archived_at) == ("tokens", at, None)
        assert {name: getattr(row, name) for name in given} == given

    @pytest.mark.parametrize(
        ("wrong", "pointer"),
        [
            ({"key": "Tokens"}, "/key"),
            ({"key": ""}, "/key"),
            ({"event_type": ""}, "/event_type"),
            ({"event_type": "a" * 256}, "/event_type"),
            ({"aggregation": "median"}, "/aggregation"),
            ({"value_path": ""}, "/value_path"),
            ({"value_path": "tokens"}, "/value_path"),
            ({"aggregation": "count"}, "/value_path"),
            ({"aggregation": "unique_count", "is_decimal": True}, "/is_decimal"),
            ({"group_by": {"a b": "$.a"}}, "/group_by/a b"),
            ({"group_by": {"a__b": "$.a"}}, "/group_by/a__b"),
            ({"group_by": {"a": "a"}}, "/group_by/a"),
            ({"group_by": {f"g{n}": "$.a" for n in range(9)}}, "/group_by"),
            ({"filters": {"a": ["x"]}}, "/filters"),
            ({"filters": {"$.a": []}}, "/filters"),
            ({"filters": {"$.a": [1.5]}}, "/filters"),
            ({"filters": {f"$.f{n}": [1] for n in range(9)}}, "/filters"),
            ({"late_horizon_seconds": -1}, "/late_horizon_seconds"),
            ({"late_horizon_seconds": 10**10}, "/late_horizon_seconds"),
        ],
    )
    def test_refuses_what_makes_no_sense_and_makes_nothing(self, at, wrong, pointer):
        with pytest.raises(errors.Invalid) as refused:
            meters.define(Definition(**(TOKENS | wrong)), clock=factories.standing(at))
        assert pointer in [each["pointer"] for each in refused.value.facts()["errors"]]
        assert Meter.objects.count() == 0

    def test_refuses_a_key_that_means_something_already(self, at):
        meters.define(Definition(**TOKENS), clock=factories.standing(at))
        with pytest.raises(errors.Invalid) as refused:
            meters.define(
                Definition(**(TOKENS | {"value_path": "$.m"})), clock=factories.standing(at)
            )
        assert refused.value.facts()["errors"][0]["pointer"] == "/key"
        assert Meter.objects.get().value_path == "$.n"


class TestArchive:
    def test_keeps_the_first_instant(self, at):
        meter = meters.define(Definition(**TOKENS), clock=factories.standing(at))
        later = factories.standing(at.replace(year=2027))
        meters.archive(meter_id=meter.pk, clock=factories.standing(at))
        meters.archive(meter_id=meter.pk, clock=later)
        assert Meter.objects.get().archived_at == at


class TestImmutability:
    @pytest.fixture
    def meter(self, at) -> Meter:
        return meters.define(Definition(**TOKENS), clock=factories.standing(at))

    @pytest.mark.parametrize(
        "change",
        [
            {"key": "other"},
            {"event_type": "other"},
            {"aggregation": "max"},
            {"value_path": "$.m"},
            {"is_decimal": True},
            {"group_by": {"a": "$.a"}},
            {"filters": {"$.a": [1]}},
            {"late_horizon_seconds": 1},
        ],
    )
    def test_of_a_meters_meaning_is_kept_by_the_database(self, meter, change):
        with pytest.raises(IntegrityError, match=REFUSED), transaction.atomic():
            Meter.objects.filter(pk=meter.pk).update(**change)
        assert Meter.objects.filter(pk=meter.pk, **change).count() == 0

    def test_leaves_the_name_free(self, meter):
        Meter.objects.filter(pk=meter.pk).update(name="Tokens used")
        assert Meter.objects.get().name == "Tokens used"

    def test_of_what_was_read_is_kept_by_the_database(self, meter, at):
        event = MeterEvent.objects.create(
            customer=factories.make_customer(at=at),
            source="/s",
            event_id="e",
            item=0,
            event_type="used",
            occurred_at=at,
            received_at=at,
            position=0,
            meter=meter,
            value=1,
        )
        with pytest.raises(IntegrityError, match=REFUSED), transaction.atomic():
            MeterEvent.objects.filter(pk=event.pk).update(value=2)
        assert MeterEvent.objects.get().value == 1
