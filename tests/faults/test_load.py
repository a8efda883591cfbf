"""R1, R2, R3: under load, with repeated keys and killed workers, nothing is lost, over or twice."""

from argparse import Namespace
from collections import Counter

import psycopg
import pytest

from benchmarks import plain_load
from benchmarks._caller import DENIED, Load
from tests.faults.harness import FEW, SECONDS_MAX, figure
from tests.faults.load import report, together

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(SECONDS_MAX)]
SEEDS, ATTEMPTS = figure(short=1, long=50), figure(short=200, long=50_000)
DEMAND, CALLERS = 10 * FEW, 16


def options(**chosen):
    short = {"processes": 1, "connections": 16, "customers": 5, "without_audit": True}
    return Namespace(**vars(plain_load.parsed([])) | short | chosen)


class TestLoad:
    """R1, and R3 for the web's workers; `python -m benchmarks plain_load` is the long form."""

    @pytest.mark.parametrize("kill_every", [0.0, 0.5])
    def test_violates_no_invariant(self, engine, kill_every):
        chosen = options(attempts=ATTEMPTS, kill_every=kill_every, name=f"kill{kill_every}")
        seen = plain_load.run(engine, chosen)

        assert seen.violations == []
        assert seen.keys["consume"]
        assert seen.repeats
        assert (seen.kills > 0) == (kill_every > 0)
        assert kill_every or seen.statuses.keys() <= {200, 403}
        report("R1, R3", seen="; ".join(seen.lines()[:3]))

    def test_control_what_is_lost_told_otherwise_or_counted_twice_is_found(self, engine):
        load = Load(name="control", customers=5)
        chosen = options(attempts=40, name="control")
        outcomes = plain_load.run(engine, chosen).outcomes
        wrong = outcomes | {0: (DENIED, b""), 9_999: (200, b"")}
        count_more = (
            "UPDATE metering_balance SET used_units = used_units + %s WHERE customer_id ="
            " (SELECT id FROM core_customer WHERE external_key = 'control-hot')"
        )
        with psycopg.connect(engine.database_url, autocommit=True) as connection:
            connection.execute(count_more, [1])
            found = plain_load.recount(engine, load=load, outcomes=wrong)[0]
            found += plain_load.audited(engine)
            connection.execute(count_more, [-1])

        assert found[:3] == [
            "control-0: consume in the ledger, told otherwise",
            "9999: acknowledged and lost",
            "the counters differ from the ledger",
        ]
        assert "used equals the ledger" in found[3]
        assert plain_load.recount(engine, load=load, outcomes=outcomes)[0] == []


class TestDemand:
    """R2: ten times the limit is asked for, and the first use is parallel."""

    def test_is_granted_the_limit_exactly(self, engine):
        for seed in range(SEEDS):
            customer = engine.new_customer()
            keys = [f"demand-{seed}-{number}" for number in range(DEMAND)]
            statuses = together(
                [
                    lambda mine=keys[caller::CALLERS], whose=customer: [
                        engine.consume(key, customer=whose, feature="few")[0] for key in mine
                    ]
                    for caller in range(CALLERS)
                ]
            )
            found = Counter(status for each in statuses for status in each)
            assert found == {200: FEW, 403: DEMAND - FEW}, seed
        report("R2 demand", seeds=SEEDS, attempts=SEEDS * DEMAND, granted=f"{FEW} of {FEW} each")
