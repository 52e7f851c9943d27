import re
from pathlib import Path

import httpx
import pytest

from klepaas.builders.docker import DockerBuilder
from klepaas.docker.engine import DockerEngine
from tests.builders.checkout import Lines, checkout, request_for, some_app
from tests.servers.base_images import PYTHON, STATIC, python_base, static_base

pytestmark = pytest.mark.docker


def test_a_base_image_is_made_once(docker_host: str) -> None:
    names = [static_base(docker_host), static_base(docker_host)]
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=docker_host.removeprefix("unix://")), base_url="http://docker"
    ) as engine:
        first, second = (engine.get(f"/images/{name}/json").json()["Id"] for name in names)

    assert names == [STATIC, STATIC]
    assert first == second


async def test_the_python_image_runs_python_and_installs_packages(
    docker_host: str, instance_id: str, tmp_path: Path
) -> None:
    assert python_base(docker_host) == PYTHON
    wheel = "print(__import__('flit_core').__name__, 'installed')"
    source = checkout(
        tmp_path,
        {
            "Dockerfile": f"FROM {PYTHON}\nENV ONCE={instance_id}\n"
            "RUN python -c 'import ssl, sqlite3, ctypes, zlib; print(ssl.OPENSSL_VERSION)'\n"
            f'RUN pip install -q flit-core && python -c "{wheel}"\n'
            "USER nobody\n"
            "RUN python3 -m http.server --help | head -1\n"
        },
    )
    engine = DockerEngine(docker_host)
    lines = Lines()
    await DockerBuilder(engine, instance=instance_id).build(request_for(source, some_app()), lines.add)
    await engine.close()

    assert re.search("OpenSSL", lines.text)
    assert re.search("^.*[0-9] flit_core installed$", lines.text, re.MULTILINE)
