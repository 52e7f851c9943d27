"""The demo with Naver Cloud, the whole way against its stand-in: a chain, builds by the real engine, and back."""

import re
import signal
from itertools import takewhile
from pathlib import Path

import pytest

from klepaas.testing.ncp.engine_builds import LABEL
from tests.interfaces.cli.demo_process import demo, nothing_is_left
from tests.servers import docker

pytestmark = [pytest.mark.docker, pytest.mark.slow]

AN_ACCOUNT = {
    "KLEPAAS_NCP_ACCESS_KEY": "0123456789ABCDEF0123",
    "KLEPAAS_NCP_SECRET_KEY": "of-a-real-account-that-nobody-asks",
    "KLEPAAS_NCP_CONTAINER_REGISTRY_URL": "acme.kr.ncr.ntruss.com",
}
"""Of whoever tries the demo: it has no business there."""


def test_the_whole_chain_is_shown_at_work_and_nothing_is_left(tmp_path: Path, docker_host: str) -> None:
    with demo(tmp_path, docker_host, "--target", "ncp", "--once", **AN_ACCOUNT) as shown:
        out, err = shown.communicate(timeout=110)

    assert shown.returncode == 0, err
    assert out.splitlines()[-1].startswith(
        "demo: ok: a merged pull request put version 1.1 live at a stand-in of Naver Cloud, one rollback brought "
        "version 1 back without a build and another 1.1 with one; everything is gone again ("
    )
    made = re.findall(r"^  Made the (\S+)", err, re.MULTILINE)
    assert made == ["SourceCommit", "SourceBuild", "SourceDeploy", "stage", "scenario", "SourcePipeline"]
    before, merged, back, again = re.split(r"dana merged|Rolling back|Going to the newer", err)
    assert "Could it be rolled back? no\n  No deployment history found." in before
    assert "The webhook arrived: merge by webhook." in merged
    assert "build …" not in back
    assert "Could it be rolled back? yes\n  Latest deployment image not found in NCR (HTTP 404)." in back
    assert "The image was gone; the commit is built again." in again
    assert [each.count("SourceDeploy says success of its run") for each in (before, merged, back, again)] == [2] * 4
    first, second, third, fourth = _in_the_cluster(err)
    assert first == third != second
    assert fourth != first
    nothing_is_left(tmp_path, docker_host)
    assert _images(docker_host) == []


def test_interrupted_while_it_builds_it_takes_everything_away(tmp_path: Path, docker_host: str) -> None:
    with demo(tmp_path, docker_host, "--target", "ncp") as shown:
        assert shown.stderr is not None
        said = list(takewhile(lambda line: line != "build …\n", shown.stderr))
        shown.send_signal(signal.SIGINT)
        out, err = shown.communicate(timeout=60)

    assert "Made the SourcePipeline project" in "".join(said)
    assert "demo: ok" not in out
    assert shown.returncode == 130, err
    nothing_is_left(tmp_path, docker_host)
    assert _images(docker_host) == []


def _images(docker_host: str) -> list[dict[str, str]]:
    """What the stand-in built and left on the engine."""
    return [image for image in docker.images(docker_host, label=LABEL) if "team-sample" in str(image)]


def _in_the_cluster(said: str) -> list[str]:
    """The digest that ran after each deployment."""
    return re.findall(r"^  cluster .*: (sha256:\w{12})$", said, re.MULTILINE)
