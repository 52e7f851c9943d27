"""Starting a run that is in the book: once, whatever crashes and whichever answer is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta

from klepaas.errors import AnswerLost, Conflict, KlepaasError
from klepaas.operations.ports.provider_runs import ProviderRun, ProviderRuns
from klepaas.targets.ncp.run import Run, Started
from klepaas.targets.protocol import Reached

Start = Callable[[Collection[str]], Awaitable[Started]]
"""Given the ids of the history from before."""
REST_S = 2.0
GIVEN_UP_SHOWS_WITHIN = timedelta(seconds=10)
"""Less than whoever gives a deployment up has patience for."""


async def begun(
    book: ProviderRuns,
    run: ProviderRun,
    start: Start,
    runs: Callable[[], Awaitable[Sequence[Run]]],
    *,
    was_noted_before: bool,
    appears_within: timedelta,
    now: Callable[[], datetime],
    reached: Reached,
) -> ProviderRun:
    """The run with its id. `was_noted_before`: an earlier life, or an earlier try, may have started it already; then
    nothing is started before its history had the time to show it.

    Errors: those of `start`. After an AnswerLost the book keeps it: call again. After any other it was not started."""
    if run.run_id is not None:
        return run
    if was_noted_before and (found := await _appeared(run, runs, run.noted_at + appears_within, now)) is not None:
        return await book.began(run, found)
    try:
        started = await start(run.known)
    except (AnswerLost, Conflict):
        raise
    except KlepaasError:
        await book.forget(run)
        raise
    await reached(f"{run.kind}_run.started")  # `build.started` is the stage's
    return await book.began(run, started.id)


async def given_up(
    book: ProviderRuns,
    run: ProviderRun,
    runs: Callable[[], Awaitable[Sequence[Run]]],
    *,
    appears_within: timedelta,
    now: Callable[[], datetime],
) -> ProviderRun:
    """A run of a deployment that was given up, with its id: given up in the middle of starting it, only its history
    tells whether it was started. Without one when it does not show in time."""
    if run.run_id is not None:
        return run
    until = min(run.noted_at + appears_within, now() + GIVEN_UP_SHOWS_WITHIN)
    run_id = await _appeared(run, runs, until, now)
    return run if run_id is None else await book.began(run, run_id)


async def _appeared(
    run: ProviderRun,
    runs: Callable[[], Awaitable[Sequence[Run]]],
    until: datetime,
    now: Callable[[], datetime],
) -> str | None:
    """The id of a run that may have been started, once its history shows one; None when it shows none until then, or
    several."""
    while True:
        new = [each.id for each in await runs() if each.id not in run.known]
        if len(new) == 1:
            return new[0]
        # Several are for `start_once` to tell apart, or to refuse.
        if new or now() >= until:
            return None
        await asyncio.sleep(min(REST_S, max((until - now()).total_seconds(), 0.01)))
