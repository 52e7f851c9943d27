"""The memory of apps: what the record says is live, and what watchers saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import App, Project


@dataclass(frozen=True, kw_only=True)
class AppState:
    """What the record says about an app: which release is to be live, and what was last seen of it."""

    app: App
    live_release_id: str | None
    live_deployment_id: str | None
    previous_release_id: str | None
    warm_release_id: str | None
    warm_until: datetime | None
    health: Health
    health_detail: str
    observed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class WatchedChange:
    """A difference a watcher saw in an app, and what it did about it."""

    number: int
    app_key: str
    release_id: str | None
    at: datetime
    health: Health
    detail: str
    action: str


class Apps(Protocol):
    async def ensure(self, project: Project, environment: str) -> AppState: ...

    async def get(self, project_id: str, environment: str) -> AppState | None: ...

    async def all(self) -> Sequence[AppState]: ...

    async def observed(self, state: AppState, observation: Observation, *, action: str = "") -> None:
        """Write what was seen; a history entry when it differs from before or something was done."""

    async def warm(self, app: App, release_id: str | None, until: datetime | None) -> None: ...

    async def hold(self, app: App, for_s: float) -> float | None:
        """Keep deployments of the app from being started, for at most that long. Returns what `let_go` wants; None
        when one is under way, or somebody else holds the app."""

    async def let_go(self, app: App, hold: float) -> None:
        """Have deployments of the app start again. A hold that ran out meanwhile is nobody's."""

    async def changes(self, app_key: str, *, limit: int = 50) -> Sequence[WatchedChange]: ...

    async def forget_changes(self, before: datetime) -> int:
        """How many changes were forgotten; the newest of each app stays."""
