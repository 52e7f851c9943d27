"""S-05: what opens GitHub is nowhere to be seen, over a whole run: an App and a personal token, deployments, a
rollback, a merged pull request, webhooks good and bad, GitHub away, and a token that ends in the middle of it.

The canaries: the App's private key, every installation token, the personal token, the webhook secret, and klepaas's
own operator token; raw, in JSON, URL-encoded and in base64."""

import asyncio
import base64
import contextlib
import json
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from klepaas.errors import KlepaasError
from tests.acceptance import truth
from tests.acceptance.canaries import Canaries, Eyes, dresses, files_with, git_files, text_of
from tests.acceptance.github_house import EVERY_PUSH, WEBHOOK, GitHubHouse, Shop
from tests.acceptance.visitor import deployed, docker

pytestmark = [pytest.mark.slow, pytest.mark.docker]


@pytest.fixture
def house(docker_host: str) -> Iterator[GitHubHouse]:
    with GitHubHouse(docker_host) as made:
        yield made


async def test_s05_what_opens_github_is_nowhere_to_be_seen(house: GitHubHouse) -> None:
    canaries = Canaries()
    pem = house.github.app.private_key_pem
    canaries.add("the App's key", pem)
    for line in pem.splitlines()[1:-2]:  # the last one may be short
        canaries.add("the App's key", line)
    canaries.add("the webhook secret", house.secret)
    personal = house.github.create_token("dana")
    canaries.add("the personal token", personal)
    given_to_git = _answers_with_tokens(house, canaries)
    await house.ready(LOG_LEVEL="debug", BRANCHES__INTERVAL="PT2S")
    canaries.add("the operator's token", house.ground.token)

    with Eyes(canaries, house.ground.home) as eyes:
        told = [*await _live_through_it_all(house, personal), *await _everything_said(house)]

    assert eyes.seen == set()
    assert {"git", "git-remote-http"} & eyes.programs, "git was seen at work"
    assert eyes.git_files > 0
    assert given_to_git, "installation tokens were made"
    for name, data in told:
        assert canaries.found_in(data) == set(), f"in {name}: {data[:2000]!r}"
    key_file = house.ground.folder / "app.pem"
    assert files_with(canaries, house.ground.folder, without=[key_file, house.process.log]) == []
    said = house.process.log.read_bytes()
    canaries.forget("the operator's token")  # said once at the first start, as S-08 wants it
    assert canaries.found_in(said) == set()
    await truth.soon(lambda: not list(git_files(house.ground.home / "work")))


def _answers_with_tokens(house: GitHubHouse, canaries: Canaries) -> list[str]:
    """Every installation token is a canary from the moment it is made."""
    made: list[str] = []
    create = house.github.world.create_installation_token

    def created(*arguments: Any) -> Any:
        token = create(*arguments)
        canaries.add("an installation token", token.value)
        made.append(token.value)
        return token

    house.github.world.create_installation_token = created  # type: ignore[method-assign]
    return made


async def _live_through_it_all(house: GitHubHouse, personal: str) -> list[tuple[str, bytes]]:
    """What may go well and wrong between klepaas and GitHub. Returns what was answered, by what it is."""
    told: list[tuple[str, Any]] = []
    by_app = await house.shop("by-app", rules={})
    async with house.process.client() as klepaas:
        made = await klepaas.add_connection("mine", personal, kind="github_token")
        told.append(("the connection", made))
    by_token = await house.shop("by-token", connection_id="mine", rules=EVERY_PUSH)

    for version in ("v1", "v2"):
        sha, _ = await by_app.merge(version)
        told.append(("a deployment", await by_app.live_after(sha)))
    told.append(("a rollback", await by_app.roll_back()))
    told.append(("a deployment", await by_token.live_after(await by_token.push("v1"))))
    broken = await by_token.push("v2", {"Dockerfile": "FROM scratch\nCOPY nothing /\n"})
    told.append(("a failed build", await by_token.deployment_of(broken)))
    told += await _refusals(house, by_app, by_token)
    await house.webhooks_are_answered()
    told += [("a webhook's answer", each.response) for each in house.github.deliveries]
    told += await _bad_webhooks(house)
    told += [(f"what GitHub shows of {shop.name}", _shown(shop)) for shop in (by_app, by_token)]
    return [(name, text_of(value)) for name, value in told]


async def _refusals(house: GitHubHouse, by_app: Shop, by_token: Shop) -> list[tuple[str, Any]]:
    """A token that ended, an installation that was suspended, GitHub away: what is said then."""
    told: list[tuple[str, Any]] = []
    github = house.github
    async with house.process.client() as klepaas:
        for token in [each for each in github.world.tokens.values() if each.installation_id is None]:
            del github.world.tokens[token.value]
        told.append(("a deployment without a right", await deployed(klepaas, by_token.name)))
        told.append(("a refused connection", await _words(klepaas.verify_connection("mine", "team/by-token"))))
        github.suspend(house.installation)
        told.append(("a suspended installation", await deployed(klepaas, by_app.name)))
        told.append(("a suspended installation", await _words(klepaas.verify_connection("team", "team/by-app"))))
        github.unsuspend(house.installation)
        github.faults.down = True
        told.append(("GitHub away", await _words(klepaas.verify_connection("team", "team/by-app"))))
        github.faults.clear()
        wrong = "ghp_" + "wrong" * 8
        told.append(("a wrong token", await _words(klepaas.add_connection("wrong", wrong, kind="github_token"))))
        assert wrong not in json.dumps(told, default=str)
    return told


async def _words(asked: Any) -> Any:
    """What somebody is told, also when it is a refusal."""
    try:
        return await asked
    except KlepaasError as refused:
        return {"message": refused.message, "hint": refused.hint, "evidence": refused.evidence}


async def _bad_webhooks(house: GitHubHouse) -> list[tuple[str, Any]]:
    url = house.process.url + WEBHOOK
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "bad", "Content-Type": "application/json"}
    async with httpx.AsyncClient(trust_env=False) as http:
        answers = [
            await http.post(url, content=b"{}", headers=headers),
            await http.post(url, content=b"{}", headers={**headers, "X-Hub-Signature-256": "sha256=" + "0" * 64}),
            await http.post(url, content=b"{", headers={**headers, "X-Hub-Signature-256": f"sha256={house.secret}"}),
        ]
    assert {each.status_code for each in answers} <= {400, 401}
    return [("the answer to a bad webhook", each.text) for each in answers]


def _shown(shop: Shop) -> Any:
    repository = shop.repository
    comments = [comment.body for number in range(1, 3) for comment in repository.comments(number)]
    return [str(shop.told()), [str(status) for status in shop.statuses()], comments]


async def _everything_said(house: GitHubHouse) -> list[tuple[str, bytes]]:
    """Every answer of the API that needs no more than an id, the record as text, and what the engine knows."""
    told: list[tuple[str, bytes]] = []
    headers = {"Authorization": f"Bearer {house.ground.token}"}
    async with httpx.AsyncClient(base_url=house.process.url, headers=headers, trust_env=False, timeout=30) as http:
        described = (await http.get("/api/v1/openapi.json")).json()
        projects = (await http.get("/api/v1/projects")).json()["projects"]
        deployments = [
            each
            for project in projects
            for each in (await http.get(f"/api/v1/projects/{project['id']}/deployments")).json()["deployments"]
        ]
        deliveries = (await http.get("/api/v1/github/deliveries")).json()["deliveries"]
        ids = {
            "project": [each["id"] for each in projects],
            "deployment_id": [each["id"] for each in deployments],
            "delivery_id": [each["id"] for each in deliveries],
        }
        for path, methods in described["paths"].items():
            if "get" in methods:
                told += [(filled, await _read(http, filled)) for filled in _filled(path, ids)]
    with contextlib.closing(sqlite3.connect(house.ground.home / "klepaas.db")) as database:
        told.append(("the database", "\n".join(database.iterdump()).encode()))
    for container in house.ground.containers():
        told.append(("a container", docker(house.ground.docker_host, "inspect", container["Id"]).encode()))
        told.append(
            (
                "an image's history",
                docker(house.ground.docker_host, "history", "--no-trunc", container["ImageID"]).encode(),
            )
        )
    return told


def _filled(path: str, ids: dict[str, list[str]]) -> list[str]:
    if "{" not in path:
        return [path]
    name = path.partition("{")[2].partition("}")[0]
    return [path.replace(f"{{{name}}}", each) for each in ids.get(name, [])]


async def _read(http: httpx.AsyncClient, path: str) -> bytes:
    """An answer with its headers; of one that does not end (a stream) as much as comes at once."""
    data = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2), http.stream("GET", path) as answer:
            data = str(answer.headers).encode()
            async for part in answer.aiter_bytes():
                data += part
    return data


@pytest.mark.parametrize("before", ["", "x", "xx", "x-access-token:"])
def test_s05_a_canary_is_known_in_every_dress(before: str) -> None:
    secret = "ghp_0123456789/abcdef=+&"
    canaries = Canaries()
    canaries.add("it", secret)
    packed = base64.b64encode(f"{before}{secret} and more".encode())

    assert canaries.found_in(packed) == {"it"}
    assert all(canaries.found_in(b"." + dress + b".") == {"it"} for dress in dresses(secret))
    assert canaries.found_in(b"something else entirely, and long enough to be looked at") == set()


def test_s05_the_eyes_see_what_a_program_is_started_with_and_what_git_keeps(tmp_path: Path) -> None:
    secret = "ghs_" + secrets.token_hex(18)
    canaries = Canaries()
    canaries.add("it", secret)
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "config").write_text(f"url = https://x:{secret}@github.com/team/shop\n")
    with Eyes(canaries, tmp_path) as eyes:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)", secret], check=True)

    assert eyes.seen == {"it in a process's arguments", "it in git's config"}
