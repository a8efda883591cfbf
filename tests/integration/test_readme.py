"""Walk the README's five minutes as they stand: its block, against a server made as it says."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from core.testing import servers

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CURL = '''#!{python}
"""Stand in for curl where a machine has none: -s, -i, -H and -d."""
import sys, urllib.error, urllib.request
arguments, headers, data, url = iter(sys.argv[1:]), {{}}, None, ""
for each in arguments:
    if each == "-H":
        name, _, value = next(arguments).partition(": ")
        headers[name] = value
    elif each == "-d":
        data = next(arguments).encode()
    elif not each.startswith("-"):
        url = each
try:
    answer = urllib.request.urlopen(urllib.request.Request(url, data, headers))
except urllib.error.HTTPError as error:
    answer = error
if "-i" in sys.argv:
    print("HTTP/1.1", answer.status)
    print(answer.headers)
print(answer.read().decode(), end="")
'''


@pytest.fixture
def served(tmp_path):
    """Serve the demo as `make run` does, on a free port and a fresh SQLite file; keep its words."""
    port = servers.free_port()
    environment = os.environ | {
        "DEBUG": "1",
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "REDIS_URL": "",
    }
    manage = [sys.executable, str(ROOT / "manage.py")]
    told = ""
    for command in (["migrate", "--verbosity", "0"], ["demo"]):
        told += subprocess.run(
            [*manage, *command], env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    server = subprocess.Popen(
        [*manage, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await(f"http://127.0.0.1:{port}/readyz")
        yield environment, told
    finally:
        server.terminate()
        server.wait(timeout=20)


def _await(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    message = f"{url} does not answer"
    raise AssertionError(message)


def test_five_minutes_lead_to_the_denied_request(served, tmp_path):
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) == 1
    environment, told = served
    if shutil.which("curl") is None:
        stand_in = tmp_path / "curl"
        stand_in.write_text(CURL.format(python=sys.executable))
        stand_in.chmod(0o755)
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"

    done = subprocess.run(
        ["bash", "-eu", "-c", blocks[0]],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    me, *answers = (json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{")
    assert (me["plan"], me["limits"]["api_calls"], me["usage"]["api_calls"]) == ("Pro", 1000, 998)
    first, again, refused = answers
    assert (first["used"], first["remaining"]) == (1000, 0)
    assert again == first
    assert done.stdout.lower().count("idempotent-replayed: true") == 1
    assert (refused["status"], refused["code"]) == (403, "usage_limit_reached")
    assert refused["resets_at"] == first["period"]["ends_at"]
    assert f"http://127.0.0.1:{environment['PORT']}/verify-email#" in told
    assert re.findall(r"^HTTP/1\.1 (\d+)", done.stdout, re.MULTILINE) == ["200", "200", "403"]
