"""Change what decides in every small way, one at a time, and count what its tests notice.

Each set of `[tool.mutants]` in pyproject.toml names modules and their tests: the pure core by unit
tests alone, the services of consumption on PostgreSQL and, for what that left, on SQLite. Works on
copies of the project. The score is the share of mutants killed, or stuck in a loop. Ends with 0
where each set has 90 % or more.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCORE_MIN = 90.0
LEFT_OUT = shutil.ignore_patterns(".*_cache", ".git", ".venv", ".run", "__pycache__", "mutants")
NOTICED = {"killed", "timeout", "suspicious", "segfault"}
TABLE = "[tool.mutmut]\n"
ARGUMENTS = ["-p", "no:randomly", "--timeout", "60", "--hypothesis-profile", "mutants"]
# As in pytest.ini, but the first run makes the database, and the others keep it.
OPTIONS = "--import-mode=importlib --disable-socket --allow-hosts=127.0.0.1 --allow-unix-socket"
ON_A_DATABASE = ["-o", f"addopts={OPTIONS} --reuse-db"]


@dataclass(frozen=True, kw_only=True)
class Set:
    """Modules to change, the tests that should notice, and how pytest runs them."""

    name: str
    modules: Sequence[str]
    tests: Sequence[str]
    needs_database: bool


def main(arguments: Sequence[str]) -> int:
    """Run the mutants, print those that survived and the scores."""
    options = _options(arguments)
    sets, scores = list(_sets(options)), []
    if not sets:
        print(f"no set and no module of a set: {', '.join(options.only)}", file=sys.stderr)
        return 2
    for each in sets:
        found = _with_databases(each, options) if each.needs_database else _run(each, options, "")
        scores.append(_print(each, found))
    return 0 if min(scores) >= SCORE_MIN else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks mutants", description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", help="a module, or the name of a set")
    parser.add_argument("--verbose", action="store_true", help="mutmut's own progress")
    return parser.parse_args(arguments)


def _sets(options: argparse.Namespace) -> Iterator[Set]:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutants"]
    for name, table in tables.items():
        found = Set(name=name, **table)
        if options.only and name not in options.only:
            found = replace(found, modules=[m for m in found.modules if m in options.only])
        if found.modules:
            yield found


def _with_databases(each: Set, options: argparse.Namespace) -> dict[str, str]:
    """Return how the mutants fared: shares of the modules side by side, a server for each."""
    shares = [each.modules[first :: options.processes] for first in range(options.processes)]
    with ThreadPoolExecutor(options.processes) as pool:
        running = [
            pool.submit(_on_both, replace(each, modules=share), options)
            for share in shares
            if share
        ]
        return {name: status for one in running for name, status in one.result().items()}


def _on_both(each: Set, options: argparse.Namespace) -> dict[str, str]:
    """Run on PostgreSQL, and on SQLite what nothing noticed there."""
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - it needs what tests need

    alone = argparse.Namespace(**{**vars(options), "processes": 1})
    with PostgresServer(is_durable=False) as server:
        found = _run(each, alone, server.url, shows=False)
    left = [name for name, status in found.items() if status not in NOTICED]
    if left:
        with tempfile.TemporaryDirectory(prefix="engine-") as folder:
            again = _run(each, alone, f"sqlite:///{folder}/mutants.sqlite3", only=left)
        found |= {name: again[name] for name in left}
    return found


def _run(
    each: Set,
    options: argparse.Namespace,
    url: str,
    *,
    only: Sequence[str] = (),
    shows: bool = True,
) -> dict[str, str]:
    """Return the status of each mutant of the set, or of those named; show what survived."""
    with _copy(each) as folder:
        command = ["run", "--max-children", str(options.processes), *only]
        done = _mutmut(folder, url, *command, silent=not options.verbose)
        if done.returncode:
            raise SystemExit(done.stdout or "mutmut failed")
        shown = _mutmut(folder, url, "results", "--all", "true").stdout
        found = dict(line.strip().split(": ") for line in shown.splitlines() if "__mutmut_" in line)
        for name, status in found.items():
            if shows and status not in NOTICED and (not only or name in only):
                print(_mutmut(folder, url, "show", name).stdout, flush=True)
        return found


@contextlib.contextmanager
def _copy(each: Set) -> Iterator[Path]:
    """Copy the project, so that mutants never stand in its tree."""
    settings: dict[str, object] = {
        "only_mutate": each.modules,
        "pytest_add_cli_args_test_selection": each.tests,
        "pytest_add_cli_args": [*ARGUMENTS, *(ON_A_DATABASE if each.needs_database else [])],
    }
    if each.needs_database:  # a connection must not come along into each process
        settings["process_isolation"] = "forkserver"
    with tempfile.TemporaryDirectory(prefix="engine-mutants-") as directory:
        folder = Path(directory) / "project"
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT, symlinks=True)
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        path = folder / "pyproject.toml"
        path.write_text(path.read_text().replace(TABLE, TABLE + lines))
        yield folder


def _mutmut(
    folder: Path, url: str, *arguments: str, silent: bool = True
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=folder,
        env=os.environ | {"DEBUG": "1", "DATABASE_URL": url},
        stdout=subprocess.PIPE if silent else None,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _print(each: Set, found: Mapping[str, str]) -> float:
    """Print how many mutants of each module were noticed, and return the score of all."""
    noticed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name, status in found.items():
        for path in each.modules:
            if name.startswith(path.removesuffix(".py").replace("/", ".") + "."):
                total[path] += 1
                noticed[path] += status in NOTICED
    for path in each.modules:
        share = 100 * noticed[path] / (total[path] or 1)
        print(f"{path}: {noticed[path]} of {total[path]} mutants noticed, {share:.1f} %")
    score = 100 * noticed.total() / (total.total() or 1)
    print(f"mutation score of {each.name} {score:.1f} %", flush=True)
    return score
