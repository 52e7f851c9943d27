"""A target that a project names and that is not set up here (any more): whatever is asked of it, it says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import App
from klepaas.domain.release import Release
from klepaas.errors import Rejected
from klepaas.targets.protocol import Plan


@dataclass
class AbsentTarget:
    name: str
    hint: str = field(kw_only=True)

    @property
    def refusal(self) -> Rejected:
        return Rejected(f"There is no target {self.name!r} here.", hint=self.hint)

    async def check(self) -> None:
        raise self.refusal

    def plan(self, app: App, release: Release) -> Plan:
        raise self.refusal

    async def apply(
        self, app: App, release: Release, variables: Mapping[str, str], *, deployment_id: str | None = None
    ) -> None:
        raise self.refusal

    async def observe(self, app: App, release: Release, *, deployment_id: str | None = None) -> Observation:
        return Observation(at=datetime.now(UTC), health=Health.UNKNOWN, detail=self.refusal.message)

    async def remove(self, app: App, release: Release) -> None:
        """What it runs there is out of our reach."""

    async def running(self, app: App) -> Sequence[str]:
        return ()

    async def tail(self, app: App, release: Release, lines: int) -> Sequence[str]:
        return ()
