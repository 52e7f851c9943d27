"""Looking at the runs of many projects: one poller for each service, which everybody who waits shares.

A project's history is read once for all who wait for it, and who has waited longest is next. With few of them each is
looked at every few seconds; with many, as often as the budget lets us: nobody is asked more, only later."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from klepaas.errors import KlepaasError, Unavailable
from klepaas.targets.ncp.run import Run

AT_ONCE = 4
"""Reads under way: the service may be slow, and the budget is per minute."""
FIRST_S = 2.0
"""After a run was started: it is not in the history before that."""

PLACES_LAST_S = 3600.0

Read = Callable[[int], Awaitable[Sequence[Run]]]


@dataclass
class _Watched:
    due: float
    waiting: list["asyncio.Future[Sequence[Run]]"] = field(default_factory=list)


class Observer:
    """Of one service and account. Works only while somebody waits; `close` ends it."""

    def __init__(
        self,
        read: Read,
        *,
        every_s: float,
        first_s: float = FIRST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` reads the history of a project within the budget."""
        self._read, self._every_s, self._first_s, self._clock = read, every_s, min(first_s, every_s), clock
        self._watched: dict[int, _Watched] = {}
        self._looked_at: dict[int, float] = {}
        self._places: dict[int, float] = {}
        """Of those who went away before their turn: they come back to where they stood."""
        self._reading: set[asyncio.Task[None]] = set()
        self._rests_until = 0.0
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    async def look(self, project_id: int) -> Sequence[Run]:
        """The runs of a project as the next look sees them. Errors: those of reading."""
        watched = self._watched.get(project_id)
        if watched is None:
            watched = self._watched[project_id] = _Watched(self._due(project_id))
        told: asyncio.Future[Sequence[Run]] = asyncio.get_running_loop().create_future()
        watched.waiting.append(told)
        self._changed.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        try:
            return await told
        finally:
            self._leave(project_id, watched, told)

    async def close(self) -> None:
        tasks = [task for task in (self._loop, *self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _due(self, project_id: int) -> float:
        """Soon when nobody has looked lately, else one interval after the last look."""
        now = self._clock()
        usual = max(now + self._first_s, self._looked_at.pop(project_id, 0.0) + self._every_s)
        return min(usual, self._places.pop(project_id, usual))

    def _leave(self, project_id: int, watched: _Watched, told: "asyncio.Future[Sequence[Run]]") -> None:
        with suppress(ValueError):
            watched.waiting.remove(told)
        if not watched.waiting and self._watched.get(project_id) is watched:
            del self._watched[project_id]
            self._places[project_id] = watched.due

    async def _run(self) -> None:
        while self._watched or self._reading:
            self._changed.clear()
            wait_s = self._rests_until - self._clock()
            if wait_s <= 0 and len(self._reading) < AT_ONCE and self._watched:
                project_id = min(self._watched, key=lambda each: self._watched[each].due)
                wait_s = self._watched[project_id].due - self._clock()
                if wait_s <= 0:
                    self._begin(project_id, self._watched.pop(project_id))
                    continue
            elif wait_s <= 0:
                wait_s = self._every_s
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    def _begin(self, project_id: int, watched: _Watched) -> None:
        task = asyncio.create_task(self._tell(project_id, watched))
        self._reading.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._reading.discard(task)
        self._changed.set()

    async def _tell(self, project_id: int, watched: _Watched) -> None:
        try:
            found = await self._read(project_id)
        except KlepaasError as fault:
            if isinstance(fault, Unavailable) and fault.retry_after is not None:
                self._rests_until = max(self._rests_until, self._clock() + fault.retry_after.total_seconds())
            for told in watched.waiting:
                if not told.done():
                    told.set_exception(fault)
            return
        except BaseException:
            for told in watched.waiting:
                told.cancel()
            raise
        finally:
            self._looked_at[project_id] = self._clock()
            self._forget_old()
        for told in watched.waiting:
            if not told.done():
                told.set_result(found)

    def _forget_old(self) -> None:
        """Only what is younger than an interval matters, and places that somebody may still come back to."""
        many, now = 2 * len(self._watched) + 100, self._clock()
        if len(self._looked_at) > many:
            self._looked_at = {each: at for each, at in self._looked_at.items() if at > now - self._every_s}
        if len(self._places) > many:
            self._places = {each: due for each, due in self._places.items() if due > now - PLACES_LAST_S}
