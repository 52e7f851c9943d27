"""Bad input gets a clear error in the one shape, and changes nothing."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from klepaas.errors import KlepaasError, Outside, Refused
from klepaas.interfaces.api.errors import STATUSES, status_of
from tests.interfaces.api.doors import API, Door, door_of, everything
from tests.workflows.world import World, world

PROJECT = {"repository": "octo/other", "target": "fake"}

BAD: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/projects/nobody", {}, 404, "not_found"),
    ("POST", "/projects/nobody/deployments", {"json": {}}, 404, "not_found"),
    ("GET", "/deployments/dep_0000000000000000", {}, 404, "not_found"),
    ("GET", "/deployments/..%2f..%2fetc", {}, 404, "not_found"),
    ("DELETE", "/tokens/0000000000000000", {}, 404, "not_found"),
    ("POST", "/projects", {"json": {"repository": "not a repository", "target": "fake"}}, 422, "invalid"),
    ("POST", "/projects", {"json": {"repository": "--upload-pack=x", "target": "fake"}}, 422, "invalid"),
    ("POST", "/projects", {"json": {"repository": "ext::sh -c x", "target": "fake"}}, 422, "invalid"),
    ("POST", "/projects", {"json": PROJECT | {"name": "Not A Name"}}, 422, "invalid"),
    ("POST", "/projects", {"json": PROJECT | {"name": "shop"}}, 409, "conflict"),
    ("POST", "/projects", {"json": PROJECT | {"target": "moon"}}, 422, "invalid"),
    ("POST", "/projects", {"json": PROJECT | {"connection_id": "con_0"}}, 404, "not_found"),
    ("POST", "/projects", {"json": PROJECT | {"settings": {"prot": 1}}}, 422, "invalid"),
    ("POST", "/projects", {"json": PROJECT | {"settings": {"port": "many"}}}, 422, "invalid"),
    ("POST", "/projects", {"json": PROJECT | {"colour": "red"}}, 422, "invalid"),
    ("POST", "/projects", {"json": {}}, 422, "invalid"),
    ("POST", "/projects", {"json": ["octo/shop"]}, 422, "invalid"),
    ("POST", "/projects", {}, 422, "invalid"),
    ("POST", "/projects", {"content": b"{nonsense"}, 422, "invalid"),
    ("POST", "/projects", {"content": b"\xff\xfe{}"}, 422, "invalid"),
    ("POST", "/projects", {"content": b"[" * 50_000}, 422, "invalid"),
    ("POST", "/projects", {"content": b"1" * 20_000}, 422, "invalid"),
    ("POST", "/projects", {"content": b"repository=x", "type": "text/plain"}, 422, "invalid"),
    ("PATCH", "/projects/shop", {"json": {"branch": "--upload-pack=touch"}}, 422, "invalid"),
    ("PATCH", "/projects/shop", {"json": {"branch": "@{-1}"}}, 422, "invalid"),
    ("PATCH", "/projects/shop", {"json": {"name": "other"}}, 422, "invalid"),
    ("POST", "/projects/shop/deployments", {"json": {"branch": "-f"}}, 422, "invalid"),
    ("POST", "/projects/shop/deployments", {"json": {"commit": "HEAD"}}, 422, "invalid"),
    ("POST", "/projects/shop/deployments", {"json": {"commit": 1234567}}, 422, "invalid"),
    ("POST", "/projects/shop/deployments", {"json": {"environment": "a=b"}}, 422, "invalid"),
    ("POST", "/projects/shop/deployments", {"json": {"note": "zero\0byte"}}, 422, "invalid"),
    ("POST", "/projects/shop/deployments", {"content": b'{"note": "\\ud800"}'}, 422, "invalid"),
    ("POST", "/projects/shop/deployments", {"json": {}, "key": "k" * 101}, 422, "invalid"),
    ("POST", "/projects/shop/rollback", {"json": {}}, 422, "invalid"),
    ("POST", "/projects/shop/rollback", {"json": {"steps_back": 1, "commit": "9fceb02"}}, 422, "invalid"),
    ("POST", "/projects/shop/rollback", {"json": {"steps_back": 0}}, 422, "invalid"),
    ("POST", "/projects/shop/rollback", {"json": {"commit": "zzzzzzz"}}, 404, "not_found"),
    ("PUT", "/projects/shop/variables", {"json": {"variables": {"A=B": "1"}}}, 422, "invalid"),
    ("PUT", "/projects/shop/variables", {"json": {"variables": {"": "1"}}}, 422, "invalid"),
    ("PUT", "/projects/shop/variables", {"json": {"variables": {"A": 1}}}, 422, "invalid"),
    ("PUT", "/projects/shop/variables", {"json": {"variables": {"A": "zero\0byte"}}}, 422, "invalid"),
    ("PUT", "/projects/shop/variables", {"content": b'{"variables": {"A": "\\ud800"}}'}, 422, "invalid"),
    ("POST", "/projects", {"json": PROJECT | {"settings": {"dockerfile": "\0"}}}, 422, "invalid"),
    ("POST", "/projects", {"content": b'{"repository":"o/r","settings":{"dockerfile":"\\udc00"}}'}, 422, "invalid"),
    ("POST", "/projects", {"content": b'{"settings":' + b'{"a":' * 900 + b"1" + b"}" * 901}, 422, "invalid"),
    ("PUT", "/projects/shop/variables", {"json": {"variables": {"PORT": "1"}}}, 422, "invalid"),
    ("POST", "/tokens", {"json": {"name": "x", "scope": "god"}}, 422, "invalid"),
    ("POST", "/tokens", {"json": {"name": "x\ny", "scope": "read"}}, 422, "invalid"),
    ("POST", "/tokens", {"json": {"name": "x", "scope": "read", "lifetime_days": 1e300}}, 422, "invalid"),
    ("POST", "/tokens", {"content": b'{"name": "x", "scope": "read", "lifetime_days": NaN}'}, 422, "invalid"),
    ("POST", "/tokens", {"json": {"name": "x", "scope": "read", "owner": "../x"}}, 422, "invalid"),
    ("GET", "/projects/shop/deployments?limit=0", {}, 422, "invalid"),
    ("GET", "/projects/shop/deployments?limit=many", {}, 422, "invalid"),
    ("GET", "/projects/shop/deployments?before=99999999999999999999999", {}, 422, "invalid"),
    ("GET", "/projects/shop/deployments?status=happy", {}, 422, "invalid"),
    ("GET", "/projects/shop/deployments?enviroment=staging", {}, 422, "invalid"),
    ("GET", "/projects/shop/status?environment=%00", {}, 422, "invalid"),
    ("GET", "/projects/%00", {}, 404, "not_found"),
    ("GET", "/projects/%ff", {}, 404, "not_found"),
    ("GET", "/projects/prj_" + "x" * 5000, {}, 422, "invalid"),
    ("GET", "/nowhere", {}, 404, "not_found"),
    ("PUT", "/projects/shop", {"json": {}}, 405, "method_not_allowed"),
    ("GET", "/deployments/DEPLOYMENT/events?after=-1", {}, 422, "invalid"),
    ("GET", "/deployments/DEPLOYMENT/logs?after=somewhere", {}, 422, "invalid"),
    ("GET", "/deployments/DEPLOYMENT/logs?after=1.1", {}, 422, "invalid"),
    ("GET", "/deployments/DEPLOYMENT/logs?after=999999999.999999999999999", {}, 200, ""),
]


@pytest.fixture
async def anywhere(database_url: str, tmp_path: Any) -> AsyncIterator[World]:
    """On each kind of database: what one takes and the other does not must be refused before it gets there."""
    async with world(database_url, tmp_path) as made:
        yield made


async def test_bad_input_is_refused_in_one_shape_and_changes_nothing(anywhere: World) -> None:
    """S-02 and the list of the issue; every case on SQLite and on PostgreSQL."""
    door = door_of(anywhere)
    deployment = await anywhere.deploy(await anywhere.project())
    writer = anywhere.context.logs.writer(deployment.id, 1)
    await writer.write("a line")
    await writer.close()
    async with door.client(await door.token(), raises=False) as api:
        before = await everything(anywhere)
        for method, path, request, status, code in BAD:
            answer = await _send(api, method, path.replace("DEPLOYMENT", deployment.id), dict(request))

            case = f"{method} {path} {request}"
            assert answer.status_code == status, f"{case}: {answer.status_code} {answer.text}"
            if code:
                _check_shape(answer, code, case)
            assert await everything(anywhere) == before, case


def _check_shape(answer: httpx.Response, code: str, case: str) -> None:
    assert list(answer.json()) == ["error"], case
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint", "evidence", "request_id"}, case
    assert (error["code"], error["request_id"]) == (code, answer.headers["X-Request-Id"]), case
    assert error["message"].endswith("."), case


async def _send(api: httpx.AsyncClient, method: str, path: str, request: dict[str, Any]) -> httpx.Response:
    headers = {"Content-Type": request.pop("type", "application/json")} if "content" in request else {}
    if key := request.pop("key", None):
        headers["Idempotency-Key"] = key
    return await api.request(method, API + path, headers=headers, **request)


async def test_an_unknown_field_is_named(api: httpx.AsyncClient, door: Door) -> None:
    answer = await api.post(f"{API}/projects", json={"repository": "octo/shop", "colour": "red"})

    error = answer.json()["error"]
    assert error["message"] == "There is no field 'colour' here."
    assert [each["field"] for each in error["evidence"]["fields"]] == ["colour"]


async def test_a_misspelt_parameter_never_shows_something_else(api: httpx.AsyncClient, door: Door) -> None:
    await door.world.project()

    answer = await api.get(f"{API}/projects/shop/status?enviroment=staging")

    assert answer.json()["error"]["message"] == "There is no parameter 'enviroment' here."
    assert "environment" in answer.json()["error"]["hint"]


async def test_a_wrong_value_is_never_repeated_in_the_error(api: httpx.AsyncClient, door: Door) -> None:
    """S-05: a secret sent in the wrong place does not come back, nor get into whatever logs the answer."""
    await door.world.project()

    for body in (
        {"variables": {"A": ["canary-1234"]}},
        {"variables": "canary-1234"},
        {"variables": {}, "x": "canary-1234"},
    ):
        answer = await api.put(f"{API}/projects/shop/variables", json=body)

        assert answer.status_code == 422
        assert "canary-1234" not in answer.text


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_refused_however_it_comes(here: World, announced: bool) -> None:
    """Counted as it arrives: a chunked body has no length to look at."""
    door = door_of(here, max_body_bytes=2048)
    body = json.dumps({"repository": "octo/shop", "target": "fake", "name": "x" * 4096}).encode()
    async with door.client(await door.token()) as api:
        before = await everything(here)

        answer = await api.post(
            f"{API}/projects",
            content=body if announced else _chunks(body),
            headers={"Content-Type": "application/json"},
        )

        assert ("content-length" in answer.request.headers) is announced
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert answer.json()["error"]["evidence"] == {"limit_bytes": 2048}
        assert await everything(here) == before


async def test_a_body_that_lies_about_its_length_gets_no_further_than_the_limit(here: World) -> None:
    door = door_of(here, max_body_bytes=2048)
    async with door.client(await door.token()) as api:
        answer = await api.post(
            f"{API}/projects",
            content=_chunks(b" " * 10_000),
            headers={"Content-Type": "application/json", "Content-Length": "10"},
        )

    assert answer.status_code == 413


async def test_a_body_that_says_it_is_too_large_is_not_read_at_all(here: World) -> None:
    door = door_of(here, max_body_bytes=2048)
    taken = []

    async def body() -> AsyncIterator[bytes]:
        taken.append(1)
        yield b"{}"

    headers = {"Content-Type": "application/json", "Content-Length": "4096"}
    async with door.client(await door.token()) as api:
        answer = await api.post(f"{API}/projects", content=body(), headers=headers)

    assert (answer.status_code, taken) == (413, [])


async def test_a_body_of_exactly_the_limit_is_read(here: World) -> None:
    door = door_of(here, max_body_bytes=2048)
    body = json.dumps({"repository": "octo/shop", "target": "fake"}).encode().ljust(2048)
    async with door.client(await door.token()) as api:
        answer = await api.post(f"{API}/projects", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 201


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


async def test_a_fault_of_our_own_shows_nothing_of_the_inside(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(*_: object) -> None:
        raise RuntimeError("postgresql://klepaas:hunter2@db/klepaas")

    monkeypatch.setattr(door.world.context.projects, "list", break_down)
    async with door.client(await door.token(), raises=False) as api:
        answer = await api.get(f"{API}/projects", headers={"X-Request-Id": "from-the-proxy-1"})

    assert answer.status_code == 500
    error = answer.json()["error"]
    assert (error["code"], error["request_id"]) == ("internal_error", "from-the-proxy-1")
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text


async def test_a_database_that_is_away_is_said_with_a_time_to_come_back(door: Door) -> None:
    token = await door.token()
    await door.world.database.close()
    door.world.database._reader = _Away()  # type: ignore[assignment]
    async with door.client(token, raises=False) as api:
        answer = await api.get(f"{API}/projects")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "10.1.2.3" not in answer.text


class _Away:
    def connect(self) -> Any:
        import sqlalchemy as sa

        raise sa.exc.OperationalError("SELECT 1", {}, Exception("connection to 10.1.2.3 refused"))

    async def dispose(self) -> None: ...


def test_every_error_class_has_a_status() -> None:
    for kind in _tree(KlepaasError):
        status = status_of(kind("x"))
        assert status in set(STATUSES.values())
        assert issubclass(kind, Refused) is (status < 500) or kind.code in {"image_missing", "error"}, kind
        assert not issubclass(kind, Outside) or status != 500


def _tree(kind: type[KlepaasError]) -> Iterator[type[KlepaasError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _tree(each)


async def test_answers_carry_safe_headers_and_the_id_of_their_request(api: httpx.AsyncClient) -> None:
    given = await api.get(f"{API}/version", headers={"X-Request-Id": "trace-1"})
    hostile = await api.get(f"{API}/version", headers={"X-Request-Id": "a b<script>"})

    assert given.headers["X-Request-Id"] == "trace-1"
    assert hostile.headers["X-Request-Id"].startswith("req_")
    assert given.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in given.headers["Content-Security-Policy"]
    assert given.headers["Cache-Control"] == "no-store"
