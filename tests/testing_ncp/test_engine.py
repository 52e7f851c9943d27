"""Builds by a real engine, pushed to the stand-in's registry with its tokens."""

from typing import Literal

import httpx
import pytest

from klepaas.testing.ncp import StandInNcp, image_program
from klepaas.testing.ncp.engine_builds import LABEL
from tests.servers.base_images import static_base
from tests.testing_ncp.conftest import FILES, Cloud

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("registry", ["own", "program"])
def test_a_commit_is_built_by_the_engine_and_pushed(docker_host: str, registry: Literal["own", "program"]) -> None:
    if registry == "program" and image_program.installed() is None:
        pytest.skip("needs the package docker-registry")
    base = static_base(docker_host)
    with StandInNcp(docker_host=docker_host, registry=registry) as ncp:
        cloud = Cloud(ncp)
        dockerfile = f"FROM {base}\nCOPY Dockerfile /\n"
        ncp.create_repository("team-shop", {**FILES, "Dockerfile": dockerfile})
        project = cloud.build_project()
        good = cloud.build(project)
        ncp.wait_for_runs()
        state, manifest = cloud.build_state(project, good), cloud.manifest("team-shop", "t1")
        ncp.repositories["team-shop"].commit({"Dockerfile": f"FROM {base}\nRUN exit 3\n"})
        bad = cloud.build(project)
        ncp.wait_for_runs()
        broken = cloud.build_state(project, bad)
        cloud.close()
        reference = ncp.builds[0].image

    assert "success" == state["status"], ncp.builds[0].log
    assert ncp.builds[0].digest == manifest.headers["docker-content-digest"]
    assert 2 <= len(manifest.json()["layers"])
    assert ("fail", "build") == (broken["status"], broken["failedPhase"])
    assert "returned a non-zero code: 3" in "\n".join(ncp.builds[1].log)
    transport = httpx.HTTPTransport(uds=docker_host.removeprefix("unix://"))
    with httpx.Client(transport=transport, base_url="http://docker") as engine:
        labelled = engine.get("/images/json", params={"filters": f'{{"label": ["{LABEL}={reference}"]}}'})
    assert [] == labelled.json()
