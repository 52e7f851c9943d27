"""How much GitHub may still be asked by one credential: nobody asks while told to wait, and polling leaves a reserve
to what people wait for.

Source: GitHub docs, "Rate limits for the REST API" and "Best practices for using the REST API"."""

import time
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx

from klepaas.errors import Unavailable

RESERVE_SHARE = 0.2
"""Of the hour's limit, kept for deployments and reports: polling stops when no more is left."""
FIRST_REST_S = 60.0
"""After a secondary limit that does not say how long; twice as long after each further one."""
LONGEST_REST_S = 900.0


@dataclass
class Budget:
    """Of one credential. Times are those of `time.monotonic`."""

    limit: int | None = None
    remaining: int | None = None
    resets_at: float = 0.0
    waits_until: float = 0.0
    _hits: int = 0

    def check(self, *, is_polling: bool, who: str) -> None:
        """Errors: Unavailable, with how long, when nothing may be sent now."""
        now = time.monotonic()
        until = self.waits_until
        if self.remaining is not None and self.resets_at > now:
            reserve = int((self.limit or 0) * RESERVE_SHARE) if is_polling else 0
            if self.remaining <= reserve:
                until = max(until, self.resets_at)
        if until > now:
            raise wait(who, until - now)
        self._count()

    def note(self, answer: httpx.Response) -> float | None:
        """Learn from an answer. Returns for how long nothing may be sent when that was a refusal for its limit."""
        now, headers = time.monotonic(), answer.headers
        remaining, resets_in = _number(headers.get("x-ratelimit-remaining")), _resets_in_s(headers)
        if remaining is not None and resets_in is not None and headers.get("x-ratelimit-resource", "core") == "core":
            self.limit = _number(headers.get("x-ratelimit-limit")) or self.limit
            self.remaining, self.resets_at = remaining, now + resets_in
        if answer.status_code not in {403, 429}:
            self._hits = 0 if answer.is_success else self._hits
            return None
        rest = self._rest(answer, remaining, resets_in)
        if rest is not None:
            self.waits_until = max(self.waits_until, now + rest)
        return rest

    def _rest(self, answer: httpx.Response, remaining: int | None, resets_in: float | None) -> float | None:
        if (given := _number(answer.headers.get("retry-after"))) is not None:
            return float(max(given, 1))
        if remaining == 0 and resets_in is not None:
            return resets_in
        if answer.status_code == 429 or "rate limit" in answer.text[:2000].lower():
            self._hits += 1
            return min(FIRST_REST_S * float(2 ** min(self._hits - 1, 10)), LONGEST_REST_S)
        return None

    def _count(self) -> None:
        """Those who ask at the same time share what is left, before the first answer says so."""
        if self.remaining is not None:
            self.remaining = max(self.remaining - 1, 0)


def wait(who: str, seconds: float) -> Unavailable:
    return Unavailable(
        f"GitHub asks {who} to wait before it is asked again.",
        hint="Nothing is lost: it is asked again after that time.",
        retry_after=timedelta(seconds=seconds),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isascii() and text.strip().isdigit() else None


def _resets_in_s(headers: httpx.Headers) -> float | None:
    """Until the hour begins anew, by GitHub's own clock: ours may be wrong."""
    at = _number(headers.get("x-ratelimit-reset"))
    return None if at is None else min(max(at - sent_at(headers), 1.0), 3660.0)


def sent_at(headers: httpx.Headers) -> float:
    """When the answer was sent, by its sender's clock; by ours when it does not say."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return time.time()
