"""A bounded prober watches one switch of traffic from outside: the zero-downtime certificate.

It asks through the front door, as a user would, from just before the switch until shortly after it."""

import asyncio
import math
from datetime import datetime

from klepaas.domain.observation import SwitchCertificate, TrafficAnswer
from klepaas.errors import Unavailable
from klepaas.targets.protocol import ShiftsTraffic
from klepaas.workflows.scene import Scene

EVERY_S = 0.02
"""Rest between two requests: 50 a second show an interruption of that length and cost the app nothing."""
AFTER_S = 0.3
"""How long it goes on after the switch; a request refused by the switch fails within milliseconds."""
MOST_REQUESTS = 3000
MOST_IN_FLIGHT = 16
PATIENCE_S = 5.0
"""A request that takes longer counts as failed."""


class Prober:
    """Use as an async context manager around the switch; `certificate` afterwards."""

    def __init__(self, scene: Scene, door: ShiftsTraffic, path: str) -> None:
        self._scene, self._door, self._path = scene, door, path
        self._answers: dict[int, TrafficAnswer | None] = {}
        """By number; None until it came."""
        self._begun = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._began_at = scene.now()
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Prober":
        self._loop = asyncio.create_task(self._probe())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.cancel()
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def certificate(self, switched_at: datetime) -> SwitchCertificate:
        """Go on for a moment after the switch, then say what was seen."""
        await asyncio.sleep(AFTER_S)
        if self._loop is not None:
            self._loop.cancel()
        if self._asking:
            await asyncio.wait(self._asking, timeout=PATIENCE_S)
        answers = [a for a in self._answers.values() if a is not None]
        failures = [a for a in answers if a.status is None or a.status >= 500]
        silent = len(self._answers) - len(answers)
        return SwitchCertificate(
            requests=len(self._answers),
            failed=len(failures) + silent,
            p99_ms=_p99([a.took_ms for a in answers] + [PATIENCE_S * 1000] * silent),
            switched_at=switched_at,
            began_at=self._began_at,
            ended_at=self._scene.now(),
            failures=tuple(f.detail or f"HTTP {f.status}" for f in failures[:5]),
        )

    async def _probe(self) -> None:
        while self._begun < MOST_REQUESTS:
            if len(self._asking) < MOST_IN_FLIGHT:
                self._begun += 1
                self._answers[self._begun] = None
                task = asyncio.create_task(self._ask(self._begun))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            await asyncio.sleep(EVERY_S)

    async def _ask(self, number: int) -> None:
        try:
            self._answers[number] = await self._door.answering(self._scene.app, self._path)
        except Unavailable:
            # Our own memory could not say where to ask: no request was sent, so none failed.
            del self._answers[number]


def _p99(times_ms: list[float]) -> float:
    if not times_ms:
        return 0.0
    ordered = sorted(times_ms)
    return round(ordered[math.ceil(len(ordered) * 0.99) - 1], 2)
