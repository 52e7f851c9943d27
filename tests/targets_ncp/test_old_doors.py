"""The older service's way, through its doors: a repository of GitHub is registered, deployed to Naver Cloud and rolled
back, with the log that its operators read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from klepaas.domain.actor import Actor, Scope
from klepaas.interfaces.api.app import create_app
from klepaas.operations import tokens
from klepaas.operations.health import HealthReport
from klepaas.operations.ports.owners import Owner
from klepaas.settings import ServerSettings, Settings
from klepaas.targets.protocol import nothing_reached
from klepaas.testing.github import StandInGitHub
from klepaas.testing.github.handle import StandInRepository
from klepaas.testing.ncp import StandInNcp
from klepaas.wiring import Parts, assembled
from klepaas.workflows.engine import Engine
from tests.targets_ncp.trial import DOCKERFILE, quick

API = "/api/v1"
NAMED = {"owner": "K-Le-PaaS", "repo": "test01"}
PATIENCE_S = 30.0


@dataclass
class House:
    ncp: StandInNcp
    code: StandInRepository
    parts: Parts
    api: httpx.AsyncClient

    async def deployed(self, text: str) -> str:
        """A new commit, live; its SHA."""
        sha = self.code.commit({"Dockerfile": DOCKERFILE, "app.py": text}, quiet=True)
        answer = await self.api.post(
            f"{API}/deployments/ncp-pipeline", json={**NAMED, "github_ref": "refs/heads/main", "github_sha": sha}
        )
        assert answer.status_code == 200, answer.text
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self.parts.context.feed.events(answer.json()["deployment_id"], after=0):
                pass
        ended = await self.parts.context.deployments.get(answer.json()["deployment_id"])
        assert ended is not None
        assert ended.deployed_at is not None, ended.failure
        return sha

    async def rolled_back(self, commit: str) -> httpx.Response:
        return await self.api.post(
            f"{API}/rollback/commit", json={**NAMED, "target_commit_sha": commit}, params={"wait_s": PATIENCE_S}
        )

    async def diagnosed(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get(f"{API}/rollback/diagnose/K-Le-PaaS/test01")).json()
        return found


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        ncp = stack.enter_context(StandInNcp(build_time_ms=20, deploy_time_ms=20))
        github = stack.enter_context(StandInGitHub())
        code = github.create_repository("K-Le-PaaS/test01", private=False)
        settings = Settings(home=tmp_path / "home", ncp=quick(ncp), github_url=github.url, github_api=github.api_url)
        parts = await stack.enter_async_context(assembled(settings))
        await stack.enter_async_context(_engine(parts))
        app = create_app(parts.context, settings=ServerSettings(), health=_healthy, intake=parts.intake)
        headers = {"Authorization": f"Bearer {await _token(parts)}"}
        api = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://klepaas", headers=headers)
        yield House(ncp, code, parts, await stack.enter_async_context(api))


async def test_from_registration_to_a_rollback_without_a_build(house: House) -> None:
    before = await house.diagnosed()
    registered = await house.api.post(f"{API}/projects/integrations", json=NAMED)
    first = await house.deployed("print(1)\n")
    await house.deployed("print(2)\n")
    ready = await house.diagnosed()
    with capture_logs() as said:
        back = (await house.rolled_back(first[:7])).json()
        await _until(said, "Rollback completed successfully")
    listed = (await house.api.get(f"{API}/rollback/candidates/K-Le-PaaS/test01")).json()
    [build] = house.ncp.build_projects
    [deploy] = house.ncp.deploy_projects

    assert registered.status_code == 200
    assert len(before["issues"]) == 2
    assert (ready["ready"], ready["warnings"], ready["deployment_count"]) == (True, [], 2)
    assert (back["status"], back["message"]) == ("success", f"커밋 {first[:7]}로 롤백했습니다.")
    assert len(house.ncp.builds) == 2
    assert [each["is_current"] for each in listed["candidates"]] == [False, True]
    image = f"{house.ncp.registry_host}/k-le-paas-test01:{first}"
    assert listed["candidates"][1]["image"] == image
    deployed_at = listed["candidates"][1]["deployed_at"][:19]
    lines = [each["event"] for each in said]
    expected = [
        f"Starting rollback for K-Le-PaaS/test01 to commit {first[:7]}",
        f"Project integration found: build_project_id={build.id}, deploy_project_id={deploy.id}",
        f"Found deployment history: deployed_at={deployed_at}Z, image={image}",
        "NCR image verification result: exists=True, code=200",
        "Rollback completed successfully",
    ]
    assert [line for line in lines if line in expected] == expected


async def test_an_image_that_was_deleted_is_built_again_and_one_we_may_not_see_is_not(house: House) -> None:
    await house.api.post(f"{API}/projects/integrations", json=NAMED)
    first = await house.deployed("print(1)\n")
    second = await house.deployed("print(2)\n")
    house.ncp.delete_image("k-le-paas-test01", first)
    house.ncp.delete_image("k-le-paas-test01", second)
    house.ncp.faults.deny(door="registry")
    hidden, refused = await house.diagnosed(), await house.rolled_back(first)
    house.ncp.faults.clear()
    missing = await house.diagnosed()
    with capture_logs() as said:
        back = (await house.rolled_back(first)).json()

    assert "could not be checked in NCR (HTTP 40" in hidden["warnings"][0]
    assert refused.status_code == 502
    assert refused.json()["detail"].startswith("NCP REST error 40")
    assert missing["warnings"] == [
        "Latest deployment image not found in NCR (HTTP 404). Rollback will trigger rebuild."
    ]
    assert "NCR image verification result: exists=False, code=404" in [each["event"] for each in said]
    assert (back["status"], back["result"]["rebuild"]) == ("success", True), back
    assert back["warnings"] == [
        f"Image of commit {first[:7]} not found in NCR (HTTP 404). Rollback will trigger rebuild."
    ]
    assert len(house.ncp.builds) == 3
    assert house.ncp.digest_of("k-le-paas-test01", first) is not None


async def _healthy() -> HealthReport:
    return HealthReport(database="ok", engine="ok")


async def _token(parts: Parts) -> str:
    owner = Owner(id="own_1", name="operator", created_at=parts.context.clock.now())
    await parts.context.owners.add(owner)
    actor = Actor(owner_id=owner.id, scope=Scope.OPERATOR, label="token test")
    _, text = await tokens.create(parts.context, actor, name="old client", scope=Scope.ADMIN, lifetime=None)
    return text


@asynccontextmanager
async def _engine(parts: Parts) -> AsyncIterator[None]:
    """An engine at work."""
    settings = parts.settings.engine
    engine = Engine(parts.queue, parts.deploy.carry, parts.context.feed, settings, reached=nothing_reached, alone=True)
    parts.runner.engine = engine
    task = asyncio.create_task(engine.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _until(said: list[Any], event: str) -> None:
    async with asyncio.timeout(10):
        while not any(each["event"] == event for each in said):
            await asyncio.sleep(0.01)
