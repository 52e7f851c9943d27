"""S-05: the operator's log holds no secret, whichever way it gets there."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from klepaas import logs
from tests.interfaces.api.doors import Door

CANARIES = {
    "our token": "klp_0123456789abcdef_c4n4ryc4n4ryc4n4ry",
    "github": "ghp_c4n4ryc4n4ryc4n4ryc4n4ry",
    "url": "https://bot:c4n4ryc4n4ry@git.example.org/x.git",
    "header": "Authorization: Bearer c4n4ryc4n4ryc4n4ry",
    "basic": "basic Ym90OmM0bjRyeWM0bjRyeQc4n4ry",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjNG40cnkifQ.c4n4ryc4n4ry",
    "key": "-----BEGIN RSA PRIVATE KEY-----\nc4n4ryc4n4ry\n-----END RSA PRIVATE KEY-----",
    "database": "postgresql+psycopg://klepaas:c4n4ryc4n4ry@db/klepaas",
}


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    stream = io.StringIO()
    logs.configure(format="json", level="debug", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(logging.WARNING)
    structlog.reset_defaults()


@pytest.mark.parametrize("text", CANARIES.values(), ids=CANARIES)
@pytest.mark.parametrize("style", ["json", "console"])
def test_a_secret_is_hidden_in_messages_fields_and_tracebacks(style: Any, text: str, written: io.StringIO) -> None:
    logs.configure(format=style, level="debug", stream=written)
    log = structlog.get_logger()

    log.info("it_happened", detail=text, deep={"list": [f"x {text} y"]}, raw=text.encode())
    logging.getLogger("a.library").warning("it said %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("it_broke")
        logging.getLogger("a.library").exception("it broke")

    assert written.getvalue().count("it_broke") == 1
    assert "ValueError" in written.getvalue()
    assert "c4n4ry" not in written.getvalue()


@pytest.mark.parametrize(
    "name", ["password", "token", "api_key", "Authorization", "secret_hash", "db.password", "variables"]
)
def test_a_field_with_a_secret_name_is_hidden_whatever_it_holds(name: str, written: io.StringIO) -> None:
    structlog.get_logger().info("it_happened", **{name: {"inner": "plain words"}}, nested={name: "plain words"})

    assert "plain words" not in written.getvalue()


def test_facts_stay_readable(written: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(deployment_id="dep_1"):
        structlog.get_logger().info("stage_finished", stage="build", took_s=41.2, tokens=3, url="https://example.org/x")

    line = json.loads(written.getvalue())
    assert (line["event"], line["stage"], line["took_s"], line["deployment_id"]) == (
        "stage_finished",
        "build",
        41.2,
        "dep_1",
    )
    assert (line["url"], line["level"], line["tokens"]) == ("https://example.org/x", "info", 3)


def test_a_line_break_in_a_value_makes_no_second_line(written: io.StringIO) -> None:
    structlog.get_logger().info("it_happened", note='x\n{"event": "forged"}')

    assert len(written.getvalue().splitlines()) == 1


async def test_a_request_is_one_line_without_its_secrets(written: io.StringIO, door: Door) -> None:
    token = await door.token()
    logs.configure(format="json", level="debug", stream=written)
    async with door.client(token) as api:
        await api.get("/api/v1/projects/c4n4ry?environment=c4n4ry", headers={"X-Request-Id": "trace-1"})

    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) == 1
    assert (requests[0]["route"], requests[0]["status"]) == ("/api/v1/projects/{project}", 422)
    assert requests[0]["request_id"] == "trace-1"
    assert token not in written.getvalue()
    assert "c4n4ry" not in written.getvalue()
