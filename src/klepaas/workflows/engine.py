"""The durable engine: the deployment row is the workflow.

A node claims deployments, carries each through its remaining steps and writes every step's end and its events in
one fenced transaction. A node that stops renewing its lease loses its work to another one, which goes on at the
step that was reached. Nothing here knows what a step does (`carry`) or how rows are kept (`Queue`)."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import structlog

from klepaas.domain.deployment import Deployment
from klepaas.domain.events import Event
from klepaas.errors import Unavailable
from klepaas.operations.ports.feed import Feed
from klepaas.operations.ports.queue import Lost, Queue
from klepaas.settings import EngineSettings
from klepaas.targets.protocol import Reached

log = structlog.get_logger()

T = TypeVar("T")

LONGEST_PAUSE_S = 2.0
"""Between two tries to reach the database."""

PRACTICALLY_FOREVER = timedelta(days=3650)
"""The lease where one process is all there is (SQLite): nobody else could take over."""


class Run:
    """One deployment in the hands of this node. `interrupted` is set when its cancellation was requested."""

    def __init__(self, engine: "Engine", deployment: Deployment) -> None:
        self._engine = engine
        self.deployment = deployment
        self.interrupted = asyncio.Event()

    async def record(self, *events: Event) -> None:
        """Append events to the history and write the new state. Errors: Lost when it is another node's now."""
        self.deployment = await self._engine.advance(self.deployment, events)
        self.obey_cancellation()

    def obey_cancellation(self, *, asked: bool = False) -> None:
        """Interrupt the work when its cancellation was requested, unless it is live: then it is too late."""
        if (asked or self.deployment.cancelled_by is not None) and self.deployment.live_at is None:
            self.interrupted.set()

    async def look_again_in(self, rest: timedelta) -> None:
        """Let go of the row; whichever node is free looks at it again after the rest."""
        await self._engine.let_go(self.deployment.id, rest)


Carry = Callable[[Run], Awaitable[None]]


class Engine:
    """Serves until cancelled. Raises Lost when this node's own lease ran out; then start anew under a new id."""

    def __init__(
        self, queue: Queue, carry: Carry, feed: Feed, settings: EngineSettings, *, reached: Reached, alone: bool
    ) -> None:
        self.node = "node_" + secrets.token_hex(6)
        self._queue, self._carry, self._feed, self._settings, self._reached = queue, carry, feed, settings, reached
        self._lease = PRACTICALLY_FOREVER if alone else settings.lease
        self._running: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._claiming = asyncio.Lock()
        self.renewed_at = _boottime()

    # What operations ask of a Runner.

    def wake(self) -> None:
        self._wake.set()

    def interrupt(self, deployment_id: str) -> None:
        if found := self._running.get(deployment_id):
            found[0].obey_cancellation(asked=True)

    @property
    def in_hand(self) -> frozenset[str]:
        """Ids of the deployments this node works on now."""
        return frozenset(self._running)

    # Serving.

    async def run(self) -> None:
        await self._patiently(lambda: self._queue.join(self.node, self._lease.total_seconds()))
        self.renewed_at = _boottime()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._every_beat(self._renew))
                group.create_task(self._every_beat(self._tend))
                while True:
                    await self._take_on(group)
        except* Lost as lost:
            raise Lost(self.node) from lost

    async def leave(self) -> None:
        """Give this node's work away at once instead of letting its lease run out."""
        await self._queue.leave(self.node)

    async def _take_on(self, group: asyncio.TaskGroup) -> None:
        self._wake.clear()
        async with self._claiming:
            room = self._settings.capacity - len(self._running)
            for deployment in await self._patiently(lambda: self._queue.claim(self.node, room)):
                run = Run(self, deployment)
                run.obey_cancellation()
                self._feed.tell(deployment.id)
                task = group.create_task(self._drive(run))
                self._running[deployment.id] = (run, task)
                task.add_done_callback(lambda _, gone=deployment.id: self._forget(gone))  # type: ignore[misc]
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the wake.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll.total_seconds()):
                await self._wake.wait()

    def _forget(self, deployment_id: str) -> None:
        self._running.pop(deployment_id, None)
        self._wake.set()

    async def _drive(self, run: Run) -> None:
        await self._reached("claimed")
        with structlog.contextvars.bound_contextvars(deployment_id=run.deployment.id):
            try:
                await self._carry(run)
            except Lost:
                log.info("deployment_lost", node=self.node)
            except Unavailable as away:
                # The database stayed away for longer than our patience: the row is still ours or somebody's.
                log.warning("deployment_put_down", reason=away.message)
                await self._put_down(run)
            except Exception:
                # A fault of ours outside any step. Put down, it is looked at again; `attempts` ends a poisoned one.
                log.exception("deployment_put_down")
                await self._put_down(run)

    async def _put_down(self, run: Run) -> None:
        with suppress(Unavailable):  # then `_tend` lets go of it: a row that is ours and not run
            await self.let_go(run.deployment.id, timedelta(seconds=1))

    # Writing.

    async def advance(self, deployment: Deployment, events: tuple[Event, ...]) -> Deployment:
        after = await self._patiently(lambda: self._queue.advance(deployment, self.node, events))
        self._feed.tell(deployment.id)
        return after

    async def let_go(self, deployment_id: str, rest: timedelta) -> None:
        await self._patiently(lambda: self._queue.let_go(deployment_id, self.node, rest.total_seconds()))

    # The lease.

    async def _renew(self) -> None:
        at = _boottime()
        if not await self._patiently(lambda: self._queue.renew(self.node, self._lease.total_seconds())):
            raise Lost(self.node)
        self.renewed_at = at

    async def _tend(self) -> None:
        """Obey cancellations asked of other processes; let go of rows owned but not run (a lost claim answer)."""
        async with self._claiming:
            owned = await self._patiently(lambda: self._queue.owned(self.node))
            for deployment_id, cancelled in owned.items():
                if deployment_id not in self._running:
                    await self.let_go(deployment_id, timedelta(0))
                elif cancelled:
                    self.interrupt(deployment_id)

    async def _every_beat(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._settings.beat.total_seconds())
            await work()

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeat while the database is away, for as long as the lease lets us."""
        pause = 0.1
        while True:
            try:
                return await work()
            except Unavailable as away:
                if _boottime() - self.renewed_at > self._lease.total_seconds():
                    raise Lost(self.node) from away
                log.warning("database_away", reason=away.message)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)


def _boottime() -> float:
    # Counts while the machine sleeps, unlike the monotonic clock: a lease runs on meanwhile. Linux only.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
