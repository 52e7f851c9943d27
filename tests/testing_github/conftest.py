"""A stand-in of this test's own, and what talks to it."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from klepaas.testing.github import StandInGitHub, StandInRepository


@pytest.fixture
def github() -> Iterator[StandInGitHub]:
    with StandInGitHub() as github:
        yield github


@pytest.fixture
def shop(github: StandInGitHub) -> StandInRepository:
    """A private repository with one commit."""
    return github.create_repository("team/shop", files={"app.py": "print(1)\n", "docs/use.md": "Use it.\n"})


@pytest.fixture
def dana(github: StandInGitHub) -> Iterator[httpx.Client]:
    """The API in the hands of a user who may do everything."""
    headers = {"authorization": f"Bearer {github.create_token('dana')}"}
    with httpx.Client(base_url=github.api_url, headers=headers) as client:
        yield client


@dataclass
class Received:
    headers: Message
    body: bytes

    @property
    def event(self) -> str:
        return str(self.headers["X-GitHub-Event"])

    @property
    def guid(self) -> str:
        return str(self.headers["X-GitHub-Delivery"])

    @property
    def payload(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """Takes webhooks; answers them with `status`."""

    url: str = ""
    status: int = 200
    received: list[Received] = field(default_factory=list)

    @property
    def events(self) -> list[str]:
        return [one.event for one in self.received]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.received.append(Received(self.headers, body))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/webhook"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()
