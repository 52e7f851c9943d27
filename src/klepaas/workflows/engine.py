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
from klepaas.domain.status import Status
from klepaas.errors import Unavailable
from klepaas.operations.ports.deployments import Submission
from klepaas.operations.ports.feed import Feed
from klepaas.operations.ports.queue import Lost, Queue
from klepaas.operations.ports.runner import Submit
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
        self._one_after_another = asyncio.Lock()
        """Two halves of a stage may have something to tell at once."""
        self._recording: set[asyncio.Task[None]] = set()

    async def record(self, *events: Event) -> None:
        """Append events to the history and write the new state. Once begun it ends, also when its caller is cancelled:
        else nobody would know what was written.

        Errors: Lost when it is another node's now, or has ended: work that was left behind has nothing more to say."""
        task = asyncio.create_task(self._record(events))
        self._recording.add(task)
        task.add_done_callback(self._recorded)
        await asyncio.shield(task)
        self.obey_cancellation()

    async def _record(self, events: tuple[Event, ...]) -> None:
        async with self._one_after_another:
            if self.deployment.status.is_terminal:
                raise Lost(self.deployment.id)
            self.deployment = await self._engine.advance(self.deployment, events)

    def _recorded(self, task: asyncio.Task[None]) -> None:
        self._recording.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever still waits; who does not finds out with its next record

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
        self._running: dict[str, Run] = {}
        self._begun: asyncio.Queue[Run] = asyncio.Queue()
        """Those of them whose carrying has not started yet."""
        self._serves = False
        self._wake = asyncio.Event()
        self._claiming = asyncio.Lock()
        self.renewed_at = _boottime()

    # What operations ask of a Runner.

    def wake(self) -> None:
        self._wake.set()

    def interrupt(self, deployment_id: str) -> None:
        if found := self._running.get(deployment_id):
            found.obey_cancellation(asked=True)

    async def begin(self, submit: Submit) -> Submission:
        """As the port says. Who finds us busy, with claiming or altogether, does not wait for us."""
        if not self._serves or self._claiming.locked() or self._room <= 0:
            submission = await submit(None)
        else:
            async with self._claiming:
                submission = await submit(self.node)
                if submission.is_new and submission.deployment.status is Status.RUNNING:
                    self._begin(submission.deployment)
                    return submission
        if submission.is_new:
            self.wake()
        return submission

    # Serving.

    async def run(self) -> None:
        await self._patiently(lambda: self._queue.join(self.node, self._lease.total_seconds()))
        self.renewed_at = _boottime()
        self._serves = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._every_beat(self._renew))
                group.create_task(self._every_beat(self._tend))
                group.create_task(self._claim_forever())
                while True:
                    run = await self._begun.get()
                    group.create_task(self._drive(run))
        except* Lost as lost:
            raise Lost(self.node) from lost
        finally:
            self._serves = False

    @property
    def _room(self) -> int:
        """How many more deployments this node may carry."""
        return self._settings.capacity - len(self._running)

    async def leave(self) -> None:
        """Give this node's work away at once instead of letting its lease run out."""
        await self._queue.leave(self.node)

    async def _claim_forever(self) -> None:
        while True:
            self._wake.clear()
            async with self._claiming:
                for deployment in await self._patiently(lambda: self._queue.claim(self.node, self._room)):
                    self._begin(deployment)
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the wake.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.poll.total_seconds()):
                    await self._wake.wait()

    def _begin(self, deployment: Deployment) -> None:
        """Have what was claimed carried. Only with `_claiming` in hand: whoever tends lets go of what is claimed and
        not in `_running`."""
        run = self._running[deployment.id] = Run(self, deployment)
        run.obey_cancellation()
        self._feed.tell(deployment.id)
        self._begun.put_nowait(run)

    async def _drive(self, run: Run) -> None:
        try:
            await self._reached("claimed")
            with structlog.contextvars.bound_contextvars(deployment_id=run.deployment.id):
                await self._carry_or_put_down(run)
        finally:
            if self._running.get(run.deployment.id) is run:  # it may have been lost, and claimed again meanwhile
                del self._running[run.deployment.id]
            self.wake()

    async def _carry_or_put_down(self, run: Run) -> None:
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
        at, lease_s = _boottime(), self._lease.total_seconds()
        renewal = asyncio.ensure_future(self._patiently(lambda: self._queue.renew(self.node, lease_s)))
        # A database that says nothing at all is away, too. Its driver takes seconds to be cancelled: not waited for.
        try:
            await asyncio.wait({renewal}, timeout=max(lease_s - (at - self.renewed_at), 0))
            if not renewal.done() or not renewal.result():
                raise Lost(self.node)
        finally:
            renewal.cancel()
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
