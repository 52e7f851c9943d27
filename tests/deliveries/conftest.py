"""A klepaas with a webhook secret, on both databases, and a GitHub that signs what it sends."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from klepaas.domain.github import PublishedRelease, Push
from klepaas.domain.project import Project
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.operations.context import Context
from klepaas.operations.current_app import CurrentApp
from klepaas.operations.intake import Decide, decide
from klepaas.storage.github_app import GitHubAppTable
from klepaas.storage.sealing import Sealer, new_key, parse_keys
from tests.deliveries.payloads import push, signed, to_bytes
from tests.interfaces.api.doors import Door, door_of
from tests.workflows.world import PATIENCE_S, World, world

SECRET = "it's a secret to everybody"
WEBHOOK = "/api/v1/cicd/webhook"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[plain], wrapper_class=structlog.make_filtering_bound_logger(50))


@pytest.fixture
async def here(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[World]:
    """On SQLite only, for what has nothing to do with the kind of database."""
    async with world(f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}", tmp_path) as made:
        yield made


@dataclass
class Decider:
    """Decides as told, and remembers what it was asked. `gate`: what it waits for before it answers."""

    project: Project | None = None
    outcome: Outcome = Outcome.IGNORED
    reason: str = "not main branch"
    deployment_id: str | None = None
    asked: list[str] = field(default_factory=list)
    gate: Any = None
    fault: Exception | None = None

    async def __call__(self, context: Context, told: Push | PublishedRelease, delivery_id: str) -> Sequence[Verdict]:
        self.asked.append(delivery_id)
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        if self.project is None:
            return []
        return [
            Verdict(
                project_id=self.project.id,
                environment="production",
                outcome=self.outcome,
                reason=self.reason,
                deployment_id=self.deployment_id,
                deployment_number=7 if self.deployment_id else None,
            )
        ]


@dataclass
class Hook:
    """GitHub's side of one klepaas."""

    door: Door
    client: httpx.AsyncClient

    async def settled(self) -> None:
        """What was decided is in the inbox, too."""
        async with asyncio.timeout(PATIENCE_S):
            while self.door.intake._visits:
                await asyncio.sleep(0.01)

    async def send(
        self,
        payload: Any = None,
        *,
        event: str | None = "push",
        delivery: str | None = "",
        secret: str = SECRET,
        path: str = WEBHOOK,
        body: bytes | None = None,
        headers: dict[str, Any] | None = None,
    ) -> httpx.Response:
        """`delivery` "": an id of its own; None: without. `headers` with None take one away."""
        body = to_bytes(push() if payload is None else payload) if body is None else body
        given: dict[str, Any] = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": secrets.token_hex(8) if delivery == "" else delivery,
            "X-Hub-Signature-256": signed(body, secret),
            **(headers or {}),
        }
        kept = {name: value for name, value in given.items() if value is not None}
        return await self.client.post(path, content=body, headers=kept)


@asynccontextmanager
async def hooked(
    here: World,
    deciding: Decide = decide,
    *,
    app_secret: str | None = None,
    legacy_secret: str | None = SECRET,
    budget: timedelta = timedelta(seconds=20),
) -> AsyncIterator[Hook]:
    stored = GitHubAppTable(here.database, Sealer(parse_keys(new_key())))
    current = CurrentApp(stored, app_secret=app_secret, legacy_secret=legacy_secret)
    here.context = replace(here.context, github_app=current)
    door = door_of(here, deciding=deciding, budget=budget)
    async with door.client() as client:
        yield Hook(door, client)
