"""The whole stand-in as one ASGI application: which door, what goes wrong, what is written down, who answers."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Message, Receive, Scope, Send

from klepaas.testing.ncp import source_build, source_commit, source_deploy, source_pipeline
from klepaas.testing.ncp.answers import Answer, gateway_error, no_such_url, permission_denied
from klepaas.testing.ncp.bodies import json_of
from klepaas.testing.ncp.faults import Fault, Kind
from klepaas.testing.ncp.git import Git
from klepaas.testing.ncp.image_store import refused
from klepaas.testing.ncp.kubernetes import Kubernetes, Refused
from klepaas.testing.ncp.registry import Registry
from klepaas.testing.ncp.routing import Asked, Routes
from klepaas.testing.ncp.signature import signer
from klepaas.testing.ncp.world import Repository, World


@dataclass(frozen=True)
class Requested:
    """One request that came. `status` 0 when there was no answer; `at_s` by the monotonic clock; `error` is the
    `errorCode` of an answer that has one."""

    door: str
    method: str
    path: str
    query: str
    status: int
    error: str
    at_s: float


Control = Callable[[Request], Awaitable[Response]]


class Application:
    def __init__(self, world: World, doors: Mapping[int, str], nks: Routes, control: Control) -> None:
        """`doors`: port → door."""
        self._world, self._doors, self._control = world, doors, control
        self._routes = {
            "sourcecommit": source_commit.ROUTES,
            "sourcebuild": source_build.ROUTES,
            "sourcedeploy": source_deploy.ROUTES,
            "sourcepipeline": source_pipeline.ROUTES,
            "nks": nks,
        }
        self._git, self._registry, self._kubernetes = Git(world, self.pushed), Registry(world), Kubernetes(world)
        self.requests: list[Requested] = []

    async def pushed(self, repository: Repository, branches: set[str]) -> None:
        source_pipeline.trigger(self._world, repository, branches)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        door, path = self._doors[scope["server"][1]], scope["path"]
        if path == "/_control":
            await (await self._control(request))(scope, receive, send)
            return
        fault = self._world.faults.next_for(door, request.method, path)
        if fault is not None and fault.kind in (Kind.HANG, Kind.CUT):
            if fault.kind is Kind.HANG:
                await self._hang(fault)
            self._write_down(request, door, 0)
            await _cut(send)
            return
        response = await self._respond(request, door, fault)
        if fault is not None and fault.kind is Kind.SLOW:
            await asyncio.sleep(fault.delay_ms / 1000)
        loses = fault is not None and fault.kind is Kind.LOSE_ANSWER
        self._write_down(request, door, 0 if loses else response.status_code, response)
        response.headers["date"] = formatdate(self._gateway_ms() / 1000, usegmt=True)
        await response(scope, receive, _swallow if loses else send)
        if loses:
            await _cut(send)

    async def _respond(self, request: Request, door: str, fault: Fault | None) -> Response:
        if fault is not None and fault.kind not in (Kind.LOSE_ANSWER, Kind.SLOW):
            return _failed(door, fault)
        if door == "git":
            return await self._git.respond(request)
        if door == "registry":
            return await self._registry.respond(request)
        if door == "kubernetes":
            return await self._kubernetes.respond(request, now_ms=self._gateway_ms())
        try:
            return await self._signed(request, self._routes[door])
        except Answer as answer:
            return answer.response()

    async def _signed(self, request: Request, routes: Routes) -> Response:
        scope = request.scope
        target = scope["raw_path"].decode("latin-1")
        if query := scope["query_string"].decode("latin-1"):
            target += f"?{query}"
        now_ms = self._gateway_ms()
        caller = signer(request.method, target, request.headers, self._world.pairs, now_ms=now_ms)
        handler, parts = routes.find(request.method, scope["path"])
        return await handler(Asked(self._world, caller, request, parts, await json_of(request)))

    def _gateway_ms(self) -> int:
        return int((time.time() + self._world.faults.clock_skew_s) * 1000)

    async def _hang(self, fault: Fault) -> None:
        while any(other is fault for other in self._world.faults.requests):  # noqa: ASYNC110 - cleared from another thread
            await asyncio.sleep(0.05)

    def _write_down(self, request: Request, door: str, status: int, response: Response | None = None) -> None:
        path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
        error = _error(response) if response is not None and status else ""
        self.requests.append(Requested(door, request.method, path, query, status, error, time.monotonic()))


def plain(request: Requested) -> dict[str, object]:
    return dataclasses.asdict(request)


def _failed(door: str, fault: Fault) -> Response:
    """What a fault says instead of an answer."""
    wait = {"retry-after": str(fault.retry_after_s)} if fault.retry_after_s is not None else {}
    status = {Kind.THROTTLE: 429, Kind.DENY: 403, Kind.NOT_JSON: 200}.get(fault.kind, fault.status or 503)
    if fault.kind is Kind.NOT_JSON:
        return HTMLResponse("<html><body>A page in between</body></html>", 200)
    if door == "registry":
        return refused(status, {403: "DENIED", 429: "TOOMANYREQUESTS"}.get(status, "UNAVAILABLE"), headers=wait)
    if door == "kubernetes":
        return Refused(status, "Forbidden" if status == 403 else "InternalError", "it was told to fail").response()
    if door == "git":
        return Response("it was told to fail", status, wait, media_type="text/plain")
    if fault.kind is Kind.DENY:
        return permission_denied().response()
    if status == 404:
        return no_such_url().response()
    return gateway_error(status, fault.code, wait).response()


def _error(response: Response) -> str:
    if response.status_code < 400:
        return ""
    try:
        # What is streamed has no body here.
        return str(json.loads(bytes(getattr(response, "body", b"")))["error"]["errorCode"])
    except (ValueError, KeyError, TypeError):
        return ""


async def _swallow(message: Message) -> None:
    """An answer that gets lost."""


async def _cut(send: Send) -> None:
    # ASGI has no word for it; uvicorn's `send` is a method of what holds the connection.
    getattr(send, "__self__").transport.abort()  # noqa: B009 - mypy knows no __self__ of a Callable
    # Until uvicorn has noticed, returning without an answer would be answered 500.
    await asyncio.sleep(0.01)
