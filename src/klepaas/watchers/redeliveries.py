"""Ask GitHub again for the webhooks of its own list that never arrived here."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from klepaas.domain.github import SentDelivery
from klepaas.errors import Rejected
from klepaas.operations.context import Context

log = structlog.get_logger()

EVENTS = frozenset({"push", "release"})
ON_THE_WAY_FOR = timedelta(seconds=30)
"""So long a delivery may take to be stored here: GitHub gives up after 10 s."""
KEPT_FOR = timedelta(days=3)
"""By GitHub; what is older cannot be asked for."""
AGAIN_AFTER = timedelta(minutes=5)
TRIES = 3
A_LOOK = 20
"""Redeliveries asked for at once; the others follow with the next looks."""


@dataclass
class _Missed:
    id: int
    delivered_at: datetime
    repository_id: int | None
    tries: int = 0
    tried_at: datetime | None = None


@dataclass(kw_only=True)
class Redeliveries:
    context: Context
    _last_id: int | None = None
    """The newest of GitHub's list that was looked at."""
    _missed: dict[str, _Missed] = field(default_factory=dict)
    """By guid; not in the inbox when last looked."""

    async def look(self, repositories: Collection[int | None]) -> None:
        """Errors: those of `CodeHost.sent_deliveries` and `redeliver`."""
        self._take_in(await self.context.github.sent_deliveries(after=self._last_id))
        if not self._missed:
            return
        for guid in await self.context.deliveries.known(list(self._missed)):
            del self._missed[guid]
        now = self.context.clock.now()
        self._missed = {guid: each for guid, each in self._missed.items() if now - each.delivered_at < KEPT_FOR}
        due = [
            each
            for each in sorted(self._missed.values(), key=lambda one: one.delivered_at)
            if (each.repository_id is None or each.repository_id in repositories) and _is_due(each, now)
        ]
        for missed in due[:A_LOOK]:
            await self._ask_for(missed, now)

    def _take_in(self, sent: Collection[SentDelivery]) -> None:
        for each in sorted(sent, key=lambda one: one.id):
            self._last_id = max(each.id, self._last_id or 0)
            if each.event not in EVENTS:
                continue
            if (known := self._missed.get(each.guid)) is None:
                self._missed[each.guid] = _Missed(each.id, each.delivered_at, each.repository_id)
            else:
                known.id = each.id

    async def _ask_for(self, missed: _Missed, now: datetime) -> None:
        missed.tries, missed.tried_at = missed.tries + 1, now
        try:
            await self.context.github.redeliver(missed.id)
        except Rejected as refused:
            missed.tries = TRIES
            log.info("redelivery_refused", delivery=missed.id, reason=refused.message)
        else:
            log.info("redelivery_asked_for", delivery=missed.id, tries=missed.tries)


def _is_due(missed: _Missed, now: datetime) -> bool:
    if now - missed.delivered_at < ON_THE_WAY_FOR or missed.tries >= TRIES:
        return False
    return missed.tried_at is None or now - missed.tried_at >= AGAIN_AFTER * missed.tries
