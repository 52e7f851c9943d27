"""R-30: a run at the provider is written down before it is started; what was written down decides who may start."""

import asyncio

import pytest

from klepaas.domain.deployment import Deployment
from klepaas.domain.project import App
from klepaas.errors import Conflict
from klepaas.operations.ports.provider_runs import ProviderRun
from klepaas.storage.provider_runs import ProviderRunTable
from tests.storage.worlds import Memory


@pytest.fixture
def runs(memory: Memory) -> ProviderRunTable:
    return ProviderRunTable(memory.database, memory.clock)


async def _deployment(memory: Memory, name: str) -> Deployment:
    return await memory.submit(await memory.project(name=name))


def _app(deployment: Deployment) -> App:
    return App(project_id=deployment.project_id, environment=deployment.environment, name="shop")


async def _intended(runs: ProviderRunTable, deployment: Deployment, *known: str) -> ProviderRun | None:
    return await runs.intend(_app(deployment), "build", "20001", deployment_id=deployment.id, known=known)


async def test_the_same_deployment_finds_what_it_wrote_down_before(memory: Memory, runs: ProviderRunTable) -> None:
    """Also the ids of then: what is new since then is ours."""
    deployment = await _deployment(memory, "shop")
    first = await _intended(runs, deployment, "a", "b")
    again = await _intended(runs, deployment, "a", "b", "c")

    assert first is not None
    assert again == first
    assert again.known == ("a", "b")


async def test_two_deployments_do_not_run_in_one_project_at_once(memory: Memory, runs: ProviderRunTable) -> None:
    first, second = await _deployment(memory, "shop"), await _deployment(memory, "cart")
    both = await asyncio.gather(_intended(runs, first), _intended(runs, second))
    [open_] = [run for run in both if run is not None]
    await runs.ended(open_, "success")
    other = second if open_.deployment_id == first.id else first

    assert both.count(None) == 1
    assert await _intended(runs, other) is not None


async def test_what_a_deployment_left_open_when_it_ended_is_in_nobodys_way(
    memory: Memory, runs: ProviderRunTable
) -> None:
    first, second = await _deployment(memory, "shop"), await _deployment(memory, "cart")
    await _intended(runs, first)
    await memory.deployments.decide(first, first.cancel(actor="somebody"))

    assert await _intended(runs, second) is not None
    left = await runs.of(first.id, "build")
    assert left is not None
    assert left.word == "left"


async def test_one_run_belongs_to_one_deployment(memory: Memory, runs: ProviderRunTable) -> None:
    first, second = await _deployment(memory, "shop"), await _deployment(memory, "cart")
    mine = await _intended(runs, first)
    assert mine is not None
    await runs.began(mine, "run-1")
    await runs.ended(mine, "success")
    other = await _intended(runs, second)
    assert other is not None

    with pytest.raises(Conflict, match="another deployment"):
        await runs.began(other, "run-1")


async def test_only_what_has_not_begun_is_forgotten(memory: Memory, runs: ProviderRunTable) -> None:
    deployment = await _deployment(memory, "shop")
    run = await _intended(runs, deployment)
    assert run is not None
    await runs.forget(run)
    assert await runs.of(deployment.id, "build") is None
    again = await _intended(runs, deployment)
    assert again is not None
    await runs.began(again, "run-1")
    await runs.forget(again)

    assert await runs.of(deployment.id, "build") is not None


async def test_a_run_started_by_hand_is_noted_once_and_is_none_of_ours(memory: Memory, runs: ProviderRunTable) -> None:
    deployment = await _deployment(memory, "shop")
    app = _app(deployment)
    noted = [await runs.by_hand(app, "deploy", "12001", "80001", word="success", by="kim") for _ in range(2)]
    [only] = await runs.list(app.key)

    assert noted == [True, False]
    assert await runs.newest(app.key, "deploy") is None
    assert set(await runs.ids("deploy", "12001")) == {"80001"}
    assert (only.deployment_id, only.word, only.by) == (None, "success", "kim")
