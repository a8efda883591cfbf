"""R7, R12, R14 over HTTP: storms, double clicks and holds that end twice have one outcome each."""

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest
from psycopg.errors import DeadlockDetected

from tests.faults.harness import FEW, SECONDS_MAX, figure
from tests.faults.load import report, together

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(SECONDS_MAX)]
ROUNDS = figure(short=1, long=200)
CLICKS, STORMERS = 20, 12
TURNS, LATE = figure(short=4, long=80), figure(short=6, long=120)
BUSY = 503
FEATURES = ("api_calls", "tokens", "few")


def patiently(engine, path, body, *, key):
    """Return status and body in the end: who is told that the house is busy asks again."""
    while True:
        status, answer = engine.post(path, body, key=key)
        if status != BUSY:
            return status, answer


def deadlocks(engine) -> int:
    """Return how many the database has counted; each session tells its own at its end."""
    with psycopg.connect(engine.database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    return row[0]


class TestStorm:
    """R7: consuming in any order, changes, cancels and bookings of the same customers."""

    def test_of_everything_at_once_meets_no_deadlock(self, engine):
        customers = [engine.new_customer() for _ in range(3)]
        for customer in customers:
            engine.post("subscriptions/", {"customer": customer, "plan": "basic"})
        before = deadlocks(engine)
        answers = together(
            [partial(self.storm, engine, customers, seed=seed) for seed in range(STORMERS)]
        )
        statuses = Counter(status for each in answers for status in each)
        time.sleep(1)  # sessions tell their counts within a second

        assert deadlocks(engine) == before
        assert statuses.keys() <= {200, 201, 403, 409, 422, BUSY}
        assert statuses[200]
        assert statuses[201]
        report("R7 storm", deadlocks=0, answers=dict(statuses))

    def storm(self, engine, customers, *, seed):
        chance = random.Random(seed)
        return [self.turn(engine, chance.choice(customers), chance) for _ in range(TURNS)]

    def turn(self, engine, customer, chance):
        whose = {"customer": customer}
        turn = chance.random()
        if turn < 0.5:
            names = chance.sample(FEATURES, k=3)
            items = [{"feature": name, "units": 1} for name in names]
            return engine.post("usage/consume/", whose | {"items": items})[0]
        if turn < 0.65:
            plan = chance.choice(["basic", "pro"])
            return engine.post("subscriptions/me/change/", whose | {"plan": plan})[0]
        if turn < 0.8:
            move = chance.choice(["cancel", "undo-cancel"])
            return engine.post(f"subscriptions/me/{move}/", whose)[0]
        day = datetime.now(UTC).date() + timedelta(days=1)
        starts_at = datetime(day.year, day.month, day.day, chance.randrange(9, 20), tzinfo=UTC)
        asked = {
            "starts_at": starts_at.isoformat(),
            "ends_at": (starts_at + timedelta(hours=1)).isoformat(),
            "allocations": [{"resource": f"court-{chance.randrange(4)}"}],
        }
        status, body = engine.post("bookings/", whose | asked)
        if status == 201 and chance.random() < 0.5:
            return engine.post(f"bookings/{body['id']}/cancel/", whose)[0]
        return status

    def test_control_two_orders_of_locks_deadlock_and_are_counted(self, engine):
        before = deadlocks(engine)
        with psycopg.connect(engine.database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE ordered (id int PRIMARY KEY, n int)")
            connection.execute("INSERT INTO ordered VALUES (1, 0), (2, 0)")
        outcomes = together([partial(self.lock, engine, 1, 2), partial(self.lock, engine, 2, 1)])
        with psycopg.connect(engine.database_url, autocommit=True) as connection:
            connection.execute("DROP TABLE ordered")

        assert sorted(outcomes) == ["deadlock", "done"]
        assert deadlocks(engine) == before + 1

    @staticmethod
    def lock(engine, first, second):
        try:
            with psycopg.connect(engine.database_url) as connection:
                for number in (first, second):
                    connection.execute("UPDATE ordered SET n = n + 1 WHERE id = %s", [number])
                    time.sleep(0.3)
        except DeadlockDetected:
            return "deadlock"
        return "done"


class TestDoubleClick:
    """R12: the same wish twenty times at once, under one key or under twenty."""

    @pytest.mark.parametrize("keys", [1, CLICKS])
    @pytest.mark.parametrize("move", ["subscribe", "change", "pay"])
    def test_has_one_effect(self, engine, move, keys):
        for _ in range(ROUNDS):
            customer = engine.new_customer()
            path, body, done, refused = self.wish(engine, customer, move)
            answers = together(
                [
                    partial(patiently, engine, path, body, key=f"{customer}-{click % keys}")
                    for click in range(CLICKS)
                ]
            )
            statuses = Counter(status for status, _ in answers)
            if keys == 1:
                assert statuses == {done: CLICKS}
                assert len({str(answer) for _, answer in answers}) == 1
            else:
                assert statuses == {done: 1, refused: CLICKS - 1}
            assert self.effects(engine, customer, move) == 1
        report(f"R12 {move}, {keys} keys", rounds=ROUNDS, clicks=CLICKS, effects="1 each")

    @staticmethod
    def wish(engine, customer, move):
        """Prepare, and return path, body, the status of success, and that of a repetition."""
        whose = {"customer": customer}
        if move == "subscribe":
            return "subscriptions/", whose | {"plan": "basic"}, 201, 409
        if move == "change":
            assert engine.post("subscriptions/", whose | {"plan": "basic"})[0] == 201
            return "subscriptions/me/change/", whose | {"plan": "pro"}, 200, 422
        assert engine.post("subscriptions/", whose | {"plan": "gold"})[0] == 201
        _, rows, _ = engine.ask("GET", f"/api/subscriptions/?customer={customer}")
        return f"subscriptions/{rows['results'][0]['id']}/mark-paid/", {"reason": "bank"}, 200, 409

    @staticmethod
    def effects(engine, customer, move):
        _, body, _ = engine.ask("GET", f"/api/subscriptions/me/timeline/?customer={customer}")
        event = {
            "subscribe": "subscribed",
            "change": "change_plan_now",
            "pay": "payment_succeeded",
        }[move]
        return Counter(row["event"] for row in body["results"])[event]


class TestHolds:
    """R14: a hold ends once, whoever is first."""

    @pytest.mark.parametrize(
        ("first", "second", "outcomes"),
        [
            (("capture", {"units": 7}), ("capture", {"units": 7}), {200: 2}),
            (("capture", {"units": 7}), ("capture", {"units": 5}), {200: 1, 409: 1}),
            (("capture", {"units": 7}), ("release", {}), {200: 1, 409: 1}),
        ],
    )
    def test_ends_once(self, engine, first, second, outcomes):
        for _ in range(ROUNDS):
            customer = engine.new_customer()
            hold = self.held(engine, customer, units=10, ttl_seconds=300)
            endings = [partial(self.end, engine, customer, hold, *each) for each in (first, second)]
            answers = together(endings)
            assert Counter(status for status, _ in answers) == outcomes
            won = next(body for status, body in answers if status == 200)
            assert self.counted(engine, customer) == (won["captured_units"], 0)

    def test_expires_or_is_captured(self, engine):
        customers = [engine.new_customer() for _ in range(LATE)]
        won = Counter(together([partial(self.late, engine, each) for each in customers]))
        assert set(won) <= {"captured", "expired", "neither"}
        report("R14 holds", expired_against_captured=dict(won))

    def late(self, engine, customer):
        """Capture at the hold's last instant, while somebody takes what it would leave."""
        units = FEW - 10
        hold = self.held(engine, customer, units=units, ttl_seconds=1)
        time.sleep(random.uniform(0.8, 1.0))
        wanted = {"customer": customer, "feature": "few", "units": units}
        (captured, _), (consumed, _) = together(
            [
                partial(self.end, engine, customer, hold, "capture", {}),
                partial(patiently, engine, "usage/consume/", wanted, key=f"{customer}-late"),
            ]
        )
        assert captured in {200, 409}
        assert consumed in {200, 403}
        assert (captured, consumed) != (200, 200)
        used, held = self.counted(engine, customer)
        assert used == units * ((captured == 200) + (consumed == 200))
        assert held in {0, units * (captured == 409 and consumed == 403)}
        return "captured" if captured == 200 else "expired" if consumed == 200 else "neither"

    @staticmethod
    def held(engine, customer, *, units, ttl_seconds):
        wanted = {"feature": "few", "units": units, "ttl_seconds": ttl_seconds}
        status, body = engine.post("usage/holds/", {"customer": customer} | wanted)
        assert status == 201
        return body["id"]

    @staticmethod
    def end(engine, customer, hold, move, body):
        whose = {"customer": customer}
        key = f"{customer}-{move}-{body.get('units')}-{random.random()}"
        return patiently(engine, f"usage/holds/{hold}/{move}/", whose | body, key=key)

    @staticmethod
    def counted(engine, customer):
        _, body, _ = engine.ask("GET", f"/api/subscriptions/me/?customer={customer}")
        return body["usage"]["few"], body["held"]["few"]
