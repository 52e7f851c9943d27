"""R-02, R-30: klepaas is killed around a release's command, which is begun once all the same (`house.py` says how)."""

import subprocess
import time

import pytest

from tests.acceptance.house import House, points_of, told_truly
from tests.acceptance.points import COMMAND
from tests.servers.base_images import static_base

pytestmark = [pytest.mark.slow, pytest.mark.docker]

SETTINGS = {"release_command": ["/bin/busybox", "sleep", "0.5"]}


async def _with_a_command(house: House) -> None:
    """The sample app, with a program that ends; the next deployments run it first."""
    await house.ready()
    image = static_base(house.ground.docker_host)
    dockerfile = (house.repository.path / "Dockerfile").read_text()
    if image not in dockerfile:
        added = f"COPY --from={image} /bin/busybox /bin/busybox\nCMD"
        house.repository.commit(Dockerfile=dockerfile.replace("CMD", added))
    house.repository.commit()
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings=SETTINGS)


@pytest.mark.parametrize("point", COMMAND)
async def test_a_command_is_begun_once_however_often_klepaas_is_killed(house: House, point: str) -> None:
    await _with_a_command(house)
    house.fault.write_text(point)
    began_at = time.time()
    started = await house.deploy(f"command-{point}")
    back_at = await house.dies_and_comes_back()

    await told_truly(house, started, back_at, "succeeded")
    assert len(_begun_since(house, began_at)) == 1


async def test_these_are_all_its_points(house: House) -> None:
    """A new effect makes this fail until it is in the list."""
    await _with_a_command(house)
    with_command = await points_of(house, lambda: house.deploy("recorded-command"))
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"release_command": None})
    without = await points_of(house, lambda: house.deploy("recorded-no-command"))

    assert with_command - without == set(COMMAND)


def _begun_since(house: House, at: float) -> list[str]:
    """The commands the engine started."""
    argv = [
        "docker",
        "--host",
        house.ground.docker_host,
        "events",
        "--since",
        f"{at:.3f}",
        "--until",
        f"{time.time():.3f}",
    ]
    chosen = ["--filter", "label=klepaas.role=command", "--filter", "event=start", "--format", "{{.ID}}"]
    return subprocess.run([*argv, *chosen], capture_output=True, text=True, check=True).stdout.split()
