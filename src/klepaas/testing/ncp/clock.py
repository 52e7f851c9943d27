"""The time of builds and deployments, which a test moves ahead instead of waiting."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta


class Clock:
    """Only on the server's loop, but for `now`."""

    def __init__(self) -> None:
        self._ahead = timedelta()
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def now_ms(self) -> int:
        return milliseconds(self.now())

    def advance(self, by: timedelta) -> None:
        self._ahead += by
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def reach(self, moment: datetime) -> None:
        """Until that time by this clock; at once when it is over."""
        while (left := (moment - self.now()).total_seconds()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)

    async def pass_by(self, time: timedelta) -> None:
        """Until so much time is over by this clock."""
        await self.reach(self.now() + time)


def milliseconds(moment: datetime) -> int:
    """Since 1970."""
    return int(moment.timestamp() * 1000)
