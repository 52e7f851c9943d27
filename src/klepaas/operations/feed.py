"""News of deployments for those who watch them: one reader per watched deployment, however many watch.

The database is the truth: a bell (`tell`) only shortens the wait until the next look, so what another process
wrote arrives as well, and a lost bell costs at most one interval."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from klepaas.domain.events import Recorded
from klepaas.errors import Unavailable
from klepaas.operations.ports.deployments import Deployments

LOOK_EVERY_S = 0.5
"""How late an event written by another process may arrive."""


class _Watched:
    """The events of one deployment in memory, growing, while anybody watches."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.ended = False
        self.watchers = 0
        self.rung = asyncio.Event()
        self.changed = asyncio.Condition()
        self.reader: asyncio.Task[None] | None = None


class LiveFeed:
    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._watched: dict[str, _Watched] = {}
        self._stirred = asyncio.Event()

    def tell(self, deployment_id: str) -> None:
        self._stirred.set()
        if watched := self._watched.get(deployment_id):
            watched.rung.set()

    async def events(self, deployment_id: str, *, after: int) -> AsyncIterator[Recorded]:
        """Every event with a number above `after`, once and in order; ends after the terminal one."""
        watched = self._enter(deployment_id)
        try:
            place = 0
            while True:
                while place < len(watched.events):
                    event = watched.events[place]
                    place += 1
                    if event.seq > after:
                        yield event
                if watched.ended:
                    return
                async with watched.changed:
                    if place == len(watched.events) and not watched.ended:
                        await watched.changed.wait()
        finally:
            self._leave(deployment_id, watched)

    async def news(self, deployment_id: str) -> AsyncIterator[None]:
        """Yields at once and then whenever something may have happened, at least every LOOK_EVERY_S."""
        while True:
            yield
            watched = self._watched.get(deployment_id)
            if watched is None:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            async with watched.changed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await watched.changed.wait()

    async def stirred(self, *, within_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._stirred.wait()
        self._stirred.clear()

    def _enter(self, deployment_id: str) -> _Watched:
        watched = self._watched.get(deployment_id)
        if watched is None:
            watched = self._watched[deployment_id] = _Watched()
            watched.reader = asyncio.create_task(self._read(deployment_id, watched))
        watched.watchers += 1
        return watched

    def _leave(self, deployment_id: str, watched: _Watched) -> None:
        watched.watchers -= 1
        if watched.watchers == 0:
            self._watched.pop(deployment_id, None)
            if watched.reader is not None:
                watched.reader.cancel()

    async def _read(self, deployment_id: str, watched: _Watched) -> None:
        while not watched.ended:
            watched.rung.clear()
            with suppress(Unavailable):  # the database is away: look again
                await self._take_in(deployment_id, watched)
            if not watched.ended:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await watched.rung.wait()

    async def _take_in(self, deployment_id: str, watched: _Watched) -> None:
        last = watched.events[-1].seq if watched.events else 0
        new = await self._deployments.events(deployment_id, after=last)
        if not new:
            return
        async with watched.changed:
            watched.events.extend(new)
            watched.ended = any(each.event.leads_to is not None and each.event.leads_to.is_terminal for each in new)
            watched.changed.notify_all()
