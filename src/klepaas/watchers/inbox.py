"""Looks into the inbox of webhooks: decides what was left behind by a process that ended, and forgets what is old."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

import structlog

from klepaas.errors import Unavailable
from klepaas.operations.context import Context
from klepaas.operations.intake import Intake
from klepaas.operations.ports.deliveries import StoredDelivery

log = structlog.get_logger()

LOOK_EVERY_S = 5.0
PRUNE_EVERY_S = 600.0
PAGE = 50
AT_ONCE = 8
LEFT_ALONE_FOR = timedelta(seconds=10)
"""So long a delivery may still be in the hands of another process (PostgreSQL)."""
LONGEST_REST_S = 300.0


@dataclass(frozen=True, kw_only=True)
class _Rest:
    failures: int
    until: float


@dataclass(kw_only=True)
class Inbox:
    context: Context
    intake: Intake
    leads: Callable[[], Awaitable[bool]]
    """Whether this process is the one that watches."""
    keep: timedelta
    """How long decided deliveries stay."""
    alone: bool
    """Nobody else takes deliveries: what is undecided and not in our hands is in nobody's (SQLite)."""
    _rests: dict[str, _Rest] = field(default_factory=dict)
    _pruned_at: float = float("-inf")

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                if await self.leads():
                    await self.look()
                    await self._prune()
            except Unavailable as error:
                log.warning("inbox_not_looked_at", reason=error.message)
            except Exception:
                log.exception("inbox_not_looked_at")
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Take up every delivery that was left behind, in the order they came."""
        before = self.context.clock.now() - (timedelta(0) if self.alone else LEFT_ALONE_FOR)
        after = 0
        while page := await self.context.deliveries.undecided(received_before=before, after=after, limit=PAGE):
            after = page[-1].number
            due = [each for each in page if self._is_due(each.id)]
            for first in range(0, len(due), AT_ONCE):
                await asyncio.gather(*(self._take_up(each) for each in due[first : first + AT_ONCE]))

    async def _take_up(self, delivery: StoredDelivery) -> None:
        if await self.intake.take_up(delivery):
            self._rests.pop(delivery.id, None)
            log.info("delivery_taken_up", delivery_id=delivery.id)
            return
        failures = 1 + (self._rests[delivery.id].failures if delivery.id in self._rests else 0)
        rest_s = min(LOOK_EVERY_S * 2.0 ** min(failures, 16), LONGEST_REST_S)
        self._rests[delivery.id] = _Rest(failures=failures, until=monotonic() + rest_s)

    def _is_due(self, delivery_id: str) -> bool:
        rest = self._rests.get(delivery_id)
        return rest is None or monotonic() >= rest.until

    async def _prune(self) -> None:
        if monotonic() - self._pruned_at < PRUNE_EVERY_S:
            return
        while await self.context.deliveries.prune(received_before=self.context.clock.now() - self.keep):
            pass
        self._pruned_at = monotonic()
