"""The memory of deployments."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from klepaas.domain.deployment import Deployment
from klepaas.domain.events import DeploymentQueued, Event, Recorded
from klepaas.domain.status import Status


class Overtaken(Exception):
    """Another deployment of the app was requested since the caller looked; what it decided may not hold any more."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a submission led to. `is_new` is False when the same request had been accepted before."""

    deployment: Deployment
    is_new: bool
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What was asked for of one app. `last_number` is that of its newest deployment, however it ended; 0: none yet."""

    last_number: int = 0
    active: Deployment | None = None
    """The newest one that is queued, running or unknown."""
    live: Deployment | None = None

    @property
    def newest(self) -> Deployment | None:
        """What runs once everything asked for has gone well."""
        return self.active or self.live


class Deployments(Protocol):
    """The deployments and their event log."""

    async def submit(
        self,
        request: DeploymentQueued,
        *,
        request_key: str | None,
        after_number: int | None = None,
        claimed_by: str | None = None,
    ) -> Submission:
        """Record one deployment, superseding the app's queued one. The same key again is the same deployment.
        `claimed_by` names a node that has room: if the deployment may run now it is that node's from the start.
        Errors: Overtaken when the app's newest deployment is not `after_number`."""

    async def get(self, deployment_id: str) -> Deployment | None: ...

    async def by_request(self, request_key: str) -> Deployment | None: ...

    async def of_commits(
        self, app_keys: Collection[str], shas: Collection[str]
    ) -> Mapping[tuple[str, str], Deployment]:
        """By app key and commit: its newest deployment that is not a rollback."""

    async def standings(self, app_keys: Collection[str]) -> Mapping[str, Standing]:
        """By app key; an app nothing was ever asked for may be missing."""

    async def of_project(
        self,
        project_id: str,
        *,
        environment: str | None = None,
        status: Collection[Status] = (),
        before_number: int | None = None,
        limit: int = 50,
        without_rollbacks: bool = False,
    ) -> Sequence[Deployment]:
        """Newest first."""

    async def is_in_hand(self, app_key: str) -> bool:
        """Whether a deployment of the app is running or unknown."""

    async def events(self, deployment_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Recorded]: ...

    async def decide(self, deployment: Deployment, events: Sequence[Event]) -> Deployment:
        """Append events decided on this state by somebody who does not own the deployment (a cancellation).
        Errors: Conflict when the deployment went on in the meantime."""

    async def counts(self) -> Mapping[Status, int]: ...

    async def counts_of(self, project_id: str, environment: str) -> Mapping[Status, int]:
        """Of the deployments of one app that are no rollbacks."""
