"""The constant that the comparators answer: as large as a consume's answer."""

ANSWER = {
    "id": "01936d3c-7c00-7000-8000-0000000000a1",
    "feature": "bench_calls",
    "units": 1,
    "used": 1000,
    "held": 0,
    "limit": 100000000000,
    "remaining": 99999999000,
    "period": {"starts_at": "2026-11-01T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z"},
    "consumed_at": "2026-11-23T09:30:00Z",
    "metadata": {},
}
