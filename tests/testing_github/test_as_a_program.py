"""The stand-in in a process of its own, steered by `/_control`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.testing_github.conftest import Receiver


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "klepaas.testing.github", "--port", "0", "--folder", str(tmp_path / "repos")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        yield program
        if program.poll() is None:
            program.kill()


def about(program: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert program.stdout is not None
    found: dict[str, Any] = json.loads(program.stdout.readline())
    return found


def test_it_says_where_it_is_and_does_what_it_is_told(program: subprocess.Popen[bytes], receiver: Receiver) -> None:
    said = about(program)

    def do(call: str, repository: str = "", **arguments: Any) -> Any:
        body = {"call": call, "repository": repository, "arguments": arguments}
        answer = httpx.post(said["control"], json=body)
        assert 200 == answer.status_code, answer.text
        return answer.json()["result"]

    made = do("create_repository", full_name="team/shop", files={"a.txt": "1"})
    do("install", owner="team")
    do("send_webhooks_to", url=receiver.url)
    sha = do("commit", "team/shop", files={"a.txt": "2"})
    token = do("create_token", user="dana")
    do("wait_for_webhooks")
    httpx.post(said["control"], json={"faults": {"requests": [{"kind": "error", "times": 1, "status": 500}]}})
    asked = [
        httpx.get(f"{said['api_url']}/repos/team/shop/branches/main", headers={"authorization": f"Bearer {token}"})
        for _ in range(2)
    ]

    assert [500, 200] == [answer.status_code for answer in asked]
    assert sha == asked[1].json()["commit"]["sha"] == receiver.received[0].payload["after"]
    state = httpx.get(said["control"]).json()
    assert {"team/shop": made["id"]} == state["repositories"]
    assert ["push"] == [delivery["event"] for delivery in state["deliveries"]]
    assert 400 == httpx.post(said["control"], json={"call": "stop"}).status_code


def test_it_ends_with_its_parent(program: subprocess.Popen[bytes]) -> None:
    about(program)
    assert program.stdin is not None

    program.stdin.close()

    assert 0 == program.wait(20)


def test_it_leaves_nothing_behind_when_it_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "klepaas.testing.github", "--stay"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env) as program:
        about(program)
        before = list(tmp_path.iterdir())
        program.terminate()

        assert 0 == program.wait(20)
    assert 1 == len(before)
    assert [] == list(tmp_path.iterdir())
