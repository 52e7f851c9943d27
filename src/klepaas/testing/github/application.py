"""The whole stand-in as one ASGI application: what goes wrong, what is written down, and who answers."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from klepaas.testing.github.api import Api, exceeded, request_id
from klepaas.testing.github.callers import Caller, TokenKind
from klepaas.testing.github.faults import Fault, Kind
from klepaas.testing.github.git_http import GitHttp
from klepaas.testing.github.limits import Budget
from klepaas.testing.github.routing import Answer
from klepaas.testing.github.web import Web
from klepaas.testing.github.world import World

ENTERPRISE = "/api/v3"

_GIT = re.compile(r"/([^/]+/[^/]+?)(?:\.git)?/(info/refs|git-upload-pack|git-receive-pack)")


@dataclass(frozen=True)
class Requested:
    """One request that came. `path` is without `/api/v3` and the query; `status` 0 when there was no answer;
    `token` is `none`, `user`, `installation`, `app`, or `bad` (unknown, expired, or not looked at)."""

    method: str
    path: str
    status: int
    token: TokenKind
    counted: bool
    """Whether it was taken off a rate limit."""


Control = Callable[[Request], Awaitable[Response]]


class Application:
    def __init__(self, world: World, control: Control) -> None:
        self._world, self._control = world, control
        self.api = Api(world)
        self._git, self._web = GitHttp(world, self.api), Web(world)
        self.requests: list[Requested] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = scope["path"]  # as it is after decoding: a `#` in it begins no fragment
        if path == "/_control":
            await (await self._control(request))(scope, receive, send)
            return
        path = path.removeprefix(ENTERPRISE) or "/"
        fault = self._world.faults.next_for(request.method, path)
        if fault is not None and fault.kind in (Kind.HANG, Kind.CUT):
            if fault.kind is Kind.HANG:
                await self._hang(fault)
            self._write_down(request, path, 0, "bad", counted=False)
            await _cut(send)
            return
        response, caller = await self._respond(request, path, fault)
        loses = fault is not None and fault.kind is Kind.LOSE_ANSWER
        counted = "x-ratelimit-used" in response.headers and response.status_code != 304
        self._write_down(request, path, 0 if loses else response.status_code, caller.kind, counted=counted)
        await response(scope, receive, _swallow if loses else send)
        if loses:
            await _cut(send)

    async def _respond(self, request: Request, path: str, fault: Fault | None) -> tuple[Response, Caller]:
        if fault is not None and fault.kind is not Kind.LOSE_ANSWER:
            return self._failed(request, fault)
        if match := _GIT.fullmatch(path):
            return await self._git.respond(request, match[1], match[2])
        if request.url.path == path and self._is_page(request, path):
            return await self._web.respond(request), self._world.nobody
        return await self.api.respond(request, path)

    def _is_page(self, request: Request, path: str) -> bool:
        """Pages and the API share the root: a browser asks for HTML."""
        wants_html = "text/html" in request.headers.get("accept", "")
        return path.startswith(("/settings/", "/organizations/", "/apps/")) or wants_html

    def _failed(self, request: Request, fault: Fault) -> tuple[Response, Caller]:
        try:
            caller = self.api.caller(request.headers.get("authorization", ""))
        except Answer:
            caller = Caller("bad", "anonymous")
        if fault.kind is Kind.ERROR:
            return HTMLResponse("<html><body>Unicorn! · GitHub</body></html>", fault.status or 502), caller
        budget = self.api.limits.budget(caller.budget)
        if fault.kind is Kind.PRIMARY_LIMIT:
            reset = int(self._world.now().timestamp()) + (fault.retry_after_s or 60)
            return exceeded(caller, Budget(budget.limit, budget.limit, reset)).response(), caller
        words = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        wait = {"retry-after": str(fault.retry_after_s)} if fault.retry_after_s is not None else {}
        headers = {**budget.headers(), "x-github-request-id": request_id(), **wait}
        return JSONResponse({"message": words, "documentation_url": _LIMITS}, fault.status or 403, headers), caller

    async def _hang(self, fault: Fault) -> None:
        while any(other is fault for other in self._world.faults.requests):  # noqa: ASYNC110 - cleared from another thread
            await asyncio.sleep(0.05)

    def _write_down(self, request: Request, path: str, status: int, token: TokenKind, *, counted: bool) -> None:
        self.requests.append(Requested(request.method, path, status, token, counted))


_LIMITS = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"


async def _swallow(message: Message) -> None:
    """An answer that gets lost."""


async def _cut(send: Send) -> None:
    # ASGI has no word for it; uvicorn's `send` is a method of what holds the connection.
    getattr(send, "__self__").transport.abort()  # noqa: B009 - mypy knows no __self__ of a Callable
    # Until uvicorn has noticed, returning without an answer would be answered 500.
    await asyncio.sleep(0.01)
