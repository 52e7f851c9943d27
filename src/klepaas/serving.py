"""klepaas at work: the door, the engine and the watchers over the assembled parts, until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol

import sqlalchemy as sa
import structlog

from klepaas.errors import KlepaasError, Outside, Unavailable
from klepaas.operations import tokens
from klepaas.operations.context import Context
from klepaas.operations.health import HealthReport
from klepaas.operations.intake import Intake
from klepaas.operations.ports.queue import Lost
from klepaas.settings import EngineSettings, ServerSettings, Settings
from klepaas.storage.old_logs import forget_logs
from klepaas.testing.faults import reached_from
from klepaas.watchers.branches import Branches
from klepaas.watchers.inbox import Inbox
from klepaas.watchers.reports import Reports
from klepaas.watchers.retention import Retention
from klepaas.watchers.workloads import Workloads
from klepaas.wiring import CurrentEngine, Parts, assembled
from klepaas.workflows import leftovers, watchdog
from klepaas.workflows.engine import Engine

log = structlog.get_logger()

REST_AFTER_LOST_S = 1.0
LOOK_AT_PARTS_EVERY_S = 5.0
THREADS_WAIT_AT_MOST_S = 0.0005
"""For the interpreter, while the event loop has work: the thread that writes webhooks to PostgreSQL needs it a dozen
times for one transaction, and would wait Python's own 5 ms each time."""
ALONE_POLL = timedelta(seconds=10)
ALONE_BEAT = timedelta(seconds=10)


class Door(Protocol):
    """The HTTP door, handed in by whoever starts klepaas: doors know the wiring, not the other way round."""

    async def __call__(
        self,
        context: Context,
        settings: ServerSettings,
        *,
        health: Callable[[], Awaitable[HealthReport]],
        intake: Intake,
        say: Callable[[str], None],
        stopped: asyncio.Event,
    ) -> None:
        """Serve until `stopped`."""


async def serve(settings: Settings, *, say: Callable[[str], None], door: Door, new_operator_token: bool = False) -> int:
    """Serve until SIGINT or SIGTERM: the door, the engine and the watchers. `say` tells the person at the terminal
    what they must know. `new_operator_token`: one more, for an operator who has none left. Returns the process's exit
    code."""
    sys.setswitchinterval(THREADS_WAIT_AT_MOST_S)
    async with assembled(settings) as parts:
        token = await tokens.first(parts.context)
        if token is None and new_operator_token:
            token = await tokens.of_operator(parts.context)
        if token is not None:
            say(f"Operator token (shown only now, keep it): {token}")
        await leftovers.clear(parts.context, parts.work)
        stopped = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
        board = HealthBoard(parts)
        work = [
            asyncio.create_task(
                door(
                    parts.context,
                    settings.server,
                    health=board.show,
                    intake=parts.intake,
                    say=say,
                    stopped=stopped,
                )
            ),
            asyncio.create_task(board.keep()),
            asyncio.create_task(_carry_deployments(parts)),
            asyncio.create_task(_watch(parts)),
            asyncio.create_task(_look_into_inbox(parts)),
            asyncio.create_task(_forget_what_is_old(parts)),
            asyncio.create_task(_watch_branches(parts)),
            asyncio.create_task(_tell_github(parts)),
            asyncio.create_task(stopped.wait()),
        ]
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for task in done:
            if not task.cancelled() and (fault := task.exception()) is not None:
                raise fault
    return 0


async def _carry_deployments(parts: Parts) -> None:
    """Run engines, one after another: a node that lost its lease starts anew under another id."""
    guarded = False
    while True:
        engine = Engine(
            parts.queue,
            parts.deploy.carry,
            parts.context.feed,
            _pace(parts),
            reached=reached_from(parts.settings.testing),
            alone=parts.database.is_sqlite,
        )
        parts.runner.engine = engine
        if not parts.database.is_sqlite and not guarded:
            watchdog.start(lambda: _renewed_at(parts.runner), parts.settings.engine.lease.total_seconds())
            guarded = True
        try:
            await engine.run()
        except Lost:
            log.warning("lease_lost", node=engine.node)
            await asyncio.sleep(REST_AFTER_LOST_S)
        finally:
            with suppress(KlepaasError):
                await asyncio.shield(engine.leave())


def _pace(parts: Parts) -> EngineSettings:
    """Alone on SQLite there is nobody to take over from and every submission rings: looking seldom is enough."""
    engine = parts.settings.engine
    if not parts.database.is_sqlite:
        return engine
    seldom = {"poll": ALONE_POLL, "beat": ALONE_BEAT}
    return engine.model_copy(update={k: v for k, v in seldom.items() if k not in engine.model_fields_set})


def _renewed_at(runner: CurrentEngine) -> float:
    return runner.engine.renewed_at if runner.engine is not None else float("inf")


async def _watch(parts: Parts) -> None:
    await Workloads(parts.context, parts.settings.reconciler.interval, lambda: _leads(parts)).run()


async def _forget_what_is_old(parts: Parts) -> None:
    logs = parts.settings.home / "logs"
    await Retention(
        context=parts.context,
        keep=parts.settings.retention.keep,
        forget_logs=lambda before: forget_logs(logs, before=before),
        leads=lambda: _leads(parts),
    ).run()


async def _look_into_inbox(parts: Parts) -> None:
    await Inbox(
        context=parts.context,
        intake=parts.intake,
        leads=lambda: _leads(parts),
        keep=parts.settings.webhooks.keep,
        alone=parts.database.is_sqlite,
    ).run()


async def _watch_branches(parts: Parts) -> None:
    await Branches(
        context=parts.context,
        intake=parts.intake,
        interval=parts.settings.branches.interval,
        leads=lambda: _leads(parts),
    ).run()


async def _tell_github(parts: Parts) -> None:
    await Reports(context=parts.context, leads=lambda: _leads(parts), alone=parts.database.is_sqlite).run()


async def _leads(parts: Parts) -> bool:
    """Whether this process is the one that watches."""
    engine = parts.runner.engine
    if engine is None:
        return False
    return parts.database.is_sqlite or await parts.queue.leads(engine.node)  # on SQLite there is no other


@dataclass
class HealthBoard:
    """What was last seen of the parts this process needs, so that asking costs nothing."""

    parts: Parts
    report: HealthReport = field(default_factory=lambda: HealthReport(database="ok"))

    async def keep(self) -> None:
        """Look until cancelled."""
        while True:
            self.report = HealthReport(database=await self._database(), engine=await self._engine())
            await asyncio.sleep(LOOK_AT_PARTS_EVERY_S)

    async def show(self) -> HealthReport:
        return self.report

    async def _database(self) -> Literal["ok", "unavailable"]:
        try:
            async with asyncio.timeout(LOOK_AT_PARTS_EVERY_S), self.parts.database.read() as connection:
                await connection.execute(sa.select(1))
        except (Unavailable, TimeoutError):
            return "unavailable"
        return "ok"

    async def _engine(self) -> Literal["ok", "unavailable"]:
        try:
            async with asyncio.timeout(LOOK_AT_PARTS_EVERY_S):
                await self.parts.docker.connect()
        except (Outside, TimeoutError):
            return "unavailable"
        return "ok"
