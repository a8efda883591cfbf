"""What is kept out of logs."""

import pytest

from core.redaction import REDACTED, redacted


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"password": "x", "name": "y"}, {"password": REDACTED, "name": "y"}),
        ({"secret_hash": "x", "token_version": 3}, {"secret_hash": REDACTED, "token_version": 3}),
        ({"a": [{"refresh_token": "x"}]}, {"a": [{"refresh_token": REDACTED}]}),
        ({"Authorization": "Bearer x"}, {"Authorization": REDACTED}),
        ({"token": None, "password": ""}, {"token": None, "password": ""}),
        ("sent Bearer abc.def to", f"sent Bearer {REDACTED} to"),
        ("Api-Key ab12.cd34", f"Api-Key {REDACTED}"),
        ("eyJhbGciOi.eyJzdWIi.sig", REDACTED),
        ("postgres://me:pass@host/db", f"postgres://{REDACTED}@host/db"),
        ("plain words", "plain words"),
        (7, 7),
    ],
)
def test_secrets_are_blotted_out_and_the_rest_is_kept(given, kept):
    assert redacted(given) == kept


def test_what_is_nested_without_end_is_cut():
    deep: dict = {}
    for _ in range(50):
        deep = {"a": deep}
    assert REDACTED in str(redacted(deep))
