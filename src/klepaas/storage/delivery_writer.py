"""Deliveries that wait to be written, and the one who writes them.

GitHub waits for an answer only so long, and an answer is a promise that the delivery is on disk. Making each one
durable by itself would cost a flush of the disk each; so those that arrive while one flush runs share the next."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from klepaas.errors import Unavailable
from klepaas.operations.ports.deliveries import Known
from klepaas.storage.delivery_rows import Arrival, Decided, DeliveryRows

Entry = TypeVar("Entry", Arrival, Decided)

MOST_AT_ONCE = 256
"""Rows of one transaction: others want to write, too."""
BYTES_AT_ONCE = 32 * 2**20
LOOKS_EVERY_S, LOOKS = 0.001, 8
"""A crowd is waited for when the transaction before was one's, as long as more of it come. A flush of the disk takes
about as long as one look; nothing waits while deliveries come one by one."""
DECIDED_WAIT_S = 0.01
"""Nobody waits for what was decided to be on disk: it can go along with the next deliveries."""


@dataclass(frozen=True)
class _Waiting(Generic[Entry]):
    entry: Entry
    done: asyncio.Future[Known | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def tell(self, known: Known | None) -> None:
        if not self.done.done():  # else its caller was cancelled
            self.done.set_result(known)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


_Arrivals = Sequence[_Waiting[Arrival]]
_Decisions = Sequence[_Waiting[Decided]]


class DeliveryWriter:
    def __init__(self, rows: DeliveryRows) -> None:
        self._rows = rows
        self._arrivals: deque[_Waiting[Arrival]] = deque()
        self._decided: deque[_Waiting[Decided]] = deque()
        self._arrived = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def add(self, arrival: Arrival) -> Known | None:
        """Returns once it is on disk; None when it is new."""
        waiting = _Waiting(arrival)
        self._arrivals.append(waiting)
        self._arrived.set()
        self._see_to_it()
        return await waiting.done

    async def decide(self, decided: Decided) -> None:
        """Returns once it is on disk."""
        waiting = _Waiting(decided)
        self._decided.append(waiting)
        self._see_to_it()
        await waiting.done

    def _see_to_it(self) -> None:
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """One transaction after the other while there is something to write."""
        came = 0
        while self._arrivals or self._decided:
            await self._gather(came)
            arrivals, decided = self._next()
            came = len(arrivals)
            try:
                await self._commit(arrivals, decided)
            except Exception as error:
                await self._one_by_one(arrivals, decided, error)

    async def _gather(self, came: int) -> None:
        """`came`: how many arrivals there were in the transaction before."""
        if not self._arrivals:
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), DECIDED_WAIT_S)
        for _ in range(LOOKS):
            before = len(self._arrivals)
            if before >= came:
                return
            await asyncio.sleep(LOOKS_EVERY_S)
            if len(self._arrivals) == before:
                return

    def _next(self) -> tuple[_Arrivals, _Decisions]:
        decided = [self._decided.popleft() for _ in range(min(len(self._decided), MOST_AT_ONCE))]
        arrivals: list[_Waiting[Arrival]] = []
        size = 0
        while self._arrivals and len(arrivals) < MOST_AT_ONCE and size < BYTES_AT_ONCE:
            arrivals.append(self._arrivals.popleft())
            size += len(arrivals[-1].entry.row["body"])
        return arrivals, decided

    async def _one_by_one(self, arrivals: _Arrivals, decided: _Decisions, error: Exception) -> None:
        """What one of them cannot have is no reason to refuse the others."""
        if isinstance(error, Unavailable) or len(arrivals) + len(decided) == 1:
            for arrival in arrivals:
                arrival.fail(error)
            for each in decided:
                each.fail(error)
            return
        for arrival in arrivals:
            try:
                await self._commit([arrival], [])
            except Exception as own:
                arrival.fail(own)
        for each in decided:
            try:
                await self._commit([], [each])
            except Exception as own:
                each.fail(own)

    async def _commit(self, arrivals: _Arrivals, decided: _Decisions) -> None:
        known = await self._rows.write([each.entry for each in arrivals], [each.entry for each in decided])
        for arrival in arrivals:
            id_ = arrival.entry.row["id"]
            arrival.tell(Known(answer=known[id_]) if id_ in known else None)
        for each in decided:
            each.tell(None)
