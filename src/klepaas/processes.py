"""Child programs that die with us: no shell, an own process group, output line by line.

Every program klepaas starts (git, the docker CLI) goes through `run` or `stream`. A child leads its own session,
so that ending it ends what it started. Two things end a child whose klepaas was killed: on Linux the kernel kills
the program itself at once (setpriv), and the guard kills the rest of its process group.
"""

import asyncio
import codecs
import contextlib
import os
import re
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, SubprocessStreamProtocol
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from klepaas.process_guard import guard

GRACE_S = 2.0
"""Between SIGTERM and SIGKILL of a process group. A guess that lets git remove its lock files.

Also how long we listen for output after a program ended: something it started may have left its group (setsid)
and hold the pipe open for as long as it likes."""

LINE_LIMIT = 64 * 1024
"""A longer output line is handed on in pieces of about this many characters."""

OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024
"""`run` keeps no more of each output than this: the beginning of stdout, the end of stderr."""

_READ_BYTES = 64 * 1024


@dataclass(frozen=True)
class Finished:
    """How a program ended: `exit_code` is negative when a signal ended it. `truncated` when output is missing."""

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool = False


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: bytes | None = None,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
) -> Finished:
    """Run a program to its end and return what it printed. Cancelling ends its whole process group.

    Errors: FileNotFoundError when the program or `cwd` does not exist."""
    async with _started(argv, env=env, cwd=cwd, stderr=PIPE, stdin=PIPE if stdin is not None else DEVNULL) as child:
        _, (out, out_cut), (err, err_cut) = await asyncio.gather(
            child.feed(stdin),
            _keep_first(child.chunks_of(child.stdout), output_limit_bytes),
            _keep_last(child.chunks_of(child.stderr), output_limit_bytes),
        )
        exit_code = await child.wait()
    return Finished(exit_code, out.decode(errors="replace"), err.decode(errors="replace"), out_cut or err_cut)


@contextlib.asynccontextmanager
async def stream(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None
) -> AsyncIterator[tuple[AsyncIterator[str], "Child"]]:
    """Run a program and yield its lines (stdout and stderr together) as they come, and the child.

    A progress line that is rewritten in place (ended by a carriage return) is a line like any other.
    Leaving the block, for whatever reason, ends the whole process group.
    Errors: FileNotFoundError when the program or `cwd` does not exist."""
    async with _started(argv, env=env, cwd=cwd, stderr=STDOUT, stdin=DEVNULL) as child:
        yield _lines(child.chunks_of(child.stdout)), child


@contextlib.asynccontextmanager
async def piped(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, cwd: Path | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Run a program that reads `stdin` and yield the bytes of its stdout as they come; its stderr is dropped.

    Leaving the block, for whatever reason, ends the whole process group.
    Errors: FileNotFoundError when the program or `cwd` does not exist."""
    async with _started(argv, env=env, cwd=cwd, stderr=DEVNULL, stdin=PIPE) as child:
        feeding = asyncio.create_task(child.feed(stdin))
        try:
            yield _to_its_end(child)
        finally:
            feeding.cancel()


class Child(SubprocessStreamProtocol):
    """A running program. Its end is known when it ends, not when the last holder of its pipes does."""

    # asyncio's own Process.wait() waits for the pipes too, and forever when somebody else holds them or nobody
    # reads them (Python 3.11); hence a protocol of our own.

    def __init__(self) -> None:
        super().__init__(limit=_READ_BYTES, loop=asyncio.get_running_loop())
        self._exited = asyncio.Event()
        self._process: asyncio.SubprocessTransport
        self.pid: int

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._process = cast(asyncio.SubprocessTransport, transport)  # uvloop's is one in all but name
        self.pid = self._process.get_pid()
        guard.watch(self.pid)

    def process_exited(self) -> None:
        # What the program left behind in its group goes with it.
        _signal_group(self.pid, signal.SIGKILL)
        guard.forget(self.pid)
        self._exited.set()
        super().process_exited()

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.get_returncode()

    async def wait(self) -> int:
        await self._exited.wait()
        return self._process.get_returncode() or 0

    async def feed(self, data: bytes | None) -> None:
        """Write all of the program's input. A program that does not want it is no error."""
        if self.stdin is None or data is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.stdin.write(data)
            await self.stdin.drain()
        self.stdin.close()

    async def chunks_of(self, reader: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
        """The program's output as it comes, to the end of it or of the program."""
        while reader is not None:
            try:
                async with asyncio.timeout(GRACE_S):
                    chunk = await reader.read(_READ_BYTES)
            except TimeoutError:
                if self._exited.is_set():
                    return
                continue
            if not chunk:
                return
            yield chunk

    async def end(self) -> None:
        """End the program and everything in its process group: first asked, then killed.

        Cancelling this does not stop it: the group is killed at once then."""
        try:
            if not self._exited.is_set():
                _signal_group(self.pid, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GRACE_S):
                        await self._exited.wait()
        finally:
            if not self._exited.is_set():
                _signal_group(self.pid, signal.SIGKILL)
                try:
                    await self._exited.wait()
                finally:
                    self._process.close()
            self._process.close()


@contextlib.asynccontextmanager
async def _started(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, stderr: int, stdin: int
) -> AsyncIterator[Child]:
    loop = asyncio.get_running_loop()
    _, child = await loop.subprocess_exec(
        Child,
        *_dying_with_us(argv, env),
        env=dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        await child.end()


_SETPRIV = shutil.which("setpriv")


def _dying_with_us(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    # Looked up here, because behind setpriv a missing program would only be an exit code.
    program = shutil.which(argv[0], path=env.get("PATH", os.defpath))
    if program is None:
        raise FileNotFoundError(2, "No such program", argv[0])
    # setpriv (util-linux) rather than preexec_fn: Python code between fork and exec can deadlock beside threads.
    prefix = [_SETPRIV, "--pdeathsig", "KILL", "--"] if _SETPRIV else []
    return [*prefix, program, *argv[1:]]


def _signal_group(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


async def _to_its_end(child: Child) -> AsyncIterator[bytes]:
    async for chunk in child.chunks_of(child.stdout):
        yield chunk
    # A program that closed its output may still have work to do.
    await child.wait()


async def _keep_first(chunks: AsyncIterator[bytes], limit: int) -> tuple[bytes, bool]:
    kept = bytearray()
    cut = False
    async for chunk in chunks:
        cut = cut or len(kept) + len(chunk) > limit
        kept += chunk[: limit - len(kept)]
    return bytes(kept), cut


async def _keep_last(chunks: AsyncIterator[bytes], limit: int) -> tuple[bytes, bool]:
    kept: deque[bytes] = deque()
    size, cut = 0, False
    async for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        while size - len(kept[0]) >= limit:
            size -= len(kept.popleft())
            cut = True
    joined = b"".join(kept)
    return joined[-limit:], cut or len(joined) > limit


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    splitter = LineSplitter()
    async for chunk in chunks:
        for line in splitter.feed(chunk):
            yield line
    for line in splitter.feed(b"", final=True):
        yield line


class LineSplitter:
    """Makes lines of bytes that arrive in any pieces. A line ends with \\n, \\r\\n or \\r."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> list[str]:
        """The lines that are complete now; all that is left when `final`."""
        text = self._rest + self._decoder.decode(data, final)
        # A last \r may be half of a \r\n: it waits for the next piece.
        ready = len(text) - (not final and text.endswith("\r"))
        pieces = re.split(r"(\r\n|\n|\r)", text[:ready])
        # Nothing before a lone \r: programs return twice before they rewrite a progress line.
        lines = [line for line, end in zip(pieces[::2], pieces[1::2], strict=False) if line or end != "\r"]
        self._rest = pieces[-1] + text[ready:]
        while len(self._rest) > LINE_LIMIT or (final and self._rest):
            lines.append(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]
        return lines
