"""A klepaas behind its HTTP door: the world of the workflow tests (real storage, target and builder in memory), two
owners with tokens of every scope, and the app in process or behind a real uvicorn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import sqlalchemy as sa
from fastapi import FastAPI

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.deployment import Deployment
from klepaas.domain.github import Received
from klepaas.domain.project import Project
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.interfaces.api.app import create_app
from klepaas.interfaces.api.server import serve_app
from klepaas.operations import tokens
from klepaas.operations.health import HealthReport
from klepaas.operations.intake import Decide, Intake, decide, refuse
from klepaas.settings import ServerSettings
from klepaas.storage import tables
from tests.workflows.world import World

API = "/api/v1"
DIGEST = "sha256:" + "a" * 64


@dataclass
class Door:
    world: World
    app: FastAPI
    intake: Intake
    report: list[HealthReport] = field(default_factory=lambda: [HealthReport(database="ok", engine="ok")])
    """The last one is shown."""

    async def token(self, scope: Scope = Scope.OPERATOR, *, owner: str = "operator") -> str:
        _, text = await tokens.create(
            self.world.context, self.world.actor, name=f"{owner} {scope}", scope=scope, lifetime=None, owner=owner
        )
        return text

    async def actor(self, scope: Scope, *, owner: str) -> Actor:
        return await tokens.authenticate(self.world.context, await self.token(scope, owner=owner))

    def client(self, token: str = "", *, raises: bool = True) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=raises)
        return httpx.AsyncClient(transport=transport, base_url="http://klepaas", headers=headers)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """The URL of this app behind uvicorn, for what only a real connection shows."""
        stopped, said = asyncio.Event(), asyncio.Queue[str]()
        settings = ServerSettings(port=0)
        serving = asyncio.create_task(serve_app(self.app, settings, say=said.put_nowait, stopped=stopped))
        try:
            yield (await said.get()).rsplit(" ", 1)[-1]
        finally:
            stopped.set()
            await serving


def door_of(
    world: World, *, deciding: Decide = decide, budget: timedelta = timedelta(seconds=5), **settings: object
) -> Door:
    """`deciding` and `budget` are the intake's of webhooks."""
    reports = [HealthReport(database="ok", engine="ok")]

    async def health() -> HealthReport:
        return reports[-1]

    chosen = ServerSettings(**{"keep_alive": timedelta(seconds=15), **settings})  # type: ignore[arg-type]
    intake = Intake(world.context, deciding, refuse=refuse if deciding is decide else None, budget=budget)
    return Door(world, create_app(world.context, settings=chosen, health=health, intake=intake), intake, reports)


async def everything(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table: what must be the same when nothing may have changed. Leases go on being renewed."""
    async with world.database.read() as connection:
        return {
            table.name: sorted((tuple(row) for row in await connection.execute(sa.select(table))), key=repr)
            for table in tables.metadata.sorted_tables
            if table is not tables.nodes
        }


async def delivered(world: World, delivery_id: str, project: Project) -> None:
    """A webhook in the inbox that meant something for the project."""
    now = world.context.clock.now()
    received = Received(id=delivery_id, event="push", body=b"{}", received_at=now)
    await world.context.deliveries.add(received, repository="acme/shop", answer=None)
    meant = Verdict(
        project_id=project.id, environment="production", outcome=Outcome.SKIPPED, reason="auto_deploy_disabled"
    )
    await world.context.deliveries.decided(delivery_id, answer={"status": "skipped"}, verdicts=[meant], at=now)


async def deployed(world: World, project: Project, commit: str | None = None) -> Deployment:
    """A deployment of the project carried to its end by an engine."""
    async with world.node():
        return await world.ended(await world.deploy(project, commit))
