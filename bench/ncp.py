"""Many deployments under way at Naver Cloud, against its stand-in: what looking at them costs, and how late it sees.

All of them build at once; one in five ends while it is watched, and goes on to be deployed."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.apps import small_repository
from bench.figures import percentile
from bench.report import BenchFailed, Report
from bench.server import Server
from bench.surroundings import Surroundings, tied
from bench.usage import cpu_s, resident_mib
from klepaas.testing.ncp import Build, StandInNcp

RUNS = 1000
"""Deployments under way."""
CALLS_PER_MINUTE = 3000
LOOKS_SHARE = 0.5
LOOK_EVERY_S = 5.0
BEGIN_AT_ONCE = 8
WAITS_S = 60.0
ENDS_S = 120.0
ONE_IN_ENDS = 5
ENDS_AFTER = timedelta(minutes=45)
"""By the stand-in's clock, which is set ahead once all of them build. A build has its own limit of an hour there."""
LONGEST = timedelta(minutes=59)
UPLOADS = 1.1
"""A build of the stand-in ends after this many times what it takes."""
PATIENCE_S = 30 * 60.0
GOAL_INTERVALS, GOAL_MIB, GOAL_CORE = 1.5, 400, 0.5
SERVICES = ("sourcecommit", "sourcebuild", "sourcedeploy", "sourcepipeline", "registry")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """`core` is what klepaas itself took of one core, `core_with_git` together with the programs it ran."""

    core: float
    core_with_git: float
    looks: int
    lasted_s: float


@dataclass
class Many:
    around: Surroundings
    size: int
    ncp: StandInNcp
    klepaas: Server
    ends_at: datetime = field(init=False)
    """From when on builds end, by the stand-in's clock."""

    def begin(self) -> None:
        """Have them all build at Naver Cloud. Errors: BenchFailed."""
        template = small_repository(self.around, "template")
        self.ends_at = self.ncp.world.clock.now() + ENDS_AFTER
        for number in range(self.size):
            name = f"app-{number:04d}"
            shutil.copytree(template, self.around.folder / "repositories" / name)
            self._wait(lambda n=number: len(self.ncp.builds) > n - BEGIN_AT_ONCE)  # type: ignore[misc]
            self._choose_end()
            body = {"name": name, "repository": str(self.around.folder / "repositories" / name), "target": "ncp"}
            self.klepaas.ask("POST", "/projects", body)
            self.klepaas.deploy(name)
            if number % 100 == 99:
                print(f"{number + 1} of {self.size} deployments began", file=sys.stderr)
        self._wait(lambda: len(self._runs("run_id IS NOT NULL AND ended_at IS NULL")) == self.size)

    def watch(self, lasts_s: float) -> Phase:
        pid, began, before = self.klepaas.pid, time.monotonic(), len(self.ncp.requests)
        cpu = cpu_s(pid, with_ended_children=False), cpu_s(pid)
        time.sleep(lasts_s)
        took_s = time.monotonic() - began
        new = self.ncp.requests[before:]
        return Phase(
            core=(cpu_s(pid, with_ended_children=False) - cpu[0]) / took_s,
            core_with_git=(cpu_s(pid) - cpu[1]) / took_s,
            looks=sum(each.method == "GET" and each.path.endswith("/history") for each in new),
            lasted_s=took_s,
        )

    def end(self) -> None:
        """Have the first of them end from now on."""
        self.ncp.advance(self.ends_at - self.ncp.world.clock.now())

    def delays(self) -> Sequence[float]:
        """Seconds from the end of each build that ended until klepaas wrote it down; waits for the last."""
        ended = {build.id: build for build in self.ncp.builds if build.is_over}
        self._wait(lambda: ended.keys() <= self._runs("ended_at IS NOT NULL").keys())
        ahead = self.ncp.world.clock.now() - datetime.now(UTC)
        seen = self._runs("ended_at IS NOT NULL")
        return [(seen[id_] + ahead - _end(build)).total_seconds() for id_, build in ended.items()]

    def busiest_minutes(self) -> Mapping[str, int]:
        """Service → calls in the minute with the most of them."""
        times: dict[str, deque[float]] = {name: deque() for name in SERVICES}
        most: Counter[str] = Counter()
        for each in (each for each in self.ncp.requests if each.door in times):
            lately = times[each.door]
            lately.append(each.at_s)
            while lately[0] < each.at_s - 60:
                lately.popleft()
            most[each.door] = max(most[each.door], len(lately))
        return most

    def _choose_end(self) -> None:
        """Of the next build."""
        if random.randrange(ONE_IN_ENDS):
            takes = LONGEST
        else:
            left = self.ends_at - self.ncp.world.clock.now() + timedelta(seconds=random.uniform(0, ENDS_S))
            takes = left / UPLOADS
        self.ncp.build_time_ms = int(takes.total_seconds() * 1000)

    def _runs(self, where: str) -> dict[str, datetime]:
        """Builds in klepaas's book: run → when its end was written down."""
        query = f"SELECT run_id, ended_at FROM provider_runs WHERE kind = 'build' AND {where}"
        with closing(sqlite3.connect(self.klepaas.home / "klepaas.db")) as connection:
            return {run: _time(ended) for run, ended in connection.execute(query)}

    def _wait(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            if time.monotonic() > deadline:
                raise BenchFailed(f"{len(self.ncp.builds)} of {self.size} builds began, and then nothing happened.")
            time.sleep(0.05)


def run(around: Surroundings, runs: int) -> Report:
    with StandInNcp(folder=around.folder / "naver", deploy_time_ms=2000) as ncp:
        klepaas = Server(around, "k", _settings(ncp, runs))
        try:
            klepaas.start()
            many = Many(around, runs, ncp, klepaas)
            began = time.monotonic()
            many.begin()
            began_s = time.monotonic() - began
            waiting = many.watch(WAITS_S)
            mib = resident_mib(klepaas.pid)
            floor_core = _floor(ncp, waiting.looks / waiting.lasted_s)
            many.end()
            ending = many.watch(ENDS_S)
            delays = many.delays()
            mib = max(mib, resident_mib(klepaas.pid))
            return _report(many, waiting, ending, delays, mib=mib, floor_core=floor_core, began_s=began_s)
        finally:
            klepaas.kill()


def _settings(ncp: StandInNcp, size: int) -> Mapping[str, str]:
    given = {name.removeprefix("KLEPAAS_"): value for name, value in ncp.endpoints.items()}
    return {
        **given,
        "NCP_CALLS_PER_MINUTE": str(CALLS_PER_MINUTE),
        "NCP_LOOK_EVERY": f"PT{LOOK_EVERY_S:g}S",
        "NCP_BUILD_DEADLINE": "PT3H",
        "ENGINE__CAPACITY": str(size + 10),
        "LOG_LEVEL": "warning",
    }


def _floor(ncp: StandInNcp, per_s: float) -> float:
    """The share of a core that as many looks take without anything around them."""
    told = {
        "url": ncp.url("sourcebuild"),
        "ids": [project.id for project in ncp.build_projects],
        "access_key": ncp.access_key,
        "secret_key": ncp.secret_key,
        "per_s": per_s,
        "lasts_s": WAITS_S / 3,
    }
    done = subprocess.run(
        [*tied(), sys.executable, "-m", "bench.ncp_floor"],
        input=json.dumps(told),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchFailed(f"The floor did not run: {done.stderr[-500:]}")
    return float(done.stdout) / (WAITS_S / 3)


def _report(
    many: Many, waiting: Phase, ending: Phase, delays: Sequence[float], *, mib: float, floor_core: float, began_s: float
) -> Report:
    interval_s = max(LOOK_EVERY_S, many.size / (CALLS_PER_MINUTE * LOOKS_SHARE / 60))
    p50, p99 = percentile(delays, 50) / interval_s, percentile(delays, 99) / interval_s
    calls = many.busiest_minutes()
    busiest = max(calls.values())
    return Report(
        numbers={
            "in_flight": many.size,
            "calls_per_minute": dict(calls),
            "budget": CALLS_PER_MINUTE,
            "budget_ratio": busiest / CALLS_PER_MINUTE,
            "interval_s": interval_s,
            "detected": len(delays),
            "detection_p50_intervals": p50,
            "detection_p99_intervals": p99,
            "rss_mib": mib,
            "core": waiting.core,
            "core_ending": ending.core,
            "core_ending_with_git": ending.core_with_git,
            "floor_core": floor_core,
            "ratio": waiting.core / floor_core,
            "looks_per_second": waiting.looks / waiting.lasted_s,
            "began_s": began_s,
        },
        head=[f"{many.size} deployments in flight", "measured", "goal at most"],
        rows=[
            ["calls of one service in a minute", f"{busiest:,}", f"{CALLS_PER_MINUTE:,}"],
            ["end of a build seen, poll intervals, p50", f"{p50:.2f}", ""],
            ["end of a build seen, poll intervals, p99", f"{p99:.2f}", f"{GOAL_INTERVALS:.2f}"],
            ["resident memory, MiB", f"{mib:.1f}", str(GOAL_MIB)],
            ["share of a core while they wait", f"{waiting.core:.3f}", f"{GOAL_CORE:.2f}"],
            ["share of a core while some end", f"{ending.core:.3f}", f"{GOAL_CORE:.2f}"],
            ["the same with git and its like", f"{ending.core_with_git:.3f}", ""],
            ["floor: the same looks alone, share of a core", f"{floor_core:.3f}", ""],
        ],
        notes=[
            f"Poll interval {interval_s:.1f} s: half of {CALLS_PER_MINUTE:,} calls a minute are for looking, at "
            f"{many.size} projects. {waiting.looks / waiting.lasted_s:.1f} looks a second were made; the rest of that "
            f"half is kept for bursts. {len(delays)} builds ended within {ENDS_S:g} s and were deployed.",
            f"Looking takes {waiting.core / floor_core:.1f} times what the bare requests take; all began within "
            f"{began_s:.0f} s.",
        ],
    )


def _end(build: Build) -> datetime:
    assert build.ended_at is not None
    return build.ended_at


def _time(text: str | None) -> datetime:
    """As the database has it: UTC. The beginning of time for none."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else datetime.min.replace(tzinfo=UTC)
