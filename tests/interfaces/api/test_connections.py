"""Credentials at the door: they go in, do their work at the real git server, and come out nowhere."""

import base64
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog

from klepaas import logs
from klepaas.domain.actor import Scope
from klepaas.domain.repository import parse_repository
from klepaas.errors import AuthenticationFailed
from klepaas.sources.git import GitSource
from tests.interfaces.api.doors import API, Door, door_of, everything
from tests.servers.git_http import GitHttpServer, WorkingRepository
from tests.sources.conftest import make_source  # noqa: F401 - a fixture
from tests.workflows.world import World

CANARY = "c4n4ry/+ s3cr3t&é"
FORMS = [
    CANARY,
    quote(CANARY),
    quote(CANARY, safe=""),
    json.dumps(CANARY)[1:-1],
    base64.b64encode(CANARY.encode()).decode().rstrip("="),
    base64.b64encode(f"dana:{CANARY}".encode()).decode().rstrip("="),
]


@pytest.fixture
def source(make_source: Callable[..., GitSource]) -> GitSource:  # noqa: F811
    return make_source()


@pytest.fixture
def door(here: World, source: GitSource) -> Door:
    """As elsewhere, but with git in earnest."""
    here.context = replace(here.context, source=source)
    return door_of(here)


@pytest.fixture
def private(git_server: GitHttpServer) -> WorkingRepository:
    repository = git_server.create_repository("team/private", token=f"dana:{CANARY}")
    repository.publish({"Dockerfile": "FROM scratch\n"})
    return repository


@pytest.fixture
async def api(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    async with door.client(await door.token(Scope.ADMIN, owner="us")) as client:
        yield client


async def added(api: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    body = {"name": "forge", "kind": "git_basic", "username": "dana", "password": CANARY, **fields}
    answer = await api.post(f"{API}/connections", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def host_of(server: GitHttpServer) -> str:
    return server.url.removeprefix("http://")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The operator's log."""
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    stream = io.StringIO()
    logs.configure(format="json", level="debug", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(logging.WARNING)
    structlog.reset_defaults()


async def test_what_is_added_is_listed_without_its_secret_and_is_sealed(
    api: httpx.AsyncClient, door: Door, tmp_path: Path, written: io.StringIO
) -> None:
    """S-05, S-06: not in an answer, not in a row, not in a file of the database, not in the log."""
    made = await added(api, host="Git.Example.org")

    listed = await api.get(f"{API}/connections")
    taken = await api.post(f"{API}/connections", json={"name": "forge", "password": CANARY})

    assert listed.json() == {"connections": [made]}
    assert set(made) == {"id", "owner_id", "kind", "name", "host", "installation_id", "account", "created_at"}
    assert made["host"] == "git.example.org"
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "conflict")
    files = b"".join(path.read_bytes() for path in tmp_path.glob("klepaas.db*"))
    told = json.dumps(made) + listed.text + taken.text + repr(await everything(door.world)) + written.getvalue()
    assert made["id"].encode() in files
    assert "/connections" in written.getvalue()
    assert [form for form in FORMS if form in told or form.encode() in files] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"password": ""},
        {"password": f"{CANARY}\n"},
        {"password": f"{CANARY}\0"},
        {"password": CANARY * 1000},
        {"password": "가" * 2000},
        {"password": [CANARY]},
        {"username": f"dana:{CANARY}"},
        {"username": "dana\r"},
        {"username": CANARY * 100},
        {"name": ""},
        {"name": "a/b"},
        {"name": "a\nb"},
        {"name": " forge"},
        {"name": "x" * 81},
        {"host": "https://git.example.org/x"},
        {"host": ""},
        {"kind": "github_app"},
        {"kind": "telnet"},
        {"passwort": CANARY},
    ],
    ids=lambda fields: str(fields)[:40],
)
async def test_what_is_not_right_is_refused_without_a_word_of_the_secret(
    api: httpx.AsyncClient, door: Door, fields: dict[str, Any]
) -> None:
    """S-05."""
    before = await everything(door.world)

    body = {"name": "forge", "username": "dana", "password": CANARY, **fields}
    answer = await api.post(f"{API}/connections", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    assert [form for form in FORMS if form in answer.text] == []
    assert await everything(door.world) == before


async def test_verifying_says_what_the_repositorys_server_says(
    api: httpx.AsyncClient, git_server: GitHttpServer, private: WorkingRepository
) -> None:
    await added(api, host=host_of(git_server))
    await added(api, name="wrong", password="guessed")
    nowhere = f"{git_server.url}/team/nowhere.git"

    async def verified(name: str, repository: str, branch: str = "main") -> str:
        body = {"repository": repository, "branch": branch}
        answer = (await api.post(f"{API}/connections/{name}/verify", json=body)).json()
        return str(answer.get("commit_sha") or answer["error"]["code"])

    sha = private.publish({"a": "b"})
    assert await verified("forge", private.url) == sha
    assert await verified("wrong", private.url) == "authentication_failed"
    assert await verified("forge", nowhere) == "repository_not_found"
    assert await verified("forge", private.url, "release") == "branch_not_found"
    with git_server.failing("error_503"):
        assert await verified("forge", private.url) == "unavailable"


async def test_the_credential_goes_to_its_own_server_only(
    api: httpx.AsyncClient, door: Door, git_server: GitHttpServer, private: WorkingRepository
) -> None:
    """S-10: not by asking for it, not with a new project, not with a project that moves there."""
    connection = await added(api, host=host_of(git_server))
    thief = GitHttpServer()
    thief.start()
    try:
        bait = thief.create_repository("team/private", token="nobody:knows")
        bait.publish({"a": "b"})
        good = {"repository": private.url, "name": "shop", "target": "fake", "connection_id": connection["id"]}
        assert (await api.post(f"{API}/projects", json=good)).status_code == 201
        before = await everything(door.world)

        answers = [
            await api.post(f"{API}/connections/forge/verify", json={"repository": bait.url}),
            await api.post(f"{API}/projects", json=good | {"repository": bait.url, "name": "other"}),
            await api.patch(f"{API}/projects/shop", json={"repository": bait.url, "connection_id": "forge"}),
        ]

        assert [answer.status_code for answer in answers] == [422, 422, 422]
        assert all(f"for {host_of(git_server)} only" in answer.json()["error"]["message"] for answer in answers)
        assert await everything(door.world) == before
        moved = (await api.patch(f"{API}/projects/shop", json={"repository": bait.url})).json()
        assert moved["connection_id"] is None
        assert thief.authorizations == []
    finally:
        thief.stop()


async def test_an_opened_connection_fetches_its_private_repository_and_no_other(
    api: httpx.AsyncClient,
    door: Door,
    source: GitSource,
    git_server: GitHttpServer,
    private: WorkingRepository,
    tmp_path: Path,
) -> None:
    """S-10: also where a project got its connection before anybody looked, the sender looks at the server's name."""
    made = await added(api, host=host_of(git_server))
    credential = await door.world.context.connections.open(made["id"])
    thief = GitHttpServer()
    thief.start()
    try:
        bait = parse_repository(thief.create_repository("team/private", token="nobody:knows").url)
        commit = await source.fetch(
            parse_repository(private.url), branch="main", commit=None, into=tmp_path / "good", credential=credential
        )
        with pytest.raises(AuthenticationFailed, match="it was not sent"):
            await source.fetch(bait, branch="main", commit=None, into=tmp_path / "bad", credential=credential)
        with pytest.raises(AuthenticationFailed, match="it was not sent"):
            await source.head(bait, branch="main", credential=credential)
        assert not await source.has(bait, branch="main", commit=commit.sha, credential=credential)
    finally:
        thief.stop()

    assert (tmp_path / "good" / "Dockerfile").exists()
    assert git_server.authorizations
    assert thief.authorizations == []
    assert not thief.requests


async def test_a_removed_connection_says_which_projects_used_it(
    api: httpx.AsyncClient, door: Door, private: WorkingRepository
) -> None:
    made = await added(api)
    body = {"repository": private.url, "target": "fake", "connection_id": "forge"}
    shop, retired, _ = [
        (await api.post(f"{API}/projects", json=body | {"name": name} | more)).json()
        for name, more in (("shop", {}), ("retired", {}), ("public", {"connection_id": None}))
    ]
    await api.delete(f"{API}/projects/{retired['id']}")
    assert shop["connection_id"] == made["id"], "named by its name, kept by its id"

    gone = await api.delete(f"{API}/connections/forge")

    assert (gone.status_code, gone.json()["projects"]) == (200, [{"id": shop["id"], "name": "shop"}])
    assert (await api.get(f"{API}/projects/shop")).json()["connection_id"] is None
    assert (await api.get(f"{API}/connections")).json() == {"connections": []}
    assert (await api.delete(f"{API}/connections/{made['id']}")).status_code == 404


async def test_a_project_gives_its_connection_back_for_an_empty_one(
    api: httpx.AsyncClient, private: WorkingRepository
) -> None:
    await added(api)
    body = {"repository": private.url, "name": "shop", "target": "fake", "connection_id": "forge"}
    assert (await api.post(f"{API}/projects", json=body)).json()["connection_id"] is not None

    changed = await api.patch(f"{API}/projects/shop", json={"connection_id": ""})

    assert changed.json()["connection_id"] is None
