"""A klepaas that is the App of a stand-in GitHub, and private repositories of the sample app there."""

import asyncio
import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import httpx
import sqlalchemy as sa

from klepaas.storage.tables import decisions, deliveries, deployment_events, deployments
from klepaas.testing.github import Comment, Delivery, Deployment, StandInGitHub, StandInRepository, Status
from tests.acceptance import truth
from tests.acceptance.app_repository import SAMPLE
from tests.acceptance.cradle import Cradle
from tests.acceptance.klepaas_process import Ground, KlepaasProcess
from tests.acceptance.visitor import ended, until

WEBHOOK = "/api/v1/cicd/webhook"
PUBLIC_URL = "https://klepaas.example.org"
OWNER = "team"

SHOWN_WITHIN_S = 30.0
"""A webhook leads to a deployment, and a deployment to what GitHub shows, within a few seconds."""

EVERY_PUSH = {"pushes": "every_push"}


def sample_files(version: str) -> Mapping[str, bytes]:
    """The sample app as files of a repository; it answers with this version."""
    files = {str(path.relative_to(SAMPLE)): path.read_bytes() for path in sorted(SAMPLE.rglob("*")) if path.is_file()}
    return {**files, "site/version.txt": f"{version}\n".encode()}


class GitHubHouse:
    """Use it in a `with` block; `ready` starts klepaas, also anew with other settings."""

    def __init__(self, docker_host: str, *, cradle: Cradle | None = None) -> None:
        self.ground = Ground(docker_host, cradle=cradle)
        self.github = StandInGitHub()
        self.secret = secrets.token_hex(20)
        self.process: KlepaasProcess
        self._stack = ExitStack()
        self._more: Mapping[str, str] = {}

    def __enter__(self) -> "GitHubHouse":
        self._stack.callback(self.ground.clear)
        self._stack.enter_context(self.github)
        self.github.app.hook.secret = self.secret
        self.installation = self.github.install(OWNER)
        key = self.ground.folder / "app.pem"
        key.touch(0o600)
        key.write_text(self.github.app.private_key_pem)
        self.process = self.ground.process(
            GITHUB_URL=self.github.url,
            GITHUB_APP_ID=str(self.github.app.app_id),
            GITHUB_APP_PRIVATE_KEY=str(key),
            GITHUB_APP_WEBHOOK_SECRET=self.secret,
            PUBLIC_URL=PUBLIC_URL,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    async def ready(self, **more: str) -> None:
        """klepaas runs with these settings besides the usual ones, and GitHub does not fail."""
        self.github.faults.clear()
        if self.process.runs and more != self._more:
            self.process.kill()
        if not self.process.runs:
            await self.start(**more)

    async def start(self, **more: str) -> None:
        self._more = more
        await self.process.start(**more)
        self.github.send_webhooks_to(self.process.url + WEBHOOK)
        async with self.process.client() as klepaas:
            if not await klepaas.connections():
                await klepaas.add_connection(OWNER, kind="github_app", installation_id=str(self.installation))

    async def shop(self, name: str, **fields: Any) -> "Shop":
        """A private repository with a first commit, and its project, which deploys by itself; nothing is live yet."""
        repository = self.github.create_repository(f"{OWNER}/{name}", files=sample_files("v0"))
        async with self.process.client() as klepaas:
            given = {"connection_id": OWNER, "auto_deploy": True, "rules": EVERY_PUSH, **fields}
            project = await klepaas.register(repository.full_name, **given)
        return Shop(self, repository, project["id"])

    async def webhooks_are_answered(self) -> None:
        await asyncio.to_thread(self.github.wait_for_webhooks)

    async def send(self, payload: Mapping[str, Any], event: str = "push") -> tuple[int, dict[str, Any]]:
        """Send a webhook of one's own making, signed as GitHub would sign it, with an id of its own."""
        body = json.dumps(payload).encode()
        signed = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": f"sha256={signed}",
        }
        return await self._posted(body, headers)

    async def post(self, delivery: Delivery) -> tuple[int, dict[str, Any]]:
        """Send a webhook as GitHub sent it before: the same id, body and signature. Returns status and answer."""
        return await self._posted(delivery.body(), delivery.request_headers)

    async def _posted(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http:
            answer = await http.post(self.process.url + WEBHOOK, content=body, headers=dict(headers))
        return answer.status_code, answer.json()


class Shop:
    """One app: its repository at GitHub and its project. `versions`: commit SHA → what the app says at /version."""

    def __init__(self, house: GitHubHouse, repository: StandInRepository, project_id: str) -> None:
        self.house, self.repository, self.project_id = house, repository, project_id
        self.name = repository.name

    # At GitHub.

    async def push(self, version: str, files: Mapping[str, str | bytes | None] | None = None, **how: Any) -> str:
        """Push a version to main (or `branch`). Returns the SHA."""
        changed = {"site/version.txt": f"{version}\n", **(files or {})}
        return await asyncio.to_thread(self.repository.commit, changed, message=f"Version {version}", **how)

    async def merge(self, version: str) -> tuple[str, int]:
        """Push a branch, open its pull request, merge it. Returns the SHA on main and the pull request's number."""
        branch = f"to-{version}"
        await self.push(version, branch=branch)
        number = await asyncio.to_thread(self.repository.open_pull, branch, f"Version {version}")
        return await asyncio.to_thread(self.repository.merge, number), number

    def told(self) -> list[Deployment]:
        """What GitHub shows as deployments, oldest first."""
        return self.repository.deployments()

    def told_of(self, deployment: Mapping[str, Any]) -> Deployment | None:
        """What GitHub shows of this deployment of klepaas."""
        return next((each for each in self.told() if deployment["id"] in str(each.payload)), None)

    def status(self, sha: str) -> Status | None:
        """The newest of a commit."""
        found = self.repository.statuses(sha)
        return found[-1] if found else None

    def statuses(self) -> list[Status]:
        """The newest of each commit that was deployed."""
        shas = dict.fromkeys(row.commit_sha for row in self.rows() if row.commit_sha)
        return [status for sha in shas if (status := self.status(sha)) is not None]

    def comments(self, number: int) -> list[Comment]:
        return self.repository.comments(number)

    async def agreed(self, look: Callable[[], bool]) -> None:
        """Wait until GitHub shows what it should; fail with all it shows."""

        async def seen() -> tuple[bool, Any]:
            told = [(each.sha[:7], each.states) for each in self.told()]
            return look(), (told, [(each.sha[:7], each.state, each.description) for each in self.statuses()])

        await until(seen, lambda each: each[0], within_s=SHOWN_WITHIN_S)

    # At klepaas.

    async def deployment_of(self, sha: str) -> dict[str, Any]:
        """The newest deployment of a commit, as it ended."""

        async def look() -> tuple[str, Any]:
            found = [row.id for row in self.rows() if row.commit_sha == sha]
            return found[-1] if found else "", [(each.outcome, each.reason) for each in self.decided()]

        found, _ = await until(look, lambda seen: seen[0], within_s=SHOWN_WITHIN_S)
        return await self.ended(found)

    async def ended(self, deployment_id: str) -> dict[str, Any]:
        async with self.house.process.client() as klepaas:
            return await ended(klepaas, deployment_id)

    async def live_after(self, sha: str) -> dict[str, Any]:
        """The deployment of this commit, which succeeded."""
        found = await self.deployment_of(sha)
        assert found["status"] == "succeeded", found
        return found

    async def roll_back(self) -> dict[str, Any]:
        """One step, to its end."""
        async with self.house.process.client() as klepaas:
            started = await klepaas.roll_back(self.name, steps_back=1)
            return await ended(klepaas, started["deployment"]["id"])

    async def configure(self, **fields: Any) -> None:
        async with self.house.process.client() as klepaas:
            await klepaas.configure(self.name, **fields)

    async def version(self) -> str:
        """What the app says it is."""
        async with self.house.process.client() as klepaas:
            url = (await klepaas.status(self.name))["urls"][0]
        return await asyncio.to_thread(truth.version_at, url)

    def rows(self) -> list[sa.Row[Any]]:
        """Its deployments in the record, oldest first."""
        d = deployments.c
        return self.house.ground.select(
            sa.select(deployments).where(d.project_id == self.project_id).order_by(d.number)
        )

    def decided(self) -> list[sa.Row[Any]]:
        """What deliveries meant for it, in the order they came."""
        query = (
            sa.select(decisions, deliveries.c.id.label("guid"))
            .join(deliveries, deliveries.c.id == decisions.c.delivery_id)
            .where(decisions.c.project_id == self.project_id)
            .order_by(deliveries.c.number)
        )
        return self.house.ground.select(query)

    def events(self, deployment_id: str) -> list[sa.Row[Any]]:
        e = deployment_events.c
        query = sa.select(deployment_events).where(e.deployment_id == deployment_id).order_by(e.seq)
        return self.house.ground.select(query)
