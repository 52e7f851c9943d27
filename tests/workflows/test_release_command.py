"""The release's command: once, before its release, and not on the way back."""

import asyncio

import pytest

from klepaas.domain.status import Status
from klepaas.errors import Unavailable
from klepaas.operations import deployments, queries
from klepaas.operations.feed import LOOK_EVERY_S
from klepaas.testing.fake_build import sha_of
from klepaas.testing.rolling_target import RollingTarget
from tests.workflows.world import World

ONE, TWO = sha_of("one"), sha_of("two")
FILE = 'release_command = "python manage.py migrate"\n'
MIGRATE = ("python", "manage.py", "migrate")


async def test_a_command_of_the_project_file_runs_once_before_its_release_is_started(here: World) -> None:
    here.source.files["klepaas.toml"] = FILE
    project = await here.project()
    async with here.node():
        done = await here.ended(await here.deploy(project))

    own = [call.partition(":")[0] for call in here.target.calls if call.endswith(done.release_id or "?")]
    assert done.status is Status.SUCCEEDED
    assert here.target.commands_begun == [MIGRATE]
    assert [call for call in own if call.endswith("_command") or call == "apply"] == [
        "begin_command",
        "look_at_command",
        "end_command",
        "apply",
    ]
    assert (await here.kinds(done)).count("release.command_finished") == 1
    written = [line.text for line in await here.context.logs.tail(done.id, 10)]
    assert written[-3:] == [
        "klepaas: running the release command: python manage.py migrate",
        "command began",
        "klepaas: the release command ended with exit code 0.",
    ]


async def test_a_command_that_fails_starts_nothing_and_the_old_release_serves(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        old = await here.ended(await here.deploy(project, ONE))
        here.source.files["klepaas.toml"] = FILE
        here.target.command_ends.append(3)
        failed = await here.ended(await here.deploy(project, TWO))

    assert failed.failure is not None
    assert (failed.status, failed.failure.code) == (Status.FAILED, "release_command_failed")
    assert "`python manage.py migrate` ended with exit code 3" in failed.failure.message
    assert (failed.failure.evidence["exit_code"], failed.failure.evidence["last_lines"]) == (3, ["command began"])
    assert list(here.target.workloads) == [old.release_id]
    assert here.target.commands == {}


async def test_a_rollback_does_not_run_the_command_again(here: World) -> None:
    here.source.files["klepaas.toml"] = FILE
    here.source.branches["main"] = [ONE, TWO]
    project = await here.project()
    async with here.node():
        for commit in (ONE, TWO):
            await here.ended(await here.deploy(project, commit))
        back = await here.ended(await here.roll_back(project, commit=ONE))

    assert back.status is Status.SUCCEEDED
    assert here.target.commands_begun == [MIGRATE, MIGRATE]


@pytest.mark.parametrize("method", ["look_at_command", "end_command"])
async def test_who_takes_over_finds_the_command_and_does_not_begin_it_again(here: World, method: str) -> None:
    """Killed while it runs, and between its end and the next step."""
    here.source.files["klepaas.toml"] = FILE
    project = await here.project()
    here.target.hang(method)
    started = await here.deploy(project)
    async with here.node():
        async with asyncio.timeout(10):
            while not any(call.startswith(method) for call in here.target.calls):
                await asyncio.sleep(0.01)
    here.target._gates.clear()
    async with here.node():
        done = await here.ended(started)

    assert (done.status, done.fence) == (Status.SUCCEEDED, 2)
    assert here.target.commands_begun == [MIGRATE]
    assert here.target.commands == {}, "nothing of it is left"
    assert (await here.kinds(done)).count("release.command_finished") == 1


@pytest.mark.parametrize("by", ["project file", "setting"])
async def test_a_target_that_cannot_run_commands_says_so_before_anything_is_built(here: World, by: str) -> None:
    if by == "project file":
        here.source.files["klepaas.toml"] = FILE
    here.context.targets["fake"] = RollingTarget()  # type: ignore[index]
    project = await here.project(**({"release_command": "migrate"} if by == "setting" else {}))
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.failure is not None
    assert "cannot run a release command" in done.failure.message
    assert here.builder.builds == []


async def test_what_a_command_writes_is_seen_while_it_runs(here: World) -> None:
    here.source.files["klepaas.toml"] = FILE
    project = await here.project()
    runs = here.target.hang("look_at_command")
    started = await here.deploy(project)
    lines: list[str] = []

    async def follow() -> None:
        async for batch in queries.follow_build_log(here.context, started.id, after=None):
            lines.extend(line.text for line in batch)

    async with here.node(), asyncio.timeout(10):
        following = asyncio.create_task(follow())
        while "look_at_command" not in "".join(here.target.calls):
            await asyncio.sleep(0.01)
        await asyncio.sleep(2 * LOOK_EVERY_S)
        follows_still = not following.done()
        runs.set()
        await following

    assert follows_still
    assert lines[-2:] == ["command began", "klepaas: the release command ended with exit code 0."]


async def test_a_command_that_could_not_be_ended_does_not_run_beside_the_next_one(here: World) -> None:
    """Cancelled while the engine was away: the watcher leaves the app alone as long as the next one is in hand."""
    here.source.files["klepaas.toml"] = FILE
    here.source.branches["main"] = [ONE, TWO]
    project = await here.project()
    runs = here.target.hang("look_at_command")
    async with here.node():
        given_up = await here.deploy(project, ONE)
        async with asyncio.timeout(10):
            while not here.target.commands:
                await asyncio.sleep(0.01)
        here.target.fail("remove", Unavailable("The engine is away."))
        await deployments.cancel(here.context, here.actor, given_up.id)
        assert (await here.ended(given_up)).status is Status.CANCELLED
        left = list(here.target.commands)
        following = await here.deploy(project, TWO)
        async with asyncio.timeout(10):
            while len(here.target.commands_begun) < 2:
                await asyncio.sleep(0.01)
        together = list(here.target.commands)
        runs.set()
        done = await here.ended(following)

    assert len(left) == 1, "it was not ended"
    assert together == [done.release_id]
    assert done.status is Status.SUCCEEDED


@pytest.mark.parametrize("wanted", ["python manage.py migrate", list(MIGRATE)])
async def test_a_project_may_set_it_too_as_one_text_or_as_words(here: World, wanted: object) -> None:
    project = await here.project(release_command=wanted)

    assert project.settings.release_command == MIGRATE
