"""Read values from events: exact numbers, texts that tell apart, filters by type and value."""

import pytest

from metering import readings
from metering.models import Meter
from metering.readings import Reader, Unreadable


def reader(aggregation="sum", **fields) -> Reader:
    path = "" if aggregation == "count" else "$.n"
    return Reader.of(Meter(pk=1, aggregation=aggregation, value_path=path, **fields))


class TestMillionths:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (3, 3_000_000),
            (-3, -3_000_000),
            (1.5, 1_500_000),
            (0.1, 100_000),
            (-0.000001, None),  # repr writes an exponent
            ("0.000001", 1),
            ("-0.000001", -1),
            ("999999999999.999999", 999_999_999_999_999_999),
            (999999999.999999, 999_999_999_999_999),
            (1e9, None),  # from here on a binary float may have lost a millionth
            ("1.0000001", None),
            ("01", None),
            ("1e3", None),
            ("1_000", None),
            ("１２", None),
            ("+1", None),
            ("", None),
            (" 1", None),
            (1e300, None),
            (float("inf"), None),
            (True, None),
            (None, None),
            ([1], None),
        ],
    )
    def test_are_exact_or_not_taken(self, given, expected):
        assert readings.millionths(given) == expected


class TestReader:
    @pytest.mark.parametrize("given", [1.0, "1", True, None, [1], {}, 10**12 + 1, -(10**12) - 1])
    def test_refuses_what_is_no_bounded_integer(self, given):
        with pytest.raises(Unreadable):
            reader().read({"n": given})

    @pytest.mark.parametrize("given", [0, 7, -7, 10**12, -(10**12)])
    def test_takes_integers(self, given):
        assert reader().read({"n": given}).value == given

    @pytest.mark.parametrize("given", ["1000000000000.000001", 10**12 + 1])
    def test_bounds_decimals_as_well(self, given):
        with pytest.raises(Unreadable):
            reader(is_decimal=True).read({"n": given})

    def test_counts_without_a_value(self):
        assert reader("count").read(None) == readings.Reading(
            meter_id=1, value=None, text=None, groups={}
        )

    @pytest.mark.parametrize(
        ("given", "text"), [("a", "a"), (7, "7"), (True, "true"), (False, "false")]
    )
    def test_tells_texts_apart(self, given, text):
        assert reader("unique_count").read({"n": given}).text == text

    @pytest.mark.parametrize("given", [None, 1.5, [], {}, "a\x00", "a" * 256])
    def test_refuses_what_is_no_text_to_tell_apart(self, given):
        with pytest.raises(Unreadable):
            reader("unique_count").read({"n": given})

    def test_reads_the_groups_that_are_there(self):
        grouped = reader(group_by={"region": "$.region", "plan": "$.user.plan"})
        assert grouped.read({"n": 1, "region": "eu"}).groups == {"region": "eu"}

    def test_refuses_a_group_that_is_no_scalar(self):
        with pytest.raises(Unreadable, match="region must be a text"):
            reader(group_by={"region": "$.region"}).read({"n": 1, "region": ["eu"]})

    @pytest.mark.parametrize(
        ("status", "matches"),
        [(200, True), (True, False), ("200", False), (201, True), (None, False), ([200], False)],
    )
    def test_filters_by_type_and_value(self, status, matches):
        filtered = reader("count", filters={"$.status": [200, 201]})
        assert (filtered.read({"status": status}) is not None) is matches

    def test_reads_no_value_where_a_filter_does_not_match(self):
        filtered = reader(filters={"$.ok": [True]})
        assert filtered.read({"ok": False, "n": "not a number"}) is None
