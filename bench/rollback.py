"""Request to first answer of the old version, from the frozen container and from the image, beside the floor."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from bench.answers import FirstAnswer
from bench.apps import App, static_app
from bench.figures import Samples, turns
from bench.floor import WITHIN_S, Floor, floor
from bench.report import BenchFailed, Report, ms
from bench.server import Server, server
from bench.surroundings import Surroundings
from klepaas.builders.docker_cli import choose_program
from klepaas.targets.local.caddy import find_caddy

RUNS = 10
WARM_GOAL, IMAGE_GOAL, WARM_GOAL_MS = 0.2, 1.15, 50
EVERY_S = 0.003
QUIET_S = 0.3


@dataclass
class BackAndForth:
    """An app with two versions; each rollback goes to the one that is not live."""

    klepaas: Server
    app: App
    way: str
    """`warm` or `image`: how a candidate must be had back for the run to count."""
    _commits: dict[str, str] = field(default_factory=dict)
    _live: str = ""

    def prepare(self) -> None:
        self.klepaas.register(self.app.name, self.app.repository, self.app.settings)
        for version in ("one", "two"):
            self._commits[version] = self.app.commit(version)
            self.klepaas.ended(self.klepaas.deploy(self.app.name))
            self._live = version

    def roll_back(self) -> tuple[float, Mapping[str, float]]:
        """Milliseconds until the first answer, and those of the request alone."""
        wanted = "one" if self._live == "two" else "two"
        self._check_way(wanted)
        with FirstAnswer(self.klepaas.door(self.app.name), "/version", wanted, every_s=EVERY_S) as first:
            began = time.perf_counter()
            deployment = self.klepaas.roll_back(self.app.name, self._commits[wanted])
            answered = time.perf_counter()
            seen_at = first.at(within_s=WITHIN_S)
        self.klepaas.ended(deployment)
        self._live = wanted
        return (seen_at - began) * 1000, {"request": (answered - began) * 1000}

    def _check_way(self, wanted: str) -> None:
        candidates = self.klepaas.ask("GET", f"/projects/{self.app.name}/candidates")["candidates"]
        ways = {each["commit_sha"]: each["way"] for each in candidates if not each["is_current"]}
        found = ways.get(self._commits[wanted])
        if found != self.way:
            raise BenchFailed(f"The rollback to {wanted} would go by {found!r}, not by {self.way!r}.")


def run(around: Surroundings, runs: int) -> Report:
    program, caddy = asyncio.run(choose_program()), asyncio.run(find_caddy())
    samples = Samples()
    with ExitStack() as stack:
        by_hand = stack.enter_context(floor(around, static_app(around, "floor"), program, caddy))
        sides = {
            "warm": BackAndForth(stack.enter_context(server(around, "warm")), static_app(around, "warm"), "warm"),
            "image": BackAndForth(
                stack.enter_context(server(around, "cold", {"DOCKER__WARM_FOR": "PT0S"})),
                static_app(around, "cold"),
                "image",
            ),
        }
        for side in sides.values():
            side.prepare()
            side.roll_back()
        hand = _ByHand(by_hand)
        hand.prepare()
        for name in turns(("warm", "floor", "image"), runs):
            if name == "floor":
                samples.add(name, hand.roll_back())
            else:
                answer_ms, parts = sides[name].roll_back()
                samples.add(name, answer_ms)
                samples.add(f"{name} request", parts["request"])
            time.sleep(QUIET_S)
    return _report(samples, runs)


@dataclass
class _ByHand:
    floor: Floor
    _live: str = ""

    def prepare(self) -> None:
        for version in ("one", "two"):
            self.floor.app.commit(version)
            self.floor.deploy(version, every_s=EVERY_S)
            self._live = version

    def roll_back(self) -> float:
        self._live = "one" if self._live == "two" else "two"
        return self.floor.roll_back(self._live, every_s=EVERY_S).answer_ms


def _report(samples: Samples, runs: int) -> Report:
    def numbers(side: str) -> dict[str, Any]:
        return {
            "ratio": samples.ratio(side, "floor"),
            "ms": samples.median(side),
            "request_ms": samples.median(f"{side} request"),
            **{name: samples.row(side)[name] for name in ("min", "max")},
        }

    warm, image, by_hand = numbers("warm"), numbers("image"), samples.row("floor")
    rows = [
        [name, f"{n['ratio']:.3f}", ms(n["ms"]), ms(n["min"]), ms(n["max"]), ms(n["request_ms"])]
        for name, n in (("warm", warm), ("from the image", image))
    ]
    rows.append(["floor: docker run, curl, mv", "1.000", *(ms(by_hand[name]) for name in ("median", "min", "max")), ""])
    return Report(
        numbers={
            "ratio": warm["ratio"],
            "warm_ms": warm["ms"],
            "floor_ms": by_hand["median"],
            "warm": warm,
            "from_image": image,
            "floor": by_hand,
            "runs": runs,
        },
        head=["rollback", "ratio", "median", "min", "max", "request alone"],
        rows=rows,
        notes=[
            f"Request to first answer of the old version through the proxy, in ms; {runs} runs each, taking turns.",
            f"Goals: warm at most {WARM_GOAL} and {WARM_GOAL_MS} ms on a quiet machine; from the image at most "
            f"{IMAGE_GOAL}.",
        ],
    )
