"""`python -m bench NAME [--runs N] [--json]`: measure, print a table, and with --json one object on the last line."""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable

from bench.report import BenchFailed, Report
from bench.surroundings import Surroundings, surroundings

BENCHES = ("deploy", "rollback", "switch", "recovery", "idle", "streams", "webhook", "ncp")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench", description="Measure klepaas beside its floor.")
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("--runs", type=_positive, help="how often each side is measured; ncp: how many deployments")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    chosen = parser.parse_args()
    module = importlib.import_module(f"bench.{chosen.bench}")
    run: Callable[[Surroundings, int], Report] = module.run
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt_once)
    try:
        with surroundings() as around:
            report = run(around, chosen.runs or module.RUNS)
    except (BenchFailed, ExceptionGroup) as failed:
        print(f"bench {chosen.bench}: {_reason(failed)}", file=sys.stderr)
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


def _interrupt_once(*_: object) -> None:
    """Taking everything away again must not be interrupted by an impatient second Ctrl-C."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    print("interrupted; taking away what was started …", file=sys.stderr)
    raise KeyboardInterrupt


def _reason(failed: Exception) -> str:
    """What tasks that ran together failed of is in a group. Errors: the group again, when it is another fault."""
    while isinstance(failed, ExceptionGroup):
        ours = failed.subgroup(BenchFailed)
        if ours is None:
            raise failed
        failed = ours.exceptions[0]
    return str(failed)


if __name__ == "__main__":
    sys.exit(main())
