"""A klepaas and a GitHub in memory, with words for what happens between them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from klepaas.domain.connection import Connection, ConnectionKind, Credential
from klepaas.domain.deployment import Deployment, Failure
from klepaas.domain.events import (
    DeploymentFailed,
    DeploymentQueued,
    DeploymentSucceeded,
    Event,
    ImagePinned,
    ReleaseCreated,
    TrafficShiftDecided,
    TrafficShifted,
)
from klepaas.domain.github import PublishedRelease, Push, Received
from klepaas.domain.project import Project
from klepaas.domain.status import Stage, Status
from klepaas.domain.trigger_rule import PushPolicy, TriggerRule
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.operations import pushes
from klepaas.operations.context import Context
from klepaas.operations.intake import Intake, decide, refuse
from klepaas.storage.queue import DeploymentQueue
from klepaas.testing.code_host import MemoryCodeHost
from klepaas.watchers.branches import Branches
from tests.workflows.world import World

EACH_DATABASE = pytest.mark.parametrize("hub_url", ["sqlite", "postgres"], indirect=True)

EVERY_PUSH = TriggerRule(pushes=PushPolicy.EVERY_PUSH)
DIGEST = "sha256:" + "a" * 64

_numbers = count(1)


@dataclass
class ToldClock:
    """Goes on by a millisecond with every look, and further when it is told to."""

    time: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time


@dataclass
class Hub:
    world: World
    github: MemoryCodeHost
    clock: ToldClock
    node: str = ""
    _deliveries: Any = field(default_factory=lambda: count(1))

    @classmethod
    def around(cls, world: World) -> "Hub":
        github, clock = MemoryCodeHost(), ToldClock()
        for table in (world.context.deployments, world.context.branches, world.context.reports):
            table._clock = clock  # type: ignore[attr-defined]
        world.context = replace(world.context, github=github, clock=clock)
        return cls(world, github, clock)

    def watcher(self, **changes: Any) -> Branches:
        async def leads() -> bool:
            return True

        intake = Intake(self.context, decide, refuse=refuse, budget=timedelta(seconds=5))
        parts = {"context": self.context, "intake": intake, "interval": timedelta(seconds=60), "leads": leads}
        return Branches(**{**parts, **changes})

    async def looks(self) -> None:
        """The watcher, once, a while later."""
        self.clock.time += timedelta(minutes=20)
        await self.watcher().look()

    def use(self, github: MemoryCodeHost) -> None:
        """Another GitHub from now on."""
        self.github = github
        self.world.context = replace(self.context, github=github)

    @property
    def context(self) -> Context:
        return self.world.context

    async def project(self, name: str = "shop", *, rules: TriggerRule = EVERY_PUSH, **changes: Any) -> Project:
        made = await self.world.project(name)
        repository = replace(made.repository, owner=self.github.owner, name=self.github.name)
        wanted = replace(made, **{"auto_deploy": True, "rules": rules, "repository": repository, **changes})
        return await self.context.projects.change(wanted, unchanged_since=made.updated_at)

    async def connection(self, kind: ConnectionKind = ConnectionKind.GITHUB_TOKEN) -> Connection:
        number = next(_numbers)
        made = Connection(
            id=f"gh_{number}", owner_id="own_1", kind=kind, name=f"github {number}", created_at=self.clock.now()
        )
        await self.context.connections.add(made, Credential(username="x", password="secret"))
        return made

    async def arrives(self, push: Push, *, delivery: str | None = None, trigger: str = "push") -> Sequence[Verdict]:
        delivery_id = delivery or f"delivery-{next(self._deliveries)}"
        return await pushes.decide_push(self.context, push, delivery_id=delivery_id, trigger=trigger)

    async def stored(self, push: Push, *, delivery: str) -> None:
        """As it arrives by the webhook: kept in the inbox, then decided."""
        body = {
            "ref": push.ref,
            "before": push.before,
            "after": push.after,
            "repository": {
                "id": push.repository.repository_id,
                "name": push.repository.name,
                "owner": {"login": push.repository.owner},
            },
            "head_commit": {"message": push.message},
            "pusher": {"name": push.pusher},
        }
        received = Received(
            id=delivery, event="push", body=json.dumps(body).encode(), received_at=self.clock.now(), headers={}
        )
        await Intake(self.context, decide, refuse=refuse, budget=timedelta(seconds=5)).receive_replay(received)

    async def outcomes(self, delivery: str) -> dict[str, str]:
        """What the inbox says of a delivery: outcome and reason."""
        found = await self.context.deliveries.get(delivery)
        assert found is not None
        return {str(each.verdict.outcome): each.verdict.reason for each in found.decisions}

    async def meant(self, push: Push, **more: Any) -> Verdict:
        """What the push meant for the only project there is."""
        [verdict] = await self.arrives(push, **more)
        return verdict

    async def deployed(self, push: Push, **more: Any) -> Deployment:
        verdict = await self.meant(push, **more)
        assert verdict.outcome is Outcome.DEPLOYED, verdict
        return await self.the(verdict)

    async def live(self, push: Push, **more: Any) -> Deployment:
        return await self.succeeds(await self.deployed(push, **more))

    async def the(self, verdict: Verdict) -> Deployment:
        found = await self.context.deployments.get(verdict.deployment_id or "")
        assert found is not None
        return found

    async def published(self, tag: str, **changes: Any) -> Sequence[Verdict]:
        release = PublishedRelease(
            repository=self.github.repository_name, tag=tag, draft=False, prerelease=False, target_commitish="main"
        )
        return await pushes.decide_release(
            self.context, replace(release, **changes), delivery_id=f"delivery-{next(self._deliveries)}"
        )

    async def history(self, project: Project, environment: str = "production") -> Sequence[Deployment]:
        """Oldest first."""
        found = await self.context.deployments.of_project(project.id, environment=environment, limit=1000)
        return list(reversed(found))

    async def succeeds(self, deployment: Deployment) -> Deployment:
        """Carried to its end by nobody but the record."""
        release = f"rel_{deployment.id}"
        state = await self.context.apps.get(deployment.project_id, deployment.environment)
        assert state is not None
        return await self.goes(
            deployment,
            ImagePinned(image_digest=DIGEST, image_ref="shop:1", reused=False),
            ReleaseCreated(release_id=release, number=1, image_digest=DIGEST, commit_sha=deployment.commit_sha or ""),
            TrafficShiftDecided(
                release_id=release,
                previous_release_id=state.live_release_id,
                previous_deployment_id=state.live_deployment_id,
            ),
            TrafficShifted(release_id=release, evidence={}, urls=("http://127.0.0.1:20000",)),
            DeploymentSucceeded(release_id=release, image_digest=DIGEST, evidence={}),
        )

    async def fails(self, deployment: Deployment, message: str = "The build failed: no Dockerfile.") -> Deployment:
        failure = Failure(
            stage=Stage.BUILD, code="build_failed", message=message, hint="", evidence={}, ends_as=Status.FAILED
        )
        ending = DeploymentFailed(stage=Stage.BUILD, code=failure.code, message=message, evidence={})
        running = await self.starts(deployment)
        return await self.goes(running, *running.give_up(Stage.BUILD, failure), ending)

    async def starts(self, deployment: Deployment) -> Deployment:
        """Claimed, as an engine would; the same deployment when it runs already."""
        now = await self.context.deployments.get(deployment.id)
        assert now is not None
        if now.status is not Status.QUEUED:
            return now
        queue = DeploymentQueue(self.world.database, self.clock)
        if not self.node or not await queue.renew(self.node, 3600):
            self.node = f"node_{next(_numbers)}"
            await queue.join(self.node, 3600)
        taken = {each.id: each for each in await queue.claim(self.node, 100)}
        return taken[deployment.id]

    async def goes(self, deployment: Deployment, *events: Event) -> Deployment:
        running = await self.starts(deployment)
        return await DeploymentQueue(self.world.database, self.clock).advance(running, self.node, events)


async def roll_back(hub: Hub, sha: str) -> str:
    """To the commit, carried to its end. Returns the id of the deployment."""
    [project] = await hub.context.projects.list(None)
    event = DeploymentQueued(
        project_id=project.id,
        environment="production",
        branch="main",
        trigger="manual",
        actor="token laptop",
        first_step=Stage.RELEASE,
        commit_sha=sha,
        rollback_of="dep_bad",
    )
    submission = await hub.context.deployments.submit(event, request_key=None)
    return (await hub.succeeds(submission.deployment)).id
