import asyncio
import os
import shutil
import time

import pytest

from klepaas.domain.deployment import Deployment
from klepaas.errors import BuildFailed
from klepaas.workflows import leftovers
from tests.workflows.world import LOOKS_EVERY_S, PATIENCE_S, World


async def test_what_a_dead_process_left_behind_goes_and_what_is_needed_stays(here: World) -> None:
    project = await here.project()
    async with here.node():
        ended = await here.ended(await here.deploy(project))
    queued = await here.deploy(project)
    for name in (ended.id, queued.id, "lookup-new", "lookup-old"):
        (here.work / name).mkdir(parents=True, exist_ok=True)
    long_ago = time.time() - 2 * leftovers.OLD_S
    for name in (queued.id, "lookup-old"):
        os.utime(here.work / name, (long_ago, long_ago))

    await leftovers.clear(here.context, here.work)

    assert {each.name for each in here.work.iterdir()} == {queued.id, "lookup-new"}


@pytest.mark.parametrize("failures", [[], [BuildFailed("No.")]], ids=["succeeded", "failed"])
async def test_the_checkout_of_an_ended_deployment_goes(here: World, failures: list[Exception]) -> None:
    project = await here.project()
    here.builder.failures += failures
    there = []
    here.mishaps["fetch.recorded"] = lambda: there.extend(here.work.iterdir())
    async with here.node():
        ended = await here.ended(await here.deploy(project))
        async with asyncio.timeout(PATIENCE_S):
            while list(here.work.iterdir()):
                await asyncio.sleep(LOOKS_EVERY_S)

    assert there == [here.work / ended.id]


async def test_a_folder_that_another_process_removes_meanwhile_keeps_nobody_from_starting(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here.work / "lookup-gone").mkdir(parents=True)

    async def get(deployment_id: str) -> Deployment | None:
        shutil.rmtree(here.work / deployment_id)
        return None

    monkeypatch.setattr(here.context.deployments, "get", get)

    await leftovers.clear(here.context, here.work)
