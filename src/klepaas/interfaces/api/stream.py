"""Server-Sent Events: events of a deployment, lines of a build log, lines of a running app.

A stream replays from where the caller left off and then follows. It ends when there is nothing more to come, soon
after the caller's token was revoked, and when the database cannot be asked: then the caller comes back with the last
id."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import structlog
from pydantic_core import to_json
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from klepaas.errors import Invalid, KlepaasError, NotFound, Unavailable
from klepaas.interfaces.api.door import Door, Pass
from klepaas.interfaces.api.errors import fields_of
from klepaas.interfaces.api.v1.answers.events import event_fields
from klepaas.operations import queries
from klepaas.operations.ports.build_logs import LogLine
from klepaas.operations.ports.chains import Tell

log = structlog.get_logger()

LARGEST_SEQ = 2**53
"""Beyond this, JSON numbers lose digits in browsers."""

RUNTIME_LOOK_EVERY_S = 1.0
"""Targets tell their last lines, not their next: a follower looks again this often."""

RUNTIME_WINDOW = 1000
"""Lines looked at each time; an app that writes more between two looks leaves a gap, and the stream says so."""

T = TypeVar("T")


def respond(door: Door, admission: Pass, frames: AsyncGenerator[bytes, None]) -> EventSourceResponse:
    """The response that sends these frames, and a comment every `keep_alive` so that nobody takes it for dead."""
    return _Admitted(
        admission,
        _counted(door, frames),
        ping=door.settings.keep_alive.total_seconds(),
        ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
        sep="\n",
    )


def last_seq(last_event_id: str | None, after: int) -> int:
    """Where to go on: the browser's Last-Event-ID before the address it first came with. Errors: Invalid."""
    if last_event_id is None:
        return after
    if not (last_event_id.isascii() and last_event_id.isdigit()) or not 0 <= int(last_event_id[:20]) <= LARGEST_SEQ:
        raise Invalid(
            f"The Last-Event-ID {last_event_id[:80]!r} is not the number of an event.",
            hint="Send the id of the last event you got, or none to begin at the start.",
        )
    return int(last_event_id)


async def events(door: Door, deployment_id: str, *, after: int) -> AsyncGenerator[bytes, None]:
    async with _closing(queries.follow(door.context, deployment_id, after=after)) as recorded:
        async for each in recorded:
            yield _frame(event_fields(each), event=each.event.kind, id=str(each.seq))


async def build_log(door: Door, deployment_id: str, *, after: str | None) -> AsyncGenerator[bytes, None]:
    async with _closing(queries.follow_build_log(door.context, deployment_id, after=after)) as batches:
        async for lines in batches:
            yield b"".join(_line_frames(lines))
    yield _frame({}, event="end")


async def runtime_log(look: Callable[[int], Awaitable[Sequence[str]]], *, lines: int) -> AsyncGenerator[bytes, None]:
    """`look` tells the last so many lines. The first look gives `lines` of them, the next ones only what is new."""
    seen: Sequence[str] = await look(max(lines, RUNTIME_WINDOW))
    yield b"".join(_frame({"text": text}, event="line") for text in seen[-lines:])
    while True:
        await asyncio.sleep(RUNTIME_LOOK_EVERY_S)
        try:
            now = await look(RUNTIME_WINDOW)
        except NotFound:
            yield _frame({}, event="end")
            return
        except Unavailable:
            continue
        new, gap = new_lines(seen, now, window=RUNTIME_WINDOW)
        seen = now
        if gap:
            yield _frame({}, event="gap")
        if new:
            yield b"".join(_frame({"text": text}, event="line") for text in new)


async def progress(
    work: Callable[[Tell], Awaitable[T]], shown: Callable[[T], dict[str, Any]]
) -> AsyncGenerator[bytes, None]:
    """Frames of work that tells sentences: `change` for each, then `end` with its result, or `error`.

    What it refuses with before the first sentence is raised here, so that it has a status of its own. Whoever goes
    away ends the work."""
    told: asyncio.Queue[str | None] = asyncio.Queue()  # None: the work is over
    doing = asyncio.ensure_future(work(told.put))
    doing.add_done_callback(lambda _: told.put_nowait(None))
    try:
        first = await told.get()
        if first is None:
            doing.result()
    except asyncio.CancelledError:
        doing.cancel()
        raise
    return _told(doing, first, told, shown)


async def _told(
    doing: "asyncio.Future[T]",
    text: str | None,
    told: "asyncio.Queue[str | None]",
    shown: Callable[[T], dict[str, Any]],
) -> AsyncGenerator[bytes, None]:
    try:
        while text is not None:
            yield _frame({"text": text}, event="change")
            text = await told.get()
        try:
            yield _frame(shown(doing.result()), event="end")
        except KlepaasError as error:
            yield _frame(fields_of(error), event="error")
    finally:
        doing.cancel()


def new_lines(before: Sequence[str], now: Sequence[str], *, window: int) -> tuple[Sequence[str], bool]:
    """The lines of `now` that were not in `before`, and whether lines between them may be missing.

    Both are the last lines of a log that only grows: the longest end of `before` that `now` begins with is what
    both have in common. When nothing is in common, the log is another one (a new release) or ran too far."""
    before = before[-window:]
    for common in range(min(len(before), len(now)), 0, -1):
        if before[len(before) - common] == now[0] and list(before[-common:]) == list(now[:common]):
            return now[common:], False
    return now, bool(before) and len(now) >= window


def _line_frames(lines: Iterable[LogLine]) -> Iterable[bytes]:
    for line in lines:
        yield _frame({"position": line.position, "at": line.at, "text": line.text}, event="line", id=line.position)


def _frame(data: dict[str, Any], *, event: str, id: str | None = None) -> bytes:  # noqa: A002  the protocol's word
    """One event of the stream. JSON escapes line ends, so the data is one line whatever it holds."""
    head = f"event: {event}\n" if id is None else f"id: {id}\nevent: {event}\n"
    return b"".join((head.encode(), b"data: ", to_json(data, inf_nan_mode="null", fallback=str), b"\n\n"))


class _Admitted(EventSourceResponse):
    """A stream that ends with the token it came in with."""

    def __init__(self, admission: Pass, frames: AsyncGenerator[bytes, None], **how: Any) -> None:
        super().__init__(frames, **how)
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._admission.stay():
            await super().__call__(scope, receive, send)


async def _counted(door: Door, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    with door.metrics.streams.track_inprogress():
        async with aclosing(frames):
            try:
                async for frame in frames:
                    yield frame
            except Unavailable as error:
                log.warning("stream_interrupted", reason=error.message)


@asynccontextmanager
async def _closing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Have an iterator clean up when its consumer goes away, not when the garbage collector comes by."""
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
