"""The outermost layer: every request gets an id, one line in the log, a place in the metrics and safe headers."""

import re
import secrets
from time import perf_counter
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from klepaas.interfaces.api.errors import internal_error
from klepaas.interfaces.api.metrics import NO_ROUTE, Metrics

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,100}$")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""A page that needs other rules (the dashboard) sets its own."""


class RequestLine:
    """Pure ASGI: it looks at messages as they pass and holds none back, so streams stay streams."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send, self._metrics)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        with structlog.contextvars.bound_contextvars(request_id=answer.request_id):
            try:
                await self._app(scope, receive, answer.send)
                await answer.complete()
            except Exception:
                log.exception("request_failed", method=scope["method"], route=_route(scope))
                if answer.status is not None:
                    raise  # half an answer is out: only the connection's end can tell the caller
                await internal_error(answer.request_id)(scope, receive, answer.send)
            finally:
                answer.note()


class _Answer:
    """What is sent back to one request, seen on its way out."""

    def __init__(self, scope: Scope, send: Send, metrics: Metrics) -> None:
        self._scope, self._send, self._metrics = scope, send, metrics
        self._began = perf_counter()
        self._is_stream = False
        asked = Headers(scope=scope).get("x-request-id", "")
        self.request_id = asked if _REQUEST_ID.match(asked) else f"req_{secrets.token_hex(8)}"
        self.status: int | None = None
        self._is_complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)
            self._is_stream = headers.get("content-type", "").startswith("text/event-stream")
            if self._is_stream:
                self._count()
        elif message["type"] == "http.response.body":
            self._is_complete = not message.get("more_body", False)
        await self._send(message)

    async def complete(self) -> None:
        """End a stream that was ended from our side, as when klepaas stops: cut off, it would look like a fault."""
        if self._is_stream and not self._is_complete:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    def note(self) -> None:
        if not self._is_stream:
            self._count()
        log.log(
            10 if _route(self._scope) in {"/health", "/api/v1/health", "/metrics"} else 20,
            "request",
            method=self._scope["method"],
            route=_route(self._scope),
            status=self.status,
            took_ms=round((perf_counter() - self._began) * 1000, 1),
            actor=self._scope["state"].get("actor_label"),
        )

    def _count(self) -> None:
        method = self._scope["method"]
        self._metrics.answered(
            method=method if method in _METHODS else "other",
            route=_route(self._scope),
            status=self.status or 0,
            since=self._began,
        )


def _route(scope: Scope) -> str:
    """The route's template: ids of people's projects belong neither in metrics nor in the log."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", NO_ROUTE))
