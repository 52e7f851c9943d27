"""How often one service is asked for one account, so that Naver Cloud's limits are kept before it names them.

Its limits are not published; ours is a setting. In any minute there are never more calls than it says. Looking at runs
again and again has a half of its own: neither can starve the other, whatever the other does."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import httpx

from klepaas.errors import Unavailable

LOOKING_SHARE = 0.5
BURST_SHARE = 0.25
"""Of a share, spent at once after a rest. The others come evenly: burst + a minute of the rest = the share."""
PATIENCE_S = 20.0
"""A call that would have to wait longer for its turn is not made."""
FIRST_REST_S = 2.0
"""After a 429 that does not say how long; twice as long after each further one."""
LONGEST_REST_S = 300.0

Clock = Callable[[], float]


class Budget:
    """Of one service and account. First come, first served."""

    def __init__(self, service: str, per_minute: int, *, clock: Clock = time.monotonic) -> None:
        """`per_minute` counts all calls; at least 2."""
        looking = max(1, int(per_minute * LOOKING_SHARE))
        self._service, self._clock = service, clock
        self._looks = _Share(looking, clock)
        self._asks = _Share(max(1, per_minute - looking), clock)
        self._rests_until = 0.0
        self._refusals = 0

    async def take(self, *, is_polling: bool) -> None:
        """Wait for one's turn. Errors: Unavailable, with how long, when that is further away than our patience, or
        while Naver Cloud wants to be left alone."""
        await self._rest()
        wait_s = (self._looks if is_polling else self._asks).reserve(PATIENCE_S)
        if wait_s > PATIENCE_S:
            raise Unavailable(
                f"{self._service} is asked as often as it may be for now.",
                hint="Nothing is lost: it is asked when its turn comes. KLEPAAS_NCP_CALLS_PER_MINUTE is the limit.",
                retry_after=timedelta(seconds=wait_s),
            )
        if wait_s > 0:
            await asyncio.sleep(wait_s)
            await self._rest()

    def note(self, answer: httpx.Response) -> float | None:
        """Learn from an answer. Returns for how long nothing may be sent when it was refused for its limit."""
        if answer.status_code != 429:
            self._refusals = 0 if answer.is_success else self._refusals
            return None
        given = answer.headers.get("retry-after", "").strip()
        if given.isascii() and given.isdigit() and len(given) < 7:
            rest_s = min(max(float(given), 1.0), 3600.0)
        else:
            rest_s = min(FIRST_REST_S * float(2 ** min(self._refusals, 10)), LONGEST_REST_S)
        self._refusals += 1
        self._rests_until = max(self._rests_until, self._clock() + rest_s)
        return rest_s

    async def _rest(self) -> None:
        while (left_s := self._rests_until - self._clock()) > 0:
            if left_s > PATIENCE_S:
                raise Unavailable(
                    f"{self._service} wants to be left alone for a while (429).",
                    hint="Nothing is lost: it is asked again after that time.",
                    retry_after=timedelta(seconds=left_s),
                )
            await asyncio.sleep(left_s)


class Budgets:
    """Those of this process, for every service and account it speaks for."""

    def __init__(self, per_minute: int, *, clock: Clock = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._of: dict[tuple[str, str], Budget] = {}

    def of(self, service: str, account: str) -> Budget:
        key = (service, account)
        if key not in self._of:
            self._of[key] = Budget(service, self._per_minute, clock=self._clock)
        return self._of[key]


class _Share:
    """Turns are given out ahead of time, so waiting is in the order of asking."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._burst = max(1.0, per_minute * BURST_SHARE)
        self._per_s = max(per_minute - self._burst, 0.5) / 60
        self._left, self._seen_at, self._clock = self._burst, clock(), clock

    def reserve(self, patience_s: float) -> float:
        """How long to wait for the turn that is now ours; nothing is taken when that is longer than our patience."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._seen_at) * self._per_s)
        self._seen_at = now
        wait_s = max(0.0, (1 - self._left) / self._per_s)
        if wait_s <= patience_s:
            self._left -= 1
        return wait_s
