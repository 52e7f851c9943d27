"""One stage of a deployment under its deadline: it ends, fails, is cancelled or runs out of time. It never hangs."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from klepaas.errors import DeadlinePassed, Unavailable
from klepaas.workflows.engine import Run

T = TypeVar("T")

LET_GO_S = 3.0
"""How long work may take to end after it was told to. Together with the deadline it stays below deadline + 5 s."""


class Interrupted(Exception):
    """The cancellation of the deployment was requested."""


async def within(run: Run, deadline: timedelta, work: Awaitable[T], *, too_late: str) -> T:
    """The result of `work`. Errors: its own; DeadlinePassed, saying what is `too_late`; Interrupted when cancellation
    is requested.

    Work that ignores its cancellation is left behind after LET_GO_S: a hanging call cannot hold the deployment."""
    task = asyncio.ensure_future(work)
    interruption = asyncio.ensure_future(run.interrupted.wait())
    try:
        await asyncio.wait({task, interruption}, timeout=deadline.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if interruption.done():
            raise Interrupted
        raise DeadlinePassed(
            too_late,
            hint="Look at its log; the operator can raise the deadline (KLEPAAS_DEADLINES__…=20m).",
        )
    finally:
        interruption.cancel()
        await _end(task)


async def _end(task: "asyncio.Future[T]") -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=LET_GO_S)


async def together(*halves: Awaitable[object]) -> None:
    """Do all of it at once. The first half that fails ends the others; its error is raised once they have ended, so
    that nothing goes on behind the back of whoever undoes the stage."""
    tasks = [asyncio.ensure_future(half) for half in halves]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def persistently(
    work: Callable[[], Awaitable[T]],
    *,
    tries: int | None,
    first_rest_s: float,
    longest_rest_s: float,
    on_retry: Callable[[int, float, Unavailable], Awaitable[None]],
) -> T:
    """Repeat what the outside could not do just now, resting longer each time, with jitter. `tries` None: until
    the deadline around it. Only for work that is safe to repeat."""
    attempt = 0
    while True:
        try:
            return await work()
        except Unavailable as away:
            attempt += 1
            if tries is not None and attempt >= tries:
                raise
            rest = min(first_rest_s * 2 ** (attempt - 1), longest_rest_s) * random.uniform(0.75, 1.25)
            if away.retry_after is not None:
                rest = max(rest, away.retry_after.total_seconds())
            await on_retry(attempt, rest, away)
            await asyncio.sleep(rest)
