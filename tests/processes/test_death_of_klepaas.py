"""R-02: a klepaas that is killed takes its children along, down to their own children."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.worlds import is_alive, pid_in, python, soon

_KLEPAAS = """
import asyncio, os, sys
from klepaas import processes
if sys.argv[2] == "without setpriv":
    processes._SETPRIV = None

async def main():
    async with processes.stream(eval(sys.argv[1]), env=dict(os.environ)) as (lines, child):
        async for line in lines:
            print(line, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["with setpriv", "without setpriv"])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
async def test_the_child_and_its_children_die_with_a_killed_klepaas(
    tmp_path: Path, how: str, ending: signal.Signals
) -> None:
    below = tmp_path / "below"
    child = python(f"p = spawn('time.sleep(600)'); print(os.getpid()); write({str(below)!r}, p.pid); time.sleep(600)")
    child[child.index("-c") :] = ["-u", *child[child.index("-c") :]]
    klepaas = subprocess.Popen(
        [sys.executable, "-c", _KLEPAAS, repr(child), how], stdout=subprocess.PIPE, start_new_session=True
    )
    assert klepaas.stdout is not None
    with klepaas, klepaas.stdout as told:
        pid = int(told.readline())
        await soon(below.exists)
        assert is_alive(pid)
        assert is_alive(pid_in(below))

        os.kill(klepaas.pid, ending)

        await soon(lambda: not is_alive(pid) and not is_alive(pid_in(below)))
