"""Child programs that die with us: no shell, an own process group, output line by line.

Every program klepaas starts (git, the docker CLI) goes through `run` or `stream`. A child leads its own
session, so that ending it ends what it started; on Linux the kernel kills it when this process dies.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 2.0
"""Between SIGTERM and SIGKILL of a process group. A guess that lets git remove its lock files."""

LINE_LIMIT_BYTES = 1024 * 1024
"""A longer output line is handed on in pieces of this size."""


@dataclass(frozen=True)
class Finished:
    """How a program ended: `exit_code` is negative when a signal ended it."""

    exit_code: int
    stdout: str
    stderr: str


async def run(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, stdin: bytes | None = None
) -> Finished:
    """Run a program to its end and return what it printed. Cancelling ends its whole process group."""
    child = await _start(argv, env=env, cwd=cwd, stderr=asyncio.subprocess.PIPE, stdin=stdin is not None)
    try:
        out, err = await child.communicate(stdin)
    finally:
        await end_group(child)
    return Finished(child.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


@contextlib.asynccontextmanager
async def stream(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None
) -> AsyncIterator[tuple[AsyncIterator[str], asyncio.subprocess.Process]]:
    """Run a program and yield its lines (stdout and stderr together) as they come, and the process.

    Leaving the block, for whatever reason, ends the whole process group."""
    child = await _start(argv, env=env, cwd=cwd, stderr=asyncio.subprocess.STDOUT, stdin=False)
    assert child.stdout is not None
    try:
        yield _lines(child.stdout), child
    finally:
        await end_group(child)


async def end_group(child: asyncio.subprocess.Process) -> None:
    """End the child and everything in its process group: first asked, then killed."""
    if child.returncode is None:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(child.wait()), GRACE_S)
    # Also after a normal end: what the program left behind in its group goes with it.
    _signal_group(child.pid, signal.SIGKILL)
    await child.wait()


async def _start(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, stderr: int, stdin: bool
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *_dying_with_us(argv),
        env=dict(env),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        limit=LINE_LIMIT_BYTES,
    )


_SETPRIV = shutil.which("setpriv")


def _dying_with_us(argv: Sequence[str]) -> list[str]:
    # setpriv (util-linux) rather than preexec_fn: Python code between fork and exec can deadlock beside threads.
    return [_SETPRIV, "--pdeathsig", "KILL", "--", *argv] if _SETPRIV else list(argv)


def _signal_group(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    while True:
        try:
            raw = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as end:
            if end.partial:
                yield end.partial.decode(errors="replace")
            return
        except asyncio.LimitOverrunError as overrun:
            raw = await reader.readexactly(overrun.consumed)
        yield raw.decode(errors="replace").rstrip("\r\n")
