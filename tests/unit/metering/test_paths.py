"""Read JSON paths: what the subset takes, what it refuses, what it finds."""

import pytest

from metering import paths


class TestParse:
    @pytest.mark.parametrize(
        ("text", "steps"),
        [
            ("$", ()),
            ("$.tokens", ("tokens",)),
            ("$.usage.total_tokens", ("usage", "total_tokens")),
            ("$.lines[0].amount", ("lines", 0, "amount")),
            ("$[12][3]", (12, 3)),
            ("$.content-type", ("content-type",)),
        ],
    )
    def test_reads_members_and_indexes(self, text, steps):
        assert paths.parse(text) == steps

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "tokens",
            "$tokens",
            "$.",
            "$..tokens",
            "$.*",
            "$[*]",
            "$[-1]",
            "$[01]",
            "$[10000]",
            "$['tokens']",
            "$.1",
            "$.a b",
            "$.ä",
            "$.a.",
            "$.tokens ",
            "$" + ".a" * 17,
            "$." + "a" * 254,
        ],
    )
    def test_refuses_everything_else(self, text):
        with pytest.raises(paths.PathInvalid):
            paths.parse(text)

    def test_says_where_a_path_stops_being_one(self):
        with pytest.raises(paths.PathInvalid, match="from character 8"):
            paths.parse("$.tokens..all")


class TestFind:
    DOCUMENT = {"a": {"b": [1, {"c": False}]}, "n": None}

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("$.a.b[0]", 1),
            ("$.a.b[1].c", False),
            ("$.a.b[2]", None),
            ("$.a.c", None),
            ("$.a[0]", None),
            ("$.a.b.c", None),
            ("$.n", None),
            ("$.n.a", None),
        ],
    )
    def test_returns_the_value_or_none(self, text, value):
        assert paths.find(paths.parse(text), document=self.DOCUMENT) is value

    def test_returns_the_document_itself(self):
        assert paths.find((), document=self.DOCUMENT) is self.DOCUMENT
