"""The full build logs on disk, behind `operations.ports.build_logs.BuildLogs`: `<deployment>/<fence>.log`.

Every attempt writes a file of its own, one line after its time. A position is the attempt and the byte after the
line, so that reading on is one seek however long the log is; padded, positions compare as text."""

import asyncio
import contextlib
import os
import re
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from klepaas.errors import Invalid
from klepaas.operations.ports.build_logs import LogLine
from klepaas.operations.ports.clock import Clock

log = structlog.get_logger()

FLUSH_AFTER_S = 0.1
"""A line can be read this long after it was written, at the latest."""
FLUSH_AT_BYTES = 64 * 1024
MAX_BYTES = 2**30
"""Of one attempt. What a build writes beyond it is counted and left out: 10 s of `yes` must not fill the disk."""

_BLOCK_BYTES = 64 * 1024
_DEPLOYMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_POSITION = re.compile(r"(\d{1,9})\.(\d{1,15})")
_TIME_CHARACTERS = len("2026-03-01T12:00:00.000000Z")


@dataclass(frozen=True, order=True)
class _Position:
    fence: int
    offset: int

    def __str__(self) -> str:
        return f"{self.fence:09d}.{self.offset:015d}"


class BuildLogFiles:
    """`folder` holds one folder per deployment, all private to our user."""

    def __init__(self, folder: Path, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._clock, self._max_bytes = folder, clock, max_bytes

    def writer(self, deployment_id: str, fence: int) -> "BuildLogFile":
        """Errors: Invalid for what is no deployment id."""
        return BuildLogFile(self._of(deployment_id) / f"{fence}.log", self._clock, self._max_bytes)

    async def page(self, deployment_id: str, *, after: str | None, limit: int) -> Sequence[LogLine]:
        """Complete lines of all attempts, oldest first, from right after `after` on.

        Errors: Invalid for a position that no line of a log has."""
        start = _parse(after) if after is not None else _Position(0, 0)
        return await asyncio.to_thread(_page, self._of(deployment_id), start, limit)

    async def tail(self, deployment_id: str, lines: int) -> Sequence[LogLine]:
        """The last lines, oldest first."""
        return await asyncio.to_thread(_tail, self._of(deployment_id), lines)

    def _of(self, deployment_id: str) -> Path:
        if not _DEPLOYMENT_ID.fullmatch(deployment_id):
            raise Invalid(f"{deployment_id[:80]!r} is not a deployment.", hint="An id looks like dep_1f0c….")
        return self._folder / deployment_id


class BuildLogFile:
    """Writes the log of one attempt. A disk that cannot take it costs log lines, never the build."""

    def __init__(self, path: Path, clock: Clock, max_bytes: int) -> None:
        self._path, self._clock, self._room = path, clock, max_bytes
        self._file: int | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._flushing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost_lines = 0
        self._broken_line = False

    async def write(self, line: str) -> None:
        """Have the line in the file within FLUSH_AFTER_S."""
        time = _stamp(self._clock.now())
        for each in line.split("\n"):
            stored = f"{time} {each}\n".encode(errors="backslashreplace")
            self._waiting.append(stored)
            self._waiting_bytes += len(stored)
        if self._waiting_bytes >= FLUSH_AT_BYTES:
            await asyncio.shield(self._started(self._flush()))
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, lambda: self._started(self._flush()))

    async def close(self) -> None:
        """Have every line in the file. Idempotent."""
        await asyncio.shield(self._started(self._finish()))

    def _started(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # A task of its own: a cancelled build still has its last lines in the log, in order and each once.
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        async with self._flushing:
            lines, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if lines:
                await asyncio.to_thread(self._store, lines)

    async def _finish(self) -> None:
        await self._flush()
        async with self._flushing:
            if self._lost_lines:
                with contextlib.suppress(OSError):
                    self._append(self._gap(_stamp(self._clock.now())))
                    self._lost_lines = 0
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _store(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        if self._lost_lines:
            data = self._gap(lines[0][:_TIME_CHARACTERS].decode()) + data
        if len(data) > self._room:
            self._room = 0
            self._lose(len(lines), "the log is as long as it may be")
            return
        try:
            self._append(data)
        except OSError as error:
            self._lose(len(lines), error.strerror or str(error))
        else:
            self._room -= len(data)
            self._lost_lines = 0

    def _gap(self, time: str) -> bytes:
        return f"{time} [klepaas: about {self._lost_lines} lines are missing here]\n".encode()

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file, self._broken_line = _open_private(self._path)
        if self._broken_line:
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        finally:
            if written:
                self._broken_line = data[written - 1 : written] != b"\n"

    def _lose(self, lines: int, reason: str) -> None:
        if not self._lost_lines:
            log.warning("build_log_not_written", path=str(self._path), reason=reason)
        self._lost_lines += lines


def _open_private(path: Path) -> tuple[int, bool]:
    """The file, open for appending, and whether its last line was broken off by the death of its writer."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    size = os.fstat(file).st_size
    return file, size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _parse(position: str) -> _Position:
    match = _POSITION.fullmatch(position)
    if match is None:
        raise _no_position(position)
    return _Position(int(match[1]), int(match[2]))


def _no_position(position: object) -> Invalid:
    return Invalid(f"{str(position)[:80]!r} is not a position in this log.", hint="Read it from the beginning.")


def _attempts(folder: Path) -> list[tuple[int, Path]]:
    """The files of a deployment by fence, the earliest attempt first."""
    with contextlib.suppress(FileNotFoundError):
        return sorted((int(path.stem), path) for path in folder.glob("*.log") if path.stem.isdecimal())
    return []


def _page(folder: Path, start: _Position, limit: int) -> list[LogLine]:
    found: list[LogLine] = []
    for fence, path in _attempts(folder):
        if fence >= start.fence and len(found) < limit:
            offset = start.offset if fence == start.fence else 0
            found += _lines_from(path, _Position(fence, offset), limit - len(found))
    return found


def _lines_from(path: Path, start: _Position, limit: int) -> Iterator[LogLine]:
    with path.open("rb") as file:
        if start.offset:
            file.seek(start.offset - 1)
            # Anything but the end of a line is no position we gave.
            if file.read(1) not in {b"\n", b""}:
                raise _no_position(start)
        offset = start.offset
        for _ in range(limit):
            raw = file.readline()
            if not raw.endswith(b"\n"):
                return  # its writer is not done with it
            offset += len(raw)
            yield _line(raw, _Position(start.fence, offset))


def _tail(folder: Path, limit: int) -> list[LogLine]:
    found: list[LogLine] = []
    for fence, path in reversed(_attempts(folder)):
        if len(found) < limit:
            found = [*_last_lines(path, fence, limit - len(found)), *found]
    return found


def _last_lines(path: Path, fence: int, limit: int) -> list[LogLine]:
    with path.open("rb") as file:
        offset = file.seek(0, os.SEEK_END)
        data = b""
        # One line end more than lines: the part before the first one found is no whole line.
        while offset > 0 and data.count(b"\n") <= limit:
            step = min(_BLOCK_BYTES, offset)
            offset -= step
            file.seek(offset)
            data = file.read(step) + data
    found = []
    for raw in data.split(b"\n")[:-1]:
        offset += len(raw) + 1
        found.append(_line(raw + b"\n", _Position(fence, offset)))
    return found[-limit:]


def _line(raw: bytes, position: _Position) -> LogLine:
    """A line as stored. One that lost its beginning (the disk was full) has no time."""
    time, _, text = raw[:-1].decode(errors="replace").partition(" ")
    try:
        return LogLine(position=str(position), at=datetime.fromisoformat(time), text=text)
    except ValueError:
        return LogLine(position=str(position), at=None, text=raw[:-1].decode(errors="replace"))
