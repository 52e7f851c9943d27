"""The operator's token: shown on the first start, and made anew for who has lost it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from klepaas.client import Client


@contextmanager
def _up(home: Path, *arguments: str) -> Iterator[tuple[str, list[str]]]:
    """Its address, and every token it said before."""
    environment = {"PATH": os.environ["PATH"], "KLEPAAS_HOME": str(home), "KLEPAAS_DOCKER__HOST": "unix:///none.sock"}
    command = [sys.executable, "-m", "klepaas", "up", "--port", "0", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        try:
            assert up.stdout is not None
            said = ""
            while not (serving := re.search(r"klepaas serves at (\S+)", said)):
                line = up.stdout.readline()
                assert line, said
                said += line
            yield serving[1], re.findall(r"\bklp_\S+", said)
        finally:
            up.send_signal(signal.SIGTERM)
            up.communicate(timeout=30)


async def test_a_lost_operator_token_is_made_anew_by_who_starts_klepaas(tmp_path: Path) -> None:
    with _up(tmp_path, "--new-operator-token") as (_, first):
        pass
    with _up(tmp_path) as (_, none):
        pass
    with _up(tmp_path, "--new-operator-token") as (url, another):
        found = []
        for token in (*first, *another):
            async with Client(url, token) as client:
                found = await client.tokens()

    assert (len(first), none, len(another)) == (1, [], 1)
    assert [(token["scope"], token["name"]) for token in found] == [("operator", "operator")] * 2
