"""Commit to first answer of the new version, for a static app and for a small Python app, beside the floor."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from bench.answers import FirstAnswer
from bench.apps import App, python_app, static_app
from bench.figures import Samples, turns
from bench.floor import WITHIN_S, Floor, floor
from bench.report import Report, ms
from bench.server import Server, server
from bench.surroundings import Surroundings
from klepaas.builders.docker_cli import choose_program
from klepaas.targets.local.caddy import find_caddy

RUNS = 10
GOAL = 1.10
EVERY_S = 0.004
"""Rest of the watcher between two questions: a deployment takes a hundred times as long."""
QUIET_S = 0.3
"""Rest between two turns."""
MAKERS = {"static": static_app, "python": python_app}


@dataclass
class Contest:
    """One app in two repositories, so that neither side finds the other's layers in the build cache."""

    klepaas: Server
    app: App
    floor: Floor
    samples: Samples = field(default_factory=Samples)
    stages: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)
    _turn: int = 0

    def turn(self, side: str, *, counts: bool = True) -> None:
        self._turn += 1
        version = f"{self._turn}-{side}"
        if side == "klepaas":
            answer_ms, stages = self._deploy(version)
        else:
            self.floor.app.commit(version)
            timed = self.floor.deploy(version, every_s=EVERY_S)
            answer_ms, stages = timed.answer_ms, timed.stages_ms
            if counts:
                self.samples.add("script", timed.script_ms)
        if counts:
            self.samples.add(side, answer_ms)
            self.stages.setdefault(side, []).append(stages)
        time.sleep(QUIET_S)

    def first(self) -> None:
        """Build the layers that stay cached and open the doors. Not counted."""
        self.app.commit("0-klepaas")
        self.klepaas.register(self.app.name, self.app.repository, self.app.settings)
        self.klepaas.ended(self.klepaas.deploy(self.app.name))
        for side in ("floor", "klepaas"):
            self.turn(side, counts=False)

    def _deploy(self, version: str) -> tuple[float, Mapping[str, float]]:
        self.app.commit(version)
        with FirstAnswer(self.klepaas.door(self.app.name), "/version", version, every_s=EVERY_S) as first:
            began_at, began = time.time(), time.perf_counter()
            deployment = self.klepaas.deploy(self.app.name)
            answered = time.perf_counter()
            seen_at = first.at(within_s=WITHIN_S)
        self.klepaas.ended(deployment)
        stages = {"request": (answered - began) * 1000} | stages_of(self.klepaas.events(deployment), began_at)
        return (seen_at - began) * 1000, stages

    def numbers(self) -> dict[str, Any]:
        return {
            "ratio": self.samples.ratio("klepaas", "floor"),
            "klepaas_ms": self.samples.median("klepaas"),
            "floor_ms": self.samples.median("floor"),
            "floor_script_ms": self.samples.median("script"),
            "klepaas": self.samples.row("klepaas"),
            "floor": self.samples.row("floor"),
            "klepaas_stages_ms": _medians(self.stages["klepaas"]),
            "floor_stages_ms": _medians(self.stages["floor"]),
        }


def run(around: Surroundings, runs: int) -> Report:
    program, caddy = asyncio.run(choose_program()), asyncio.run(find_caddy())
    with ExitStack() as stack:
        klepaas = stack.enter_context(server(around))
        contests = {}
        for kind, make in MAKERS.items():
            by_hand = stack.enter_context(floor(around, make(around, f"{kind}-floor"), program, caddy))
            contests[kind] = Contest(klepaas, make(around, kind), by_hand)
            contests[kind].first()
        for side in turns(("klepaas", "floor"), runs):
            for contest in contests.values():
                contest.turn(side)
    return _report({kind: contest.numbers() for kind, contest in contests.items()}, runs, program.kind.value)


def stages_of(events: list[dict[str, Any]], began_at: float) -> dict[str, float]:
    """Milliseconds of each stage of a deployment until the switch, and of the wait before the first one.

    `began_at` is the wall clock at the request."""
    claimed = next(e for e in events if e["kind"] == "deployment.claimed")
    found = {"claimed": (_seconds(claimed["at"]) - began_at) * 1000}
    for event in events:
        if event["kind"] == "stage.finished" and event["stage"] not in {"promote", "retire"}:
            found[event["stage"]] = event["took_s"] * 1000
    return found


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _medians(rows: list[Mapping[str, float]]) -> dict[str, float]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: median(row.get(name, 0.0) for row in rows) for name in names}


def _report(numbers: Mapping[str, Mapping[str, Any]], runs: int, builder: str) -> Report:
    worst = max(each["ratio"] for each in numbers.values())
    rows = [
        [
            kind,
            f"{n['ratio']:.3f}",
            ms(n["klepaas_ms"]),
            ms(n["floor_ms"]),
            ms(n["klepaas"]["min"]),
            ms(n["floor"]["min"]),
        ]
        for kind, n in numbers.items()
    ]
    notes = [
        f"Commit to first answer of the new version through the proxy, in ms; {runs} runs each, taking turns; "
        f"medians. Builder: {builder}.",
        f"Goal: at most {GOAL:.2f}. Worst ratio: {worst:.3f}.",
    ]
    for kind, n in numbers.items():
        for side in ("klepaas", "floor"):
            stages = ", ".join(f"{name} {ms(value)}" for name, value in n[f"{side}_stages_ms"].items())
            notes.append(f"{kind}, {side}: {stages}")
    return Report(
        numbers={"ratio": worst, **numbers, "runs": runs, "builder": builder},
        head=["app", "ratio", "klepaas", "floor", "klepaas min", "floor min"],
        rows=rows,
        notes=notes,
    )
