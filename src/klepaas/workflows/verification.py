"""Wait until a new release is healthy, or say why it is not."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from klepaas.domain.observation import Health, Observation
from klepaas.domain.release import Release
from klepaas.errors import NotHealthy
from klepaas.workflows.scene import Scene

FIRST_REST_S = 0.015
QUICK_FOR_S = 2.0
REST_GROWTH = 1.3
LONGEST_REST_S = 0.25
"""Every 15 ms for two seconds, then slower up to 250 ms: readiness is seen about 2 ms after it comes, and an app
that boots for a minute is asked some 250 times."""
GOOD_IN_A_ROW = 2
GOOD_AT_ONCE = 1
"""A thawed release was healthy before: one answer shows that it still is. A target that rolls out by itself has
waited for it already."""
RESTARTS = 3
"""A container that ended this often while it started will not start."""
ANSWERS_KEPT = 20


@dataclass
class Verification:
    """One wait. `last` and `answers` are the evidence, also after a deadline cut the wait short."""

    scene: Scene
    release: Release
    good_in_a_row: int = GOOD_IN_A_ROW
    deployment_id: str | None = None
    last: Observation | None = None
    probes: int = 0
    answers: list[dict[str, Any]] = field(default_factory=list)
    _first: asyncio.Task[Observation] | None = None

    def begin(self) -> None:
        """Take the first look now, and return at once."""
        self._first = asyncio.create_task(self._look())

    async def good_at_once(self) -> Observation | None:
        """What the look that was begun saw, if it saw the release healthy; else it counts for `healthy`. Only for one
        of which one answer is enough."""
        assert self._first is not None, "begin first"
        seen = await self._first
        if seen.health is not Health.HEALTHY or seen.image_digest != self.release.image_digest:
            return None
        self._first = None
        self._keep(seen)
        return seen

    async def healthy(self) -> Observation:
        """The observation that proves it. Errors: NotHealthy when it cannot become healthy any more."""
        began, rest, good = time.monotonic(), FIRST_REST_S, 0
        while True:
            first, self._first = self._first, None
            seen = await (first or self._look())
            self._keep(seen)
            good = good + 1 if seen.health is Health.HEALTHY else 0
            if good >= self.good_in_a_row:
                return seen
            if reason := _hopeless(seen):
                raise NotHealthy(reason, hint="Its last lines and the answers to the probe are in the evidence.")
            if good == 0:
                await asyncio.sleep(rest)
                if time.monotonic() - began > QUICK_FOR_S:
                    rest = min(rest * REST_GROWTH, LONGEST_REST_S)

    def evidence(self) -> dict[str, Any]:
        if self.last is None:
            return {}
        return {"observation": self.last.as_dict(), "probe_answers": self.answers, "probes": self.probes}

    @property
    def is_open(self) -> bool:
        """Whether the last look saw neither a good end nor a bad one."""
        return self.last is None or self.last.health in {Health.STARTING, Health.UNKNOWN}

    def too_late(self, limit_s: float) -> str:
        """The sentence for a release that was not healthy in time."""
        limit = f"{limit_s:g} s"
        why = self.last.detail if self.last and self.last.detail else "nothing was seen of it"
        return f"The new release did not become healthy within {limit}: {why}"

    async def _look(self) -> Observation:
        return await self.scene.target.observe(self.scene.app, self.release, deployment_id=self.deployment_id)

    def _keep(self, seen: Observation) -> None:
        self.last = seen
        self.probes += 1
        said = seen.probe.detail if seen.probe else seen.detail
        if self.answers and self.answers[-1]["said"] == said:
            self.answers[-1]["times"] += 1
        else:
            self.answers.append({"at": seen.at.isoformat().replace("+00:00", "Z"), "said": said, "times": 1})
            del self.answers[:-ANSWERS_KEPT]


def _hopeless(seen: Observation) -> str:
    if seen.health is Health.ABSENT:
        return "The new release is gone: somebody removed it while it was starting."
    if seen.health is Health.STOPPED and not seen.restarts:
        return f"The new release ended before it was healthy: {seen.detail}"
    if seen.restarts >= RESTARTS:
        return f"The new release ends again and again ({seen.restarts} restarts): {seen.detail}"
    return ""
