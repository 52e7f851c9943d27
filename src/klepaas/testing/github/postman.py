"""Sends webhooks and remembers every attempt; loses, repeats, delays and reorders them when told to."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx

from klepaas.testing.github.faults import Faults
from klepaas.testing.github.hooks import Delivery

TIMEOUT_S = 10.0
"""GitHub gives up on a webhook after ten seconds. Source: its page on failed deliveries."""

_HELD_S = 0.2
"""Reordered ones that nothing overtakes are sent after this."""


class Postman:
    """Deliveries go out one after the other in the order they were posted, unless the faults say otherwise."""

    def __init__(self, faults: Faults, now: Callable[[], datetime], next_id: Callable[[], int]) -> None:
        self.sent: list[Delivery] = []
        """Every attempt, oldest first: GitHub's list."""
        self.lost: list[Delivery] = []
        """What GitHub should have sent and knows nothing of."""
        self.timeout_s = TIMEOUT_S
        self._faults, self._now, self._next_id = faults, now, next_id
        self._waiting: deque[Delivery] = deque()
        self._held: list[tuple[int, Delivery]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._delayed: set[asyncio.Task[None]] = set()
        self._sending = 0
        self._news = asyncio.Event()
        self._client: httpx.AsyncClient | None = None

    @property
    def unsent(self) -> int:
        """How many are still to be sent or not yet answered."""
        return len(self._waiting) + len(self._held) + len(self._delayed) + len(self._under_way) + self._sending

    def post(self, delivery: Delivery) -> None:
        """Have it sent soon, or whatever the faults make of it. Only from the server's loop."""
        faults, draw = self._faults.webhooks, self._faults.random.random
        if draw() < faults.lost:
            self.lost.append(delivery)
        elif draw() < faults.failed:
            self._record(delivery, status="failed to connect", code=0, took_s=0.0)
        else:
            self._queue(delivery)
            if draw() < faults.duplicated:
                self._queue(replace(delivery))

    def redeliver(self, delivery: Delivery) -> None:
        """Send what was sent once more: the same GUID, a new id."""
        self._waiting.append(delivery.again())
        self._news.set()

    async def work(self) -> None:
        """Send until cancelled."""
        # Receivers are on this machine; reading the world's certificates takes longer than all the rest of a start.
        async with httpx.AsyncClient(timeout=self.timeout_s, trust_env=False, verify=False) as self._client:
            try:
                while True:
                    await self._wait()
                    while self._waiting and not self._faults.down:
                        await self._send_next(self._waiting.popleft())
            finally:
                unfinished = self._under_way | self._delayed
                for task in unfinished:
                    task.cancel()
                await asyncio.gather(*unfinished, return_exceptions=True)

    def _queue(self, delivery: Delivery) -> None:
        faults, random = self._faults.webhooks, self._faults.random
        if random.random() < faults.delayed:
            self._later(faults.delay_s, delivery)
        elif random.random() < faults.reordered:
            self._held.append((random.randint(1, faults.reorder_within), delivery))
        else:
            self._waiting.append(delivery)
        self._news.set()

    def _later(self, delay_s: float, delivery: Delivery) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay_s)
            self._waiting.append(delivery)
            self._news.set()

        self._start(wait(), self._delayed)

    async def _wait(self) -> None:
        # While GitHub is down nothing is sent: look again soon.
        patience = 0.05 if self._faults.down and self._waiting else (_HELD_S if self._held else None)
        if self._waiting and not self._faults.down:
            return
        self._news.clear()
        try:
            async with asyncio.timeout(patience):
                await self._news.wait()
        except TimeoutError:
            if not self._faults.down:
                self._waiting.extend(delivery for _, delivery in self._held)
                self._held.clear()

    async def _send_next(self, delivery: Delivery) -> None:
        at_once = self._faults.webhooks.at_once
        if at_once == 1:
            await self._send(delivery)
        else:
            while len(self._under_way) >= at_once:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            self._start(self._send(delivery), self._under_way)
        held = [(left - 1, other) for left, other in self._held]
        self._held = [(left, other) for left, other in held if left > 0]
        self._waiting.extendleft(other for left, other in reversed(held) if left <= 0)

    def _start(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)

    async def _send(self, delivery: Delivery) -> None:
        self._sending += 1
        try:
            await self._attempt(delivery)
        finally:
            self._sending -= 1

    async def _attempt(self, delivery: Delivery) -> None:
        assert self._client is not None
        body = delivery.body()
        delivery.request_headers = delivery.headers(body)
        started = time.monotonic()
        try:
            answer = await self._client.post(delivery.hook.url, content=body, headers=delivery.request_headers)
        except httpx.TimeoutException:
            self._record(delivery, status="timed out", code=0, took_s=time.monotonic() - started)
        except (httpx.HTTPError, httpx.InvalidURL):
            self._record(delivery, status="failed to connect", code=0, took_s=time.monotonic() - started)
        else:
            delivery.response_headers = dict(answer.headers)
            with contextlib.suppress(UnicodeDecodeError):
                delivery.response = answer.text
            status = "OK" if answer.is_success else f"Invalid HTTP Response: {answer.status_code}"
            self._record(delivery, status=status, code=answer.status_code, took_s=time.monotonic() - started)

    def _record(self, delivery: Delivery, *, status: str, code: int, took_s: float) -> None:
        delivery.status, delivery.status_code, delivery.duration_s = status, code, took_s
        # Numbered as they end, so that who lists them down to one he knows misses none.
        delivery.id, delivery.delivered_at = self._next_id(), self._now()
        delivery.hook.last_status = code
        self.sent.append(delivery)
