"""Change the pure core in every small way, one at a time, and count what its unit tests notice.

Works on a copy of the project; pyproject.toml says which modules and which tests. The score is
the share of mutants killed, or stuck in a loop. Ends with 0 where it is 90 % or more.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCORE_MIN = 90.0
LEFT_OUT = shutil.ignore_patterns(".*_cache", ".git", ".venv", ".run", "__pycache__", "mutants")
NOTICED = ("killed", "timeout", "suspicious", "segfault")


def main(arguments: Sequence[str]) -> int:
    """Run the mutants, print those that survived and the score."""
    options = _options(arguments)
    only = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
    with _copy() as folder:
        command = ["run", "--max-children", str(options.processes)]
        done = _mutmut(folder, *command, silent=not options.verbose)
        if done.returncode:
            print(done.stdout or "mutmut failed", file=sys.stderr)
            return done.returncode
        shown = _mutmut(folder, "results", "--all", "true").stdout
        for line in shown.splitlines():
            if line.strip().endswith(("survived", "no tests")):
                print(line.strip())
                if options.show:
                    print(_mutmut(folder, "show", line.split(":")[0].strip()).stdout)
    scores = [_score(path, shown) for path in only]
    for path, noticed, total in scores:
        print(f"{path}: {noticed} of {total} mutants noticed, {100 * noticed / total:.1f} %")
    noticed, total = sum(each[1] for each in scores), sum(each[2] for each in scores)
    print(f"mutation score {100 * noticed / total:.1f} %")
    return 0 if 100 * noticed / total >= SCORE_MIN else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks mutants", description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", action="store_true", help="what each survivor changes")
    parser.add_argument("--verbose", action="store_true", help="mutmut's own progress")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _copy() -> Iterator[Path]:
    """Copy the project, so that mutants never stand in its tree."""
    with tempfile.TemporaryDirectory(prefix="engine-mutants-") as directory:
        folder = Path(directory) / "project"
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT, symlinks=True)
        yield folder


def _mutmut(
    folder: Path, *arguments: str, silent: bool = True
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=folder,
        env=os.environ | {"DEBUG": "1", "DATABASE_URL": ""},
        stdout=subprocess.PIPE if silent else None,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _score(path: str, shown: str) -> tuple[str, int, int]:
    """Return how many of the module's mutants were noticed, and how many there are."""
    module = path.removesuffix(".py").replace("/", ".") + "."
    found = Counter(
        line.rpartition(":")[2].strip()
        for line in shown.splitlines()
        if line.strip().startswith(module)
    )
    return path, sum(found[each] for each in NOTICED), found.total()
