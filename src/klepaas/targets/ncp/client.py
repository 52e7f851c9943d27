"""Naver Cloud's signed REST APIs: signing, turns, repeated reading, the envelope. Knows how to ask, not what."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from klepaas.errors import AnswerLost, KlepaasError, Rejected, Unavailable
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.budget import PATIENCE_S, Budgets
from klepaas.targets.ncp.endpoints import Service, endpoints_of
from klepaas.targets.ncp.refusal import Said, not_understood, refusal, said_by
from klepaas.targets.ncp.signing import Keys, signed_headers
from klepaas.targets.ncp.wire import Request, Wire

TRIES = 3
FIRST_REST_S = 0.5
LOOKS_S = (1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0)
"""Rests between looks for something that was just made: lists lag by up to 20 s (seen in the older system's notes)."""

_WITHOUT_ENVELOPE = {Service.NKS}


class NcpClient:
    """For one account. Close it at the end."""

    def __init__(
        self,
        keys: Keys,
        endpoints: Mapping[Service, str],
        *,
        region: str = "KR",
        budgets: Budgets | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        answer_within_s: float = 30.0,
        looks_s: Sequence[float] = LOOKS_S,
        now: Callable[[], float] = time.time,
        hidden: Collection[str] = (),
    ) -> None:
        """`now` in seconds since the epoch. `hidden` are further secrets that no sentence may hold."""
        self.keys, self.region, self.looks_s = keys, region, tuple(looks_s)
        self.clock_skew: timedelta | None = None
        """How far this machine's clock is ahead of Naver Cloud's; None until it answered once."""
        self._endpoints, self._now = dict(endpoints), now
        self._budgets = budgets or Budgets(NcpSettings.model_fields["calls_per_minute"].default)
        self._secrets = (keys.access, keys.secret, *hidden)
        self._wire = Wire(answer_within_s=answer_within_s, transport=transport)

    @classmethod
    def of(
        cls, settings: NcpSettings, *, budgets: Budgets | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> "NcpClient":
        """Errors: Rejected when no keys are configured."""
        password = settings.sourcecommit_password
        return cls(
            keys_of(settings),
            endpoints_of(settings),
            region=settings.region,
            budgets=budgets or Budgets(settings.calls_per_minute),
            transport=transport,
            answer_within_s=settings.answer_within.total_seconds(),
            hidden=[password.get_secret_value()] if password else [],
        )

    async def get(
        self,
        service: Service,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        is_polling: bool = False,
    ) -> Any:
        """Read, again when the other side stumbles. Returns what stands in the envelope.

        Errors: Unavailable (after `retry_after`, where known), AuthenticationFailed, PermissionMissing, Rejected."""
        for tries_left in reversed(range(TRIES)):
            try:
                return await self._once(service, "GET", path, query, None, is_polling)
            except Unavailable as away:
                if tries_left == 0 or away.retry_after is not None:
                    raise
            await asyncio.sleep(FIRST_REST_S * 2 ** (TRIES - 1 - tries_left) * random.uniform(0.5, 1.5))
        raise AssertionError("every try returns or raises")

    async def change(self, service: Service, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Tell, once. Errors as for `get`, and AnswerLost when it may have been done: look before telling again."""
        return await self._once(service, method, path, None, body, False)

    async def close(self) -> None:
        await self._wire.close()

    async def _once(
        self,
        service: Service,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None,
        body: Mapping[str, Any] | None,
        is_polling: bool,
    ) -> Any:
        url = httpx.URL(f"{self._endpoints[service]}{path}", params=query or None)
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        budget = self._budgets.of(service, self.keys.access)
        for tries_left in reversed(range(TRIES)):
            await budget.take(is_polling=is_polling)
            answer = await self._wire.send(self._signed(service, method, url, content))
            self._note_clock(answer)
            rest_s = budget.note(answer)
            if rest_s is None:
                return self._unwrapped(service, method, answer)
            # Refused before it did anything: saying it again is safe, also for a change.
            if tries_left == 0 or rest_s > PATIENCE_S:
                raise self._refusal(service, method, answer, retry_after=timedelta(seconds=rest_s))
        raise AssertionError("every try returns or raises")

    def _signed(self, service: Service, method: str, url: httpx.URL, content: bytes | None) -> Request:
        # raw_path is what the library sends: signed is what is sent, never a second encoding of it.
        target = url.raw_path.decode("ascii")
        headers = signed_headers(method, target, int(self._now() * 1000), self.keys, region=self.region)
        if content is not None:
            headers["Content-Type"] = "application/json"
        return Request(service, method, url, headers, content)

    def _unwrapped(self, service: Service, method: str, answer: httpx.Response) -> Any:
        if said_by(answer) is not None:
            raise self._refusal(service, method, answer)
        if not answer.content.strip():
            return None
        try:
            body = json.loads(answer.content)
        except ValueError:
            body = None
        if isinstance(body, dict) and "result" in body:
            return body["result"]
        if isinstance(body, dict) and service in _WITHOUT_ENVELOPE:
            return body
        if method != "GET":
            raise AnswerLost(
                f"What {service} answered cannot be understood. It is not known whether it was done.",
                hint="It is looked up before anything is sent again.",
                evidence={"status": answer.status_code, "service": service},
            )
        raise not_understood(service, answer)

    def _refusal(
        self, service: Service, method: str, answer: httpx.Response, retry_after: timedelta | None = None
    ) -> KlepaasError:
        said = said_by(answer) or Said()
        refused = refusal(answer, said, service=service, method=method, secrets=self._secrets, skew=self.clock_skew)
        if isinstance(refused, Unavailable):
            refused.retry_after = retry_after
        return refused

    def _note_clock(self, answer: httpx.Response) -> None:
        try:
            theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return
        self.clock_skew = timedelta(seconds=round(self._now() - theirs))


def keys_of(settings: NcpSettings) -> Keys:
    """Errors: Rejected when they are not configured."""
    if settings.access_key is None or settings.secret_key is None:
        raise Rejected(
            "klepaas has no keys for Naver Cloud.",
            hint="Set KLEPAAS_NCP_ACCESS_KEY and KLEPAAS_NCP_SECRET_KEY (console: My Account, authentication keys).",
        )
    return Keys(access=settings.access_key.get_secret_value(), secret=settings.secret_key.get_secret_value())
