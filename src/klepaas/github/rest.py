"""One GitHub's REST API: one connection pool, time-outs, rate limits, repeated reading, free answers when nothing
changed. Knows how to ask, not what is asked."""

import asyncio
import json
import random
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import httpx

from klepaas import __version__
from klepaas.errors import NetworkTimeout, Rejected, Unavailable
from klepaas.github.budget import Budget, wait
from klepaas.github.refusal import not_understood, refusal
from klepaas.trust import authorities

TIMEOUT = httpx.Timeout(15.0, connect=5.0)
ANSWER_WITHIN_S = 30.0
"""From the first byte sent to the last received; a server that drips does not hold a deployment."""
TRIES = 3
"""For reading: what GitHub's proxies drop now and then."""
FIRST_REST_S = 0.25
MAX_REDIRECTS = 3
MAX_ANSWER_BYTES = 16 * 2**20
REMEMBERED = 256
"""Answers kept to be asked for with their ETag: those of checks and pull requests, asked for again and again."""
MAX_REMEMBERED_BYTES = 128 * 1024
API_VERSION = "2022-11-28"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The credential of a request. `who` is for sentences, `account` names whose rate limit it counts against."""

    who: str
    account: str
    secret: str = field(repr=False, default="")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`data` is None when nothing changed, or nothing was said. `next_page` is a path of the same API."""

    status: int
    data: Any
    etag: str | None
    next_page: str | None
    headers: httpx.Headers


class RestApi:
    def __init__(
        self, url: str, *, transport: httpx.AsyncBaseTransport | None = None, follows_redirects: bool = True
    ) -> None:
        """`transport` None: the ordinary one. A GitHub that a user named is not followed anywhere."""
        self.url = url.rstrip("/")
        self._transport, self._follows = transport, follows_redirects
        self._http: httpx.AsyncClient | None = None
        self._budgets: dict[str, Budget] = {}
        self._remembered: OrderedDict[tuple[str, str], tuple[str, bytes, str | None]] = OrderedDict()

    async def get(
        self,
        path: str,
        *,
        shown: Shown,
        repository: str | None = None,
        params: Mapping[str, str | int] | None = None,
        etag: str | None = None,
        is_polling: bool = False,
    ) -> Answer:
        """Read. With `etag` the answer's data is None while it is still the one that came with it.

        Errors: as `klepaas.operations.code_host`; Unavailable before anything is sent while GitHub wants us to wait,
        or, when `is_polling`, while only the reserve is left."""
        url = httpx.URL(f"{self.url}{path}", params=params or None)
        key = (shown.account, str(url))
        known = self._remembered.get(key) if etag is None else None
        answer = await self._persistently(url, shown, repository, etag or (known[0] if known else None), is_polling)
        if answer.status_code == 304 and known is not None:
            self._remembered.move_to_end(key)
            # 304 only means something to who brought an ETag of his own.
            return replace(_answer(answer, known[1], known[2]), status=200)
        if answer.status_code == 304:
            return _answer(answer, b"", None)
        next_page = self._next_page(answer)
        if etag is None:
            self._remember(key, answer, next_page)
        return _answer(answer, answer.content, next_page)

    async def post(
        self, path: str, body: Mapping[str, Any], *, shown: Shown, repository: str | None = None, method: str = "POST"
    ) -> Answer:
        """Tell. Sent once: whoever repeats it looks first whether it was done."""
        answer = await self._send(method, httpx.URL(f"{self.url}{path}"), shown, body=body)
        if answer.has_redirect_location:
            raise Rejected(
                f"GitHub knows {repository or 'this'} by another name now.",
                hint="Give the project the repository's new name.",
                evidence={"status": answer.status_code},
            )
        self._check(answer, shown, repository)
        return _answer(answer, answer.content, None)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=TIMEOUT,
                transport=self._transport,
                verify=authorities(),
                # A proxy of the environment does not reach this machine's loopback.
                trust_env=not _is_loopback(httpx.URL(self.url).host),
                follow_redirects=False,
                headers={
                    "Accept": "application/vnd.github+json",
                    "User-Agent": f"klepaas/{__version__}",
                    "X-GitHub-Api-Version": API_VERSION,
                },
            )
        return self._http

    async def _persistently(
        self, url: httpx.URL, shown: Shown, repository: str | None, etag: str | None, is_polling: bool
    ) -> httpx.Response:
        for tries_left in reversed(range(TRIES)):
            try:
                answer = await self._followed(url, shown, etag, is_polling)
                self._check(answer, shown, repository)
                return answer
            except Unavailable as away:
                if tries_left == 0 or away.retry_after is not None:
                    raise
            await asyncio.sleep(FIRST_REST_S * 2 ** (TRIES - 1 - tries_left) * random.uniform(0.5, 1.5))
        raise AssertionError("every try returns or raises")

    async def _followed(self, url: httpx.URL, shown: Shown, etag: str | None, is_polling: bool) -> httpx.Response:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._send("GET", url, shown, etag=etag, is_polling=is_polling)
            if not answer.has_redirect_location:
                return answer
            url = self._elsewhere(url, answer)
        raise Rejected("GitHub sends from one address to the next without end.")

    def _elsewhere(self, url: httpx.URL, answer: httpx.Response) -> httpx.URL:
        """Where a renamed repository is, on the very same server: no other one is shown the credential."""
        there = url.join(answer.headers["location"])
        base = httpx.URL(self.url)
        same = (there.scheme, there.host, there.port, there.userinfo) == (base.scheme, base.host, base.port, b"")
        if not self._follows or not same or not there.path.startswith(base.path.rstrip("/") + "/"):
            raise Rejected(
                "GitHub sends to another address, and credentials are not sent on.",
                hint="Look whether the address of its API is right.",
                evidence={"status": answer.status_code, "host": there.host[:255]},
            )
        return there

    async def _send(
        self,
        method: str,
        url: httpx.URL,
        shown: Shown,
        *,
        body: Mapping[str, Any] | None = None,
        etag: str | None = None,
        is_polling: bool = False,
    ) -> httpx.Response:
        budget = self._budgets.setdefault(shown.account, Budget())
        budget.check(is_polling=is_polling, who=shown.who)
        headers = {"Authorization": f"Bearer {shown.secret}"} if shown.secret else {}
        if etag is not None:
            headers["If-None-Match"] = etag
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                request = self._client().build_request(method, url, headers=headers, json=body)
                answer = await self._client().send(request, stream=True)
                try:
                    content = await _read(answer)
                finally:
                    await answer.aclose()
        except (TimeoutError, httpx.TimeoutException) as error:
            raise NetworkTimeout(f"GitHub does not answer at {_place(url)}.", evidence=_reason(error)) from None
        except httpx.HTTPError as error:
            # Not chained: the request that is part of it holds the credential.
            raise Unavailable(f"GitHub cannot be reached at {_place(url)}.", evidence=_reason(error)) from None
        answer = httpx.Response(answer.status_code, headers=_decoded(answer.headers), content=content)
        rest_s = budget.note(answer)
        if rest_s is not None:
            raise wait(shown.who, rest_s)
        return answer

    def _check(self, answer: httpx.Response, shown: Shown, repository: str | None) -> None:
        if not answer.is_success and answer.status_code != 304:
            raise refusal(answer, who=shown.who, repository=repository, secret=shown.secret)

    def _next_page(self, answer: httpx.Response) -> str | None:
        url = httpx.Response(200, headers={"link": answer.headers.get("link", "")}).links.get("next", {}).get("url", "")
        return url.removeprefix(self.url) if url.startswith(f"{self.url}/") else None

    def _remember(self, key: tuple[str, str], answer: httpx.Response, next_page: str | None) -> None:
        etag = answer.headers.get("etag")
        if etag is None or len(answer.content) > MAX_REMEMBERED_BYTES:
            self._remembered.pop(key, None)
            return
        self._remembered[key] = (etag, answer.content, next_page)
        self._remembered.move_to_end(key)
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)


async def _read(answer: httpx.Response) -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise Rejected("What GitHub answered is far too large.", evidence={"limit_bytes": MAX_ANSWER_BYTES})
        parts.append(part)
    return b"".join(parts)


def _decoded(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Those of a body that was unpacked already."""
    return [(n, v) for n, v in headers.multi_items() if n not in {"content-encoding", "content-length"}]


def _answer(response: httpx.Response, content: bytes, next_page: str | None) -> Answer:
    try:
        data = json.loads(content) if content.strip() else None
    except ValueError:
        raise not_understood(response) from None
    return Answer(
        status=response.status_code,
        data=data,
        etag=response.headers.get("etag"),
        next_page=next_page,
        headers=response.headers,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _place(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _reason(error: Exception) -> dict[str, str]:
    return {"reason": str(error)[:200] or type(error).__name__}
