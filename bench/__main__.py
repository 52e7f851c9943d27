"""`python -m bench NAME [--runs N] [--json]`: measure, print a table, and with --json one object on the last line."""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable

from bench.report import BenchFailed, Report
from bench.surroundings import Surroundings, surroundings

BENCHES = ("deploy", "rollback", "switch", "recovery", "idle", "streams")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench", description="Measure klepaas beside its floor.")
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("--runs", type=_positive, help="how often each side is measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    chosen = parser.parse_args()
    module = importlib.import_module(f"bench.{chosen.bench}")
    run: Callable[[Surroundings, int], Report] = module.run
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with surroundings() as around:
            report = run(around, chosen.runs or module.RUNS)
    except BenchFailed as failed:
        print(f"bench {chosen.bench}: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"bench {chosen.bench}: interrupted; what it had started is gone", file=sys.stderr)
        return 130
    print(report.text())
    if chosen.json:
        print(report.json(chosen.bench))
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
