"""`kill -9` in the middle of a deployment, then a start: how soon it goes on, and how soon it ends.

The floor is a start with nothing to take up again."""

import time
from datetime import datetime
from statistics import median
from typing import Any

from bench.answers import body_at
from bench.apps import App, static_app
from bench.figures import Samples, turns
from bench.report import BenchFailed, Report, ms
from bench.server import Server
from bench.surroundings import Surroundings

RUNS = 3
GOAL_S = 5.0
POINTS = ("build.started", "container_started", "upstream_written", "retire.started")
"""Where the process kills itself: before the build, with a new container, with traffic moved, with an old release."""
DIES_WITHIN_S = 60.0


def run(around: Surroundings, runs: int) -> Report:
    klepaas, app = Server(around, "k"), static_app(around)
    samples = Samples()
    try:
        klepaas.start()
        klepaas.register(app.name, app.repository, app.settings)
        klepaas.ended(klepaas.deploy(app.name))
        for number, side in enumerate(turns((*POINTS, "floor"), runs)):
            klepaas.stop()
            if side == "floor":
                samples.add(side, klepaas.start() * 1000)
            else:
                for name, value in _crash(klepaas, app, side, version=str(number)).items():
                    samples.add(f"{side} {name}", value)
    finally:
        klepaas.stop()
        klepaas.remove_what_it_made()
    return _report(samples, runs)


def _crash(klepaas: Server, app: App, point: str, version: str) -> dict[str, float]:
    """Milliseconds from the start after the crash until /health, until work goes on, and until its end."""
    klepaas.start(extra={"KLEPAAS_TESTING__CRASH_AT": point})
    app.commit(version)
    deployment = klepaas.deploy(app.name)
    klepaas.wait(within_s=DIES_WITHIN_S)
    began_at = time.time()
    health_s = klepaas.start()
    klepaas.ended(deployment)
    events = klepaas.events(deployment)
    answer = body_at(klepaas.door(app.name), "/version") or b""
    if answer.decode().strip() != version:
        raise BenchFailed(f"After a crash at {point} the app answers {answer!r}, not {version!r}.")
    claims = [_at(event) for event in events if event["kind"] == "deployment.claimed"]
    if len(claims) != 2:
        raise BenchFailed(f"After a crash at {point} the deployment was taken on {len(claims)} times.")
    return {
        "health": health_s * 1000,
        "resumed": (claims[-1] - began_at) * 1000,
        "ended": (_at(events[-1]) - began_at) * 1000,
    }


def _at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def _report(samples: Samples, runs: int) -> Report:
    floor_ms = samples.median("floor")
    points = {
        point: {f"{name}_ms": samples.median(f"{point} {name}") for name in ("health", "resumed", "ended")}
        for point in POINTS
    }
    worst = max(point["resumed_ms"] for point in points.values())
    rows = [
        [point, ms(n["resumed_ms"]), f"{n['resumed_ms'] / floor_ms:.2f}", ms(n["ended_ms"]), ms(n["health_ms"])]
        for point, n in points.items()
    ]
    rows.append(["floor: start to /health", "", "", "", ms(floor_ms)])
    return Report(
        numbers={
            "ratio": worst / floor_ms,
            "resumed_ms": worst,
            "ended_ms": median(n["ended_ms"] for n in points.values()),
            "floor_ms": floor_ms,
            "points": points,
            "runs": runs,
        },
        head=["killed at", "goes on", "to floor", "ended", "/health"],
        rows=rows,
        notes=[
            f"From the start after kill -9, in ms; {runs} runs each, taking turns; medians.",
            f"Every deployment ended as succeeded, with its version answering. Goal: goes on within {GOAL_S:g} s.",
        ],
    )
