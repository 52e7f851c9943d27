"""Keep GitHub in agreement with the record: look which deployments it should show differently, and tell it.

Nothing waits for this: a deployment goes on whether GitHub hears of it or not."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from klepaas.errors import KlepaasError, Rejected, Unavailable
from klepaas.operations import reports
from klepaas.operations.context import Context
from klepaas.operations.ports.reports import DueReport

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
QUIET_FOR_S = 20.0
"""A process that is alone hears of everything that is written; it looks all the same, should it have missed it."""
REST_S = 0.5
"""From hearing of something to looking, where a process hears of everything: a deployment writes a dozen times a
second, and whoever waits for it waits for its writes only."""
AT_ONCE = 50
CLAIMED_FOR = timedelta(minutes=2)
"""A process that dies while it tells leaves the rest to another one after so long."""

FIRST_REST_S, LONGEST_REST_S = 4.0, 600.0
FIRST_REST_AFTER_NO_S, LONGEST_REST_AFTER_NO_S = 60.0, 6 * 3600.0
"""GitHub said no (a revoked token, a missing permission): asked again in case somebody mends it."""
MOST_REFUSALS = 20
"""Four days of them. After that GitHub is not told of this deployment any more."""


@dataclass(kw_only=True)
class Reports:
    context: Context
    leads: Callable[[], Awaitable[bool]]
    """Whether this process is the one that tells."""
    alone: bool
    """Nobody else carries deployments or tells of them (SQLite)."""

    async def run(self) -> None:
        """Tell until cancelled."""
        if self.alone:
            await self._take_back()
        while True:
            more = is_quiet = False
            try:
                more = await self.leads() and await self.look()
                is_quiet = self.alone and not await self.context.reports.is_retrying()
            except KlepaasError as fault:
                log.warning("reports_not_looked_at", reason=fault.message)
            except Exception:
                log.exception("reports_not_looked_at")
            if more:
                continue
            if self.alone:
                await self.context.feed.stirred(within_s=QUIET_FOR_S if is_quiet else LOOK_EVERY_S)
                await asyncio.sleep(REST_S)
            else:
                await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> bool:
        """Tell GitHub what is due. Whether there may be more."""
        await self.context.reports.notice()
        due = await self.context.reports.claim(limit=AT_ONCE, lease=CLAIMED_FOR)
        by_credential: dict[str, list[DueReport]] = {}
        for each in due:
            by_credential.setdefault(each.project.connection_id or "", []).append(each)
        # One credential's trouble is not another's.
        await asyncio.gather(*(self._tell_in_turn(each) for each in by_credential.values()))
        return len(due) == AT_ONCE

    async def _take_back(self) -> None:
        """What this process claimed before it was killed."""
        try:
            await self.context.reports.take_back()
        except KlepaasError as fault:
            log.warning("reports_not_taken_back", reason=fault.message)

    async def _tell_in_turn(self, due: Sequence[DueReport]) -> None:
        """In the order things happened; when GitHub is away, the rest waits as well, unasked."""
        for place, each in enumerate(due):
            try:
                await reports.tell(self.context, each)
            except Unavailable as away:
                for waiting in due[place:]:
                    rest = max(_rest(waiting.attempts), away.retry_after or timedelta(0))
                    await self.context.reports.retry(waiting, after=rest, error=away.message)
                log.info("github_not_told", deployment_id=each.deployment.id, reason=away.message)
                return
            except Rejected as refused:
                await self._refused(each, refused)
            except Exception:
                log.exception("github_not_told", deployment_id=each.deployment.id)
                await self.context.reports.retry(each, after=_rest(each.attempts), error="an error of klepaas")
            else:
                await self.context.reports.agreed(each)

    async def _refused(self, due: DueReport, refused: Rejected) -> None:
        log.warning("github_not_told", deployment_id=due.deployment.id, reason=refused.message)
        if due.attempts + 1 >= MOST_REFUSALS:
            await self.context.reports.give_up(due, error=refused.message)
            return
        rest = _rest(due.attempts, first_s=FIRST_REST_AFTER_NO_S, longest_s=LONGEST_REST_AFTER_NO_S)
        await self.context.reports.retry(due, after=rest, error=refused.message)


def _rest(attempts: int, *, first_s: float = FIRST_REST_S, longest_s: float = LONGEST_REST_S) -> timedelta:
    longest = min(first_s * 2.0 ** min(attempts, 30), longest_s)
    return timedelta(seconds=longest * random.uniform(0.5, 1.0))
