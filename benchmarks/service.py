"""P1, P2: the service's `consume` beside pgbench with the same statements.

P1: one connection, one at a time, against one client of pgbench. P2: many threads over many
customers against as many clients, each of whom commits each consume on its own. `--full` takes
more and longer turns. At the end grants = counter = ledger, and nobody is over a limit.
"""

import argparse
import random

from benchmarks import _engine
from benchmarks._table import Figure, interleave, report

CUSTOMERS = 10_000


def main(arguments: list[str]) -> int:
    """Run the rounds, print the table, and return 0 where every count is exact."""
    parser = argparse.ArgumentParser(prog="benchmarks service", description=__doc__)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args(arguments)
    rounds, seconds = (9, 10.0) if options.full else (3, 4.0)
    with _engine.engine(connections=70) as url:
        _engine.make_customers(range(options.customers))
        script = _engine.statements(customers=options.customers)
        chance = random.Random(7)

        def consume(*_: int) -> None:
            _engine.consume(chance.randrange(options.customers))

        comparisons = [
            (
                Figure(name=name, against=against, goal=goal),
                lambda threads=threads: _engine.in_threads(
                    consume, threads=threads, seconds=seconds
                ),
                lambda clients=clients: _engine.pgbench(
                    url, script, clients=clients, seconds=seconds
                ),
            )
            for name, threads, against, clients, goal in (
                ("P1 service consume", 1, "pgbench, 1 client", 1, "≥ 0.7"),
                ("P2 service, 32 threads", 32, "pgbench, 32 clients", 32, "≥ 2"),
                ("P2 service, 64 threads", 64, "pgbench, 32 clients", 32, "≥ 3"),
            )
        ]
        figures = interleave(comparisons, rounds=rounds)
        faults = _engine.differences()
        exact = "exact: grants = counter = ledger, nobody over" if not faults else str(faults[:5])
        report("service", figures, notes=[f"{options.customers:,} customers; {exact}"])
        return 1 if faults else 0
