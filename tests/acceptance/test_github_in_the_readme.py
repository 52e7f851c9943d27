"""What the README says of GitHub, typed as it stands there."""

import asyncio
import html
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from klepaas.testing.github import StandInGitHub
from tests.acceptance import truth
from tests.acceptance.github_house import PUBLIC_URL, WEBHOOK, sample_files
from tests.acceptance.klepaas_process import Ground, KlepaasProcess
from tests.acceptance.visitor import ended, until

pytestmark = [pytest.mark.slow, pytest.mark.docker]

ROOT = Path(__file__).resolve().parents[2]
OWNER = "klepaas-dev"
"""Whose browser it is at the stand-in."""


def commands(readme: str) -> Sequence[Sequence[str]]:
    """The first block with `github connect`, for a repository `shop` of the stand-in's user."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    block = next(each for each in blocks if "github connect" in each)
    return [
        [word.replace("owner", OWNER).replace("repo", "shop") for word in shlex.split(line, comments=True)]
        for line in block.strip().splitlines()
    ]


@pytest.fixture
def hub() -> Iterator[StandInGitHub]:
    with StandInGitHub() as made:
        yield made


def test_both_readmes_say_the_same_three_commands() -> None:
    assert commands("README.md") == commands("README.ko.md")
    assert len(commands("README.md")) == 3


async def test_the_three_commands_connect_github_and_a_merge_is_live(ground: Ground, hub: StandInGitHub) -> None:
    shop = hub.create_repository(f"{OWNER}/shop", files=sample_files("v1"))
    process = ground.process(GITHUB_URL=hub.url, PUBLIC_URL=PUBLIC_URL)
    await process.start()
    for command in commands("README.md"):
        await asyncio.to_thread(_type, process, command)
    app = next(each for each in hub.world.apps.values() if each is not hub.app)
    assert app.hook.url == f"{PUBLIC_URL}{WEBHOOK}"
    app.hook.url = process.url + WEBHOOK  # as the Internet would lead there

    async with process.client() as klepaas:
        assert await _version(process) == "v1"
        await asyncio.to_thread(shop.commit, {"site/version.txt": "v2\n"}, branch="next")
        number = await asyncio.to_thread(shop.open_pull, "next")
        sha = await asyncio.to_thread(shop.merge, number, "squash")

        async def deployments() -> Sequence[str]:
            listed = (await klepaas.deployments("shop"))["deployments"]
            return [each["id"] for each in listed if each["commit_sha"] == sha]

        [found] = await until(deployments, bool)
        deployment = await ended(klepaas, found)
        assert (deployment["status"], deployment["pull_request"]) == ("succeeded", number)
        assert await _version(process) == "v2"
    await process.stop()


def _type(process: KlepaasProcess, command: Sequence[str]) -> None:
    """Type a command and, when it shows addresses to open, open them and say yes."""
    assert command[0] == "klepaas"
    env = {**os.environ, "KLEPAAS_URL": process.url, "KLEPAAS_TOKEN": process.ground.token, "BROWSER": "true"}
    said = []
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        env=env,
        cwd=process.ground.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as typed:
        assert typed.stderr is not None
        for line in typed.stderr:
            said.append(line)
            if found := re.fullmatch(r"\s+(http://\S+)\s*", line):
                threading.Thread(target=_open, args=(found[1],), daemon=True).start()
    assert typed.returncode == 0, "".join(said)


def _open(url: str) -> None:
    with httpx.Client(trust_env=False, follow_redirects=True) as browser:
        page = browser.get(url, headers={"Accept": "text/html"})
        form = re.search(r'action="([^"]*)".*name="manifest" value="([^"]*)"', page.text, re.DOTALL)
        if form is not None:
            browser.post(html.unescape(form[1]), data={"manifest": html.unescape(form[2])})


async def _version(process: KlepaasProcess) -> str:
    async with process.client() as klepaas:
        url = (await klepaas.status("shop"))["urls"][0]
    return await asyncio.to_thread(truth.version_at, url)
