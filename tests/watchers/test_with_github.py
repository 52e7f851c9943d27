"""The whole way with a GitHub that speaks HTTP: pushes come in, an engine deploys, statuses come out."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from klepaas.domain.connection import Connection, ConnectionKind, Credential
from klepaas.domain.deployment import Deployment
from klepaas.domain.github import Received
from klepaas.domain.github_app import GitHubApp
from klepaas.domain.project import Project
from klepaas.domain.status import Status
from klepaas.operations import projects, pushes
from klepaas.operations.intake import Intake, decide, refuse
from klepaas.operations.projects import ProjectChange, Registration
from klepaas.storage.tables import reports as table
from klepaas.testing.github import StandInGitHub, StandInRepository
from klepaas.watchers.branches import Branches
from klepaas.watchers.reports import Reports
from tests.workflows.world import World, world

CONTEXT = "klepaas/production"


@dataclass
class Doorstep:
    """Where webhooks are dropped."""

    url: str = ""
    left: list[Received] = field(default_factory=list)


@pytest.fixture
def doorstep() -> Iterator[Doorstep]:
    found = Doorstep()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {"content-type": self.headers["Content-Type"]}
            guid, event = self.headers["X-GitHub-Delivery"], self.headers["X-GitHub-Event"]
            at = datetime.now(UTC)
            found.left.append(Received(id=guid, event=event, headers=headers, body=body, received_at=at))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}/webhook"
    yield found
    server.shutdown()
    server.server_close()


@dataclass
class Everything:
    world: World
    github: StandInGitHub
    shop: StandInRepository
    doorstep: Doorstep
    project: Project

    def __post_init__(self) -> None:
        async def leads() -> bool:
            return True

        context = self.world.context
        self.intake = Intake(context, decide, refuse=refuse, budget=timedelta(seconds=10))
        self.branches = Branches(context=context, intake=self.intake, interval=timedelta(seconds=60), leads=leads)
        self.reports = Reports(context=context, leads=leads, alone=False)

    async def merged(self, how: str = "squash") -> tuple[str, int]:
        """A pull request, merged as by GitHub's button. The head of main then, and its number."""

        def work() -> tuple[str, int]:
            number = len(self.shop.log()) * 100
            branch = f"feature-{number}"
            self.shop.commit({"app.py": f"print({number})\n"}, branch=branch)
            pull = self.shop.open_pull(branch)
            return self.shop.merge(pull, how), pull  # type: ignore[arg-type]

        sha, pull = await asyncio.to_thread(work)
        self.world.source.branches["main"].append(sha)
        return sha, pull

    async def arrivals(self, choose: Callable[[Sequence[Received]], Sequence[Received]] = list) -> None:
        """The webhooks on the doorstep are taken in, in the order that is chosen."""
        await asyncio.to_thread(self.github.wait_for_webhooks)
        left, self.doorstep.left[:] = list(self.doorstep.left), []
        for each in choose(left):
            await self.intake.receive_replay(each)

    async def history(self) -> Sequence[Deployment]:
        """Oldest first."""
        return list(reversed(await self.world.context.deployments.of_project(self.project.id)))

    async def is_quiet(self) -> Sequence[Deployment]:
        """Nothing is under way any more, and GitHub was told of everything."""
        for each in await self.history():
            await self.world.ended(each)
        await self.reports.look()
        return await self.history()

    async def due(self) -> None:
        """Whatever rests until another try is tried now."""
        self.branches._rests.clear()
        async with self.world.database.write() as connection:
            waiting = sa.update(table).where(table.c.due_at.is_not(None))
            await connection.execute(waiting.values(due_at=0.0))

    def status(self, sha: str) -> str:
        return [each for each in self.shop.statuses(sha) if each.context == CONTEXT][-1].state

    def states(self) -> list[str]:
        """Of GitHub's deployments, oldest first."""
        return [each.statuses[-1].state for each in self.shop.deployments()]


@pytest.fixture
async def everything(
    hub_url: str, tmp_path: Path, doorstep: Doorstep, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Everything]:
    # What is decided without GitHub's word is asked in tests of operations; here a busy machine is no reason for it.
    monkeypatch.setattr(pushes, "PATIENCE", timedelta(seconds=30))
    with StandInGitHub() as github:
        shop = github.create_repository("team/shop", files={"Dockerfile": "FROM scratch\n"})
        installation_id = str(github.install("team"))
        app = GitHubApp(
            app_id=str(github.app.app_id),
            private_key=github.app.private_key_pem,
            webhook_secret=github.app.webhook_secret,
        )
        github.send_webhooks_to(doorstep.url)
        async with world(
            hub_url, tmp_path, github_url=github.url, github_api_url=github.api_url, github_app=app
        ) as made:
            made.source.branches["main"] = [shop.head()]
            connection = Connection(
                id="gh_1",
                owner_id=made.actor.owner_id,
                kind=ConnectionKind.GITHUB_APP,
                name="team",
                created_at=made.context.clock.now(),
                host=github.url.removeprefix("http://"),
                installation_id=installation_id,
                api_url=github.api_url,
            )
            await made.context.connections.add(connection, Credential(username="", password="none"))
            wanted = Registration(repository="team/shop", name="shop", target="fake", connection_id="gh_1")
            project = await projects.register(made.context, made.actor, wanted)
            change = ProjectChange(auto_deploy=True)
            project = await projects.configure(made.context, made.actor, project.id, change)
            yield Everything(made, github, shop, doorstep, project)


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
async def test_a_merge_is_deployed_and_github_shows_it_and_its_rollback(everything: Everything, how: str) -> None:
    here = everything
    async with here.world.node():
        first, _ = await here.merged(how)
        await here.arrivals()
        await here.is_quiet()
        second, pull = await here.merged(how)
        await here.arrivals()
        history = await here.is_quiet()

        assert [(each.commit_sha, each.trigger, each.status) for each in history] == [
            (first, "merge", Status.SUCCEEDED),
            (second, "merge", Status.SUCCEEDED),
        ]
        assert history[-1].pull_request == pull
        assert here.states() == ["inactive", "success"]
        assert [here.status(first), here.status(second)] == ["success", "success"]
        assert len(here.shop.comments(pull)) == 1

        await here.world.roll_back(here.project, steps_back=1)
        await here.is_quiet()

    assert here.states() == ["inactive", "inactive", "success"]
    assert [each.sha for each in here.shop.deployments()] == [first, second, first]
    [comment] = here.shop.comments(pull)
    assert "not running any more" in comment.body


async def test_of_two_pushes_the_newer_one_is_live_however_they_arrive(everything: Everything) -> None:
    """R-05."""
    here = everything
    async with here.world.node():
        first, _ = await here.merged()
        second, _ = await here.merged()
        await here.arrivals(lambda left: [*reversed(left), *left])
        history = await here.is_quiet()

    assert [each.commit_sha for each in history] == [second]
    assert first not in [each.sha for each in here.shop.deployments()]


async def test_what_happens_while_github_is_down_is_put_right_afterwards(everything: Everything) -> None:
    """R-26: the rollback works meanwhile; and the push that was missed comes once GitHub is back."""
    here = everything
    async with here.world.node():
        first, _ = await here.merged()
        await here.arrivals()
        await here.is_quiet()
        await here.merged()
        await here.arrivals()
        await here.is_quiet()
        here.github.faults.down = True
        rollback = await here.world.roll_back(here.project, steps_back=1)
        assert (await here.world.ended(rollback)).status is Status.SUCCEEDED
        await here.is_quiet()
        await here.branches.look()

        here.github.faults.clear()
        here.github.faults.webhooks.lost = 1.0
        missed, _ = await here.merged()
        await here.due()
        await here.branches.look()
        history = await here.is_quiet()

    assert [each.commit_sha for each in history][2:] == [first, missed]
    assert (history[-1].trigger, "Undoes the rollback" in history[-1].note) == ("branch watch", True)
    assert here.states() == ["inactive", "inactive", "inactive", "success"]
    assert here.status(missed) == "success"


async def test_a_lost_answer_is_no_second_deployment_on_github(everything: Everything) -> None:
    here = everything
    here.github.faults.lose_answer(1, path="/repos/*/deployments", methods=("POST",))
    async with here.world.node():
        await here.merged()
        await here.arrivals()
        await here.is_quiet()
        await here.due()
        await here.is_quiet()

    assert here.states() == ["success"]


async def test_a_pull_request_from_a_fork_deploys_nothing(everything: Everything) -> None:
    """S-11: neither by being opened, nor by its pushes."""
    here = everything

    def work() -> None:
        fork = here.github.create_repository("mallory/shop", files={"Dockerfile": "FROM scratch\n"})
        here.github.install("mallory")
        fork.commit({"app.py": "steal()\n"}, message="Merge pull request #1 from mallory/main")
        here.shop.commit({"app.py": "steal()\n"}, branch="mallory", by="mallory")
        here.shop.open_pull("mallory", by="mallory")

    await asyncio.to_thread(work)
    await here.arrivals()
    await here.branches.look()

    assert await here.history() == []
