"""P3: everybody consumes of one customer, beside what most code does there.

By ORM: `select_for_update` the counter, test, save, write a line. By the raw driver: the same
statements on a connection of each thread. Neither knows keys, periods, denials or replays. At the
end grants = counter = ledger.
"""

import argparse
import threading
from collections.abc import Callable

import psycopg

from benchmarks import _engine
from benchmarks._table import Figure, interleave, report

LIMIT = 10**9


def main(arguments: list[str]) -> int:
    """Run the rounds, print the table, and return 0 where every count is exact."""
    parser = argparse.ArgumentParser(prog="benchmarks hot_key", description=__doc__)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args(arguments)
    rounds, seconds = (9, 10.0) if options.full else (3, 4.0)
    with _engine.engine(connections=70) as url:
        _engine.make_customers(range(1))
        by_orm, by_driver = _naive(url)
        goals = {("ORM", 32): "≥ 40", ("ORM", 64): "≥ 60", ("raw", 32): "≥ 12", ("raw", 64): "≥ 20"}
        comparisons = [
            (
                Figure(
                    name=f"P3 hot key, {threads} threads",
                    against=f"naive transaction, {name}, {threads} threads",
                    goal=goals[name, threads],
                ),
                lambda threads=threads: _engine.in_threads(
                    lambda *_: _engine.consume(0), threads=threads, seconds=seconds
                ),
                lambda work=work, threads=threads: _engine.in_threads(
                    work, threads=threads, seconds=seconds
                ),
            )
            for threads in (32, 64)
            for name, work in (("ORM", by_orm), ("raw", by_driver))
        ]
        figures = interleave(comparisons, rounds=rounds)
        faults = _engine.differences()
        report(
            "hot_key",
            figures,
            notes=["exact: grants = counter = ledger" if not faults else str(faults[:5])],
        )
        return 1 if faults else 0


def _naive(url: str) -> tuple[Callable[[int, int], None], Callable[[int, int], None]]:
    """Make the comparators' tables, and return one consume of each."""
    from django.db import connection, models, transaction  # noqa: PLC0415 - needs the settings

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE naive_counter (id bigserial PRIMARY KEY, used bigint)")
        cursor.execute(
            "CREATE TABLE naive_entry (id bigserial PRIMARY KEY, counter_id bigint, units bigint)"
        )
        cursor.execute("INSERT INTO naive_counter (used) VALUES (0)")

    def table(name: str, **fields: object) -> type[models.Model]:
        meta = type("Meta", (), {"app_label": "naive", "managed": False, "db_table": name})
        return type(name, (models.Model,), {"__module__": __name__, "Meta": meta, **fields})

    counter = table("naive_counter", used=models.BigIntegerField())
    entry = table(
        "naive_entry", counter_id=models.BigIntegerField(), units=models.BigIntegerField()
    )

    def by_orm(*_: int) -> None:
        with transaction.atomic():
            row = counter.objects.select_for_update().get(pk=1)
            if row.used + 1 <= LIMIT:
                row.used += 1
                row.save()
                entry.objects.create(counter_id=row.pk, units=1)

    own = threading.local()

    def by_driver(*_: int) -> None:
        if not hasattr(own, "connection"):
            own.connection = psycopg.connect(url, prepare_threshold=0)
        with own.connection.transaction(), own.connection.cursor() as cursor:
            cursor.execute("SELECT used FROM naive_counter WHERE id = 1 FOR UPDATE")
            if cursor.fetchone()[0] + 1 <= LIMIT:
                cursor.execute("UPDATE naive_counter SET used = used + 1 WHERE id = 1")
                cursor.execute("INSERT INTO naive_entry (counter_id, units) VALUES (1, 1)")

    return by_orm, by_driver
