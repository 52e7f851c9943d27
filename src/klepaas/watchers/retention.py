"""Forgets what nobody asks for any more, so that a disk is not full one day: old logs, and what watchers saw long ago.

Deployments, their events and their evidence stay for good."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from klepaas.errors import Unavailable
from klepaas.operations.context import Context

log = structlog.get_logger()

LOOK_EVERY_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Retention:
    context: Context
    keep: timedelta
    forget_logs: Callable[[datetime], int]
    """Removes this machine's logs that ended before a time, and says how many."""
    leads: Callable[[], Awaitable[bool]]

    async def run(self) -> None:
        """Forget until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable as away:
                log.warning("nothing_forgotten", reason=away.message)
            except Exception:
                log.exception("nothing_forgotten")
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        before = self.context.clock.now() - self.keep
        logs = await asyncio.to_thread(self.forget_logs, before)  # each machine's own
        changes = await self.context.apps.forget_changes(before) if await self.leads() else 0
        if logs or changes:
            log.info("forgotten", logs=logs, changes=changes)
