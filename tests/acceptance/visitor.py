"""What somebody outside can do with a klepaas: have things deployed, ask an app, look at the engine, and wait."""

import asyncio
import contextlib
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import sqlalchemy as sa

from klepaas.client import Client
from klepaas.domain.connection import Connection, ConnectionKind, Credential
from klepaas.storage.connections import ConnectionTable
from klepaas.storage.database import Database
from klepaas.storage.facts import FactTable
from klepaas.storage.keys import open_sealer
from klepaas.storage.tables import owners
from tests.acceptance.klepaas_process import Ground, KlepaasProcess
from tests.servers.git_http import GitHttpServer, WorkingRepository

EXAMPLES = Path(__file__).with_name("examples")
PATIENCE_S = 60.0
"""For a machine that others use too; what is waited for takes seconds at most."""
ENDED = {"succeeded", "failed", "cancelled", "superseded", "rolled_back_automatically"}

T = TypeVar("T")


@contextlib.contextmanager
def running(docker_host: str, **settings: str) -> Iterator[KlepaasProcess]:
    """A klepaas that several tests share, each with projects of its own."""
    ground = Ground(docker_host)
    process = ground.process(**settings)
    try:
        asyncio.run(process.start())
        yield process
        asyncio.run(process.stop())
    finally:
        ground.clear()


@contextlib.contextmanager
def serving_git() -> Iterator[GitHttpServer]:
    """A git server that several tests share."""
    server = GitHttpServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def bring(server: GitHttpServer, example: str, name: str, *, token: str | None = None) -> WorkingRepository:
    """Have one of the examples on the git server, with one commit."""
    repository = server.create_repository(f"team/{name}", token=token)
    shutil.copytree(EXAMPLES / example, repository.work, dirs_exist_ok=True)
    repository.publish({}, f"Begin with {example}")
    return repository


async def deployed(client: Client, project: str, **fields: Any) -> dict[str, Any]:
    """Ask for a deployment and wait for its end, however it ends."""
    return await ended(client, (await client.deploy(project, **fields))["deployment"]["id"])


async def rolled_back(client: Client, project: str, **fields: Any) -> dict[str, Any]:
    """Ask for a rollback and wait for its end, however it ends."""
    return await ended(client, (await client.roll_back(project, **fields))["deployment"]["id"])


async def ended(client: Client, deployment_id: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        async with contextlib.aclosing(client.follow(deployment_id)) as events:
            async for _ in events:
                pass
        return await client.deployment(deployment_id)


async def reaching(client: Client, deployment_id: str, stage: str) -> None:
    """Wait until this stage of the deployment begins, and not a moment longer."""
    async with asyncio.timeout(PATIENCE_S), contextlib.aclosing(client.follow(deployment_id)) as events:
        async for event in events:
            if event.data.get("stage") == stage:
                return
    raise AssertionError(f"{deployment_id} ended before the stage {stage}")


async def live(client: Client, project: str, **fields: Any) -> dict[str, Any]:
    """Ask for a deployment and wait until it serves; it may still be retiring the old release."""
    deployment = await deployed(client, project, **fields)
    assert deployment["status"] == "succeeded", deployment["failure"]
    return deployment


async def read(url: str, path: str = "/") -> str:
    """What a visitor reads there. A status beside 2xx fails the test."""
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=15) as visitor:
        answer = await visitor.get(f"{url}{path}")
    assert answer.is_success, f"{url}{path} answers {answer.status_code}: {answer.text[:300]}"
    return answer.text.strip()


async def until(look: Callable[[], Awaitable[T]], good: Callable[[T], object], within_s: float = PATIENCE_S) -> T:
    """Look again and again until it is good; the last look is the reason why it is not."""
    deadline = time.monotonic() + within_s
    while True:
        seen = await look()
        if good(seen):
            return seen
        assert time.monotonic() < deadline, f"not so within {within_s:g} s; last seen: {seen}"
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def reading_all_the_while(url: str) -> AsyncIterator[list[str]]:
    """A visitor who reads the page over and over and never tries anything twice: each answer, or what went wrong."""
    answers: list[str] = []

    async def keep_reading() -> None:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=15) as visitor:
            while True:
                try:
                    answer = await visitor.get(url)
                    answers.append(answer.text.strip() if answer.is_success else f"HTTP {answer.status_code}")
                except httpx.HTTPError as error:
                    answers.append(repr(error))
                await asyncio.sleep(0.02)

    reader = asyncio.create_task(keep_reading())
    try:
        yield answers
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader


def docker(host: str, *words: str) -> str:
    """Do something on the engine by hand, as another person would. Returns what docker printed."""
    done = subprocess.run(["docker", "--host", host, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


async def add_connection(ground: Ground, *, username: str, password: str) -> str:
    """Give the operator a sealed git credential, beside the running klepaas. Returns its id."""
    database = Database(f"sqlite:///{ground.home / 'klepaas.db'}")
    try:
        sealer = await open_sealer(FactTable(database), key_file=ground.home / "secret.key", given=None)
        connection = Connection(
            id=f"con_{secrets.token_hex(8)}",
            owner_id=ground.select(sa.select(owners.c.id))[0].id,
            kind=ConnectionKind.GIT_BASIC,
            name=secrets.token_hex(4),
            created_at=datetime.now(UTC),
        )
        await ConnectionTable(database, sealer).add(connection, Credential(username=username, password=password))
    finally:
        await database.close()
    return connection.id
