"""Must show 1 with a real Docker engine and a real registry: what is built is what runs."""

from pathlib import Path

import pytest

from klepaas.domain.status import Status
from klepaas.testing.ncp import StandInNcp
from tests.servers.base_images import static_base
from tests.targets_ncp.trial import trial

pytestmark = pytest.mark.docker


async def test_a_commit_is_built_by_a_real_engine_pushed_and_deployed(docker_host: str, tmp_path: Path) -> None:
    base = static_base(docker_host)
    with StandInNcp(docker_host=docker_host, deploy_time_ms=20) as ncp:
        async with trial(tmp_path, ncp) as here:
            here.origin.commit({"Dockerfile": f"FROM {base}\nEXPOSE 3000\nCOPY app.py /\n", "app.py": "print(1)\n"})
            async with here.node():
                first = await here.ended(await here.deploy())
                here.origin.commit({"Dockerfile": f"FROM {base}\nCOPY missing /\n"})
                broken = await here.ended(await here.deploy())
                here.origin.commit({"Dockerfile": f"FROM {base}\nEXPOSE 3000\nCOPY app.py /\n", "app.py": "print(2)\n"})
                second = await here.ended(await here.deploy())
                back = await here.ended(await here.roll_back(commit=(first.commit_sha or "")[:7]))

    assert [each.status for each in (first, broken, second, back)] == [
        Status.SUCCEEDED,
        Status.FAILED,
        Status.SUCCEEDED,
        Status.SUCCEEDED,
    ]
    assert broken.failure is not None
    assert broken.failure.message == "Build failed: fail"
    assert len({first.image_digest, second.image_digest}) == 2
    assert [build.digest for build in ncp.builds if build.digest] == [first.image_digest, second.image_digest]
    assert ncp.cluster.digests_of(here.app) == {first.image_digest}
