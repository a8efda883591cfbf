"""Texts of arrays say in PostgreSQL what the lists said."""

from uuid import UUID

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import db

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


@pytest.mark.postgres
@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.one_of(TEXTS, st.sampled_from(['"', "\\", "{}", ",", "NULL", ""]))))
def test_texts_come_back_as_they_were(texts):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::text[]", [db.text_array(texts)])
        assert cursor.fetchone()[0] == texts


@pytest.mark.postgres
@pytest.mark.django_db
def test_numbers_and_ids_come_back_as_they_were():
    ids = [UUID(int=7), UUID(int=2**128 - 1)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT %s::bigint[], %s::uuid[], %s::smallint[]",
            [
                db.array([1, -(2**63), 2**63 - 1]),
                db.array(each.hex for each in ids),
                db.array([None]),
            ],
        )
        assert cursor.fetchone() == ([1, -(2**63), 2**63 - 1], ids, [None])
