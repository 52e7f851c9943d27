"""R-02, R-30, must show 2: klepaas is killed at every transition of a deployment to Naver Cloud and of a rollback
there, and started again: one build, one run of SourceDeploy, one row, the right end."""

from collections.abc import Iterator

import pytest

from tests.acceptance import truth
from tests.acceptance.cradle import Cradle
from tests.acceptance.naver_house import NaverHouse
from tests.acceptance.points import AT_NAVER, BACK_AT_NAVER

pytestmark = [pytest.mark.slow, pytest.mark.servers]


@pytest.fixture(scope="module")
def house(cradle: Cradle) -> Iterator[NaverHouse]:
    made = NaverHouse(cradle)
    yield made
    made.clear()


@pytest.mark.parametrize("point", AT_NAVER)
async def test_a_deployment_killed_at_any_point_goes_on_and_ends_well(house: NaverHouse, point: str) -> None:
    await house.ready()
    commit = house.commit()
    house.fault.write_text(point)
    ended = await house.told_truly(lambda: house.deploy(f"deploy-{point}"), builds=1)

    assert ended["commit_sha"] == commit


@pytest.mark.parametrize("point", BACK_AT_NAVER)
async def test_a_rollback_killed_at_any_point_goes_on_and_ends_well(house: NaverHouse, point: str) -> None:
    await house.ready()
    house.commit()
    await house.ended(await house.deploy(f"before-{point}"))
    house.fault.write_text(point)
    ended = await house.told_truly(lambda: house.roll_back(f"rollback-{point}"), builds=0)

    assert ended["is_rollback"]


async def test_every_transition_there_is_has_its_kill(house: NaverHouse) -> None:
    """A new transition makes this fail until it is in a list above."""
    await house.ready()
    house.commit()
    reached = []
    for start in (house.deploy, house.roll_back):
        house.record.write_text("")
        await house.ended(await start(f"recorded-{start.__name__}"))
        await truth.soon(lambda: house.record.read_text().endswith("ended\n"))
        reached.append(house.record.read_text().split())

    assert sorted(reached[0]) == sorted(AT_NAVER)
    assert sorted(reached[1]) == sorted(BACK_AT_NAVER)
