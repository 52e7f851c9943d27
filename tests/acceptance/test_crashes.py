"""R-02, R-30: klepaas is killed at every transition of a deployment, started again, and tells the truth.

One klepaas and one app live through all of it. While they do, somebody keeps asking the app: it never stops to
answer. Every case starts a deployment, kills the process at one point and starts it again without the fault."""

import pytest
import sqlalchemy as sa

from klepaas.storage.tables import apps, releases
from klepaas.workflows.deploy import TRANSITIONS
from tests.acceptance.house import House, points_of, told_truly
from tests.acceptance.points import ROLLBACK, SECOND_DEPLOYMENT, TAKEN_BACK

pytestmark = [pytest.mark.slow, pytest.mark.docker]


@pytest.mark.parametrize("point", SECOND_DEPLOYMENT)
async def test_a_deployment_killed_at_any_point_goes_on_and_ends_well(house: House, point: str) -> None:
    await house.ready()
    commit = house.repository.commit()
    house.fault.write_text(point)
    started = await house.deploy(f"deploy-{point}")
    back_at = await house.dies_and_comes_back()

    assert (await house.deploy(f"deploy-{point}"))["id"] == started["id"], "the same request is the same deployment"
    await told_truly(house, started, back_at, "succeeded")
    [live] = house.ground.select(sa.select(releases).join(apps, apps.c.live_release_id == releases.c.id))
    assert live.commit_sha == commit


async def test_every_transition_there_is_has_its_kill(house: House) -> None:
    """A new transition makes this fail until it is in a list above."""
    await house.ready()
    deployed = await points_of(house, lambda: house.deploy("recorded"))
    rolled_back = await points_of(house, lambda: house.roll_back("recorded-rollback"))
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"switch_p99_budget_ms": 0.0001})
    taken_back = await points_of(house, lambda: house.deploy("recorded-taken-back"))
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"switch_p99_budget_ms": None})

    assert deployed == set(SECOND_DEPLOYMENT)
    assert rolled_back == set(ROLLBACK)
    assert taken_back - deployed == set(TAKEN_BACK) - deployed
    assert set(TRANSITIONS) - deployed - rolled_back - taken_back == {"settle.started"}, "tests/workflows has it"
