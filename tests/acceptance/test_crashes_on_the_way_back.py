"""R-02, R-30: klepaas is killed at every transition of a rollback and of a switch that is taken back, and at some of a
cancellation and of a first deployment; started again, it tells the truth (`house.py` says how)."""

import asyncio

import pytest
import sqlalchemy as sa

from klepaas.storage.tables import apps
from tests.acceptance.house import House, told_truly
from tests.acceptance.points import CANCELLED, FIRST_DEPLOYMENT, ROLLBACK, TAKEN_BACK

pytestmark = [pytest.mark.slow, pytest.mark.docker]


@pytest.mark.parametrize("point", ROLLBACK)
async def test_a_rollback_killed_at_any_point_goes_on_and_ends_well(house: House, point: str) -> None:
    await house.ready()
    house.fault.write_text(point)
    started, back_at = await house.roll_back_and_die(f"rollback-{point}")

    await told_truly(house, started, back_at, "succeeded")
    [live] = house.ground.select(sa.select(apps.c.live_release_id))
    assert live.live_release_id == started["release_id"]


@pytest.mark.parametrize("point", TAKEN_BACK)
async def test_a_switch_that_is_taken_back_and_killed_at_any_point_is_taken_back(house: House, point: str) -> None:
    await house.ready()
    [before] = house.ground.select(sa.select(apps.c.live_release_id))
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"switch_p99_budget_ms": 0.0001})
    house.repository.commit()
    house.fault.write_text(point)
    started = await house.deploy(f"taken-back-{point}")
    back_at = await house.dies_and_comes_back()
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"switch_p99_budget_ms": None})

    await told_truly(house, started, back_at, "rolled_back_automatically")
    assert house.ground.select(sa.select(apps.c.live_release_id)) == [before]


@pytest.mark.parametrize("point", CANCELLED)
async def test_a_cancellation_survives_a_kill(house: House, point: str) -> None:
    """R-03."""
    await house.ready()
    house.repository.commit()
    house.fault.write_text(point)
    started = await house.deploy(f"cancel-{point}")
    async with house.process.client() as klepaas:
        while (await klepaas.deployment(started["id"]))["status"] == "queued":
            await asyncio.sleep(0.005)
        await klepaas.cancel(started["id"])
    back_at = await house.dies_and_comes_back()

    await told_truly(house, started, back_at, "cancelled")


@pytest.mark.parametrize("point", FIRST_DEPLOYMENT)
async def test_a_first_deployment_killed_at_a_point_goes_on_and_ends_well(house: House, point: str) -> None:
    await house.ready()
    name = f"new-{FIRST_DEPLOYMENT.index(point)}"
    async with house.process.client() as klepaas:
        await klepaas.register(str(house.repository.path), name=name)
    house.fault.write_text(point)
    started = await house.deploy(f"first-{point}", project=name)
    back_at = await house.dies_and_comes_back()

    await told_truly(house, started, back_at, "succeeded")
    async with house.process.client() as klepaas:
        await klepaas.retire(name)
