"""Run one benchmark: `python -m benchmarks NAME [options]`."""

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    """Run the benchmark that the first argument names."""
    names = [each.name for each in pkgutil.iter_modules(benchmarks.__path__)]
    names = sorted(name for name in names if not name.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"usage: python -m benchmarks {{{','.join(names)}}} [options]", file=sys.stderr)
        return 2
    module = importlib.import_module(f"benchmarks.{sys.argv[1]}")
    return int(module.main(sys.argv[2:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
