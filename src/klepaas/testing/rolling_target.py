"""A target in memory that moves traffic and keeps releases running by itself, as Kubernetes does.

It carries out one thing after the other: `apply` tells it, `goes` says how far it has come since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import App
from klepaas.domain.release import Release
from klepaas.errors import Unavailable
from klepaas.targets.protocol import Plan


@dataclass
class RollingTarget:
    """`told` are the deployments it was told to carry out, in order, each once; `goes` is what they look like."""

    name: str = "rolling"
    look_every: timedelta = timedelta(minutes=1)
    goes: Health = Health.HEALTHY
    reachable: bool = True
    told: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    looks: int = 0
    done_by_hand: list[str] = field(default_factory=list)

    async def check(self) -> None:
        self._enter()

    def plan(self, app: App, release: Release) -> Plan:
        return Plan(target=self.name, summary=f"Roll release {release.number} of {app.name} out.", steps=())

    async def apply(
        self, app: App, release: Release, variables: Mapping[str, str], *, deployment_id: str | None = None
    ) -> None:
        self._enter()
        key = deployment_id or release.deployment_id
        if key not in self.told:
            self.told.append(key)

    async def observe(self, app: App, release: Release, *, deployment_id: str | None = None) -> Observation:
        self.looks += 1
        try:
            return await self.settle(app, release, deployment_id=deployment_id or release.deployment_id)
        except Unavailable as away:
            return Observation(at=datetime.now(UTC), health=Health.UNKNOWN, detail=away.message)

    async def restore(self, app: App, live: Release | None, *, deployment_id: str) -> None:
        self._enter()
        if deployment_id in self.told and live is not None:
            self.restored.append(live.id)

    async def watch(self, app: App, release: Release, *, deployment_id: str) -> tuple[Observation, Sequence[str]]:
        notes, self.done_by_hand = self.done_by_hand, []
        return await self.observe(app, release, deployment_id=deployment_id), notes

    async def settle(self, app: App, release: Release, *, deployment_id: str) -> Observation:
        self._enter()
        health = self.goes if self.told[-1:] == [deployment_id] else Health.ABSENT
        return Observation(
            at=datetime.now(UTC),
            health=health,
            detail=f"The run of {deployment_id} is {health}.",
            image_digest=release.image_digest,
            workload_id=deployment_id,
        )

    def urls(self, app: App, hosts: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"https://{host}" for host in hosts)

    async def remove(self, app: App, release: Release) -> None:
        self._enter()
        self.removed.append(release.id)

    async def running(self, app: App) -> Sequence[str]:
        return ()

    async def tail(self, app: App, release: Release, lines: int) -> Sequence[str]:
        return ()

    def _enter(self) -> None:
        if not self.reachable:
            raise Unavailable("The rolling target is out of reach.")
