"""The door GitHub knocks at: every request is proven by its signature, none by a token.

It stands before the app and all that surrounds it: deliveries come by the thousand, and what other requests need
(matching 40 routes, parameters, models, a line in the log) would cost more than all that is done here."""

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any

import structlog
from pydantic_core import to_json
from starlette.types import Message, Receive, Scope, Send

from klepaas.domain.github import Received
from klepaas.domain.webhook_signature import Signature, Unsigned, WrongSignature, signature
from klepaas.errors import BodyTooLarge, Invalid, KlepaasError, NetworkTimeout, WrongKey
from klepaas.interfaces.api.errors import status_of
from klepaas.interfaces.api.metrics import Metrics
from klepaas.interfaces.api.request_line import SAFE_HEADERS
from klepaas.operations.context import Context
from klepaas.operations.intake import Intake

log = structlog.get_logger()

PATHS = ("/api/v1/cicd/webhook", "/api/v1/github/webhook", "/webhook")
"""The first is the one the older systems had; the others were its siblings."""

LARGEST_BODY_BYTES = 25 * 2**20
"""GitHub sends no payload that is larger."""
SMALL_BODY_BYTES = 64 * 1024
"""Nearly all of them. One of these that does not come costs no more than its connection, and is not timed."""
LARGE_BODY_BYTES = 2**20
LARGE_ONES_AT_ONCE = 4
"""Whoever has no secret can make us hold this many large bodies, and no more."""
BODY_WITHIN_S = 10.0
"""GitHub gives up after as long."""

_STATUSES: Mapping[type[KlepaasError], int] = {Unsigned: 400, WrongSignature: 401, NetworkTimeout: 408, WrongKey: 503}
"""Where they differ from those of other routes; what cannot be read is 400 here."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,72}")
_KEPT = frozenset(
    {
        b"content-type",
        b"user-agent",
        b"x-github-delivery",
        b"x-github-event",
        b"x-github-enterprise-host",
        b"x-github-enterprise-version",
        b"x-github-hook-id",
        b"x-github-hook-installation-target-id",
        b"x-github-hook-installation-target-type",
    }
)
_Header = tuple[bytes, bytes]
_HEADERS: Sequence[_Header] = (
    (b"content-type", b"application/json"),
    *((name.lower().encode(), value.encode()) for name, value in SAFE_HEADERS.items()),
)
_LONGEST_HEADER = 200
_LONGEST_EVENT = 80


def described() -> dict[str, Any]:
    """For OpenAPI, which knows the routes and not what stands before them."""
    words = {400: "Unsigned, without an event, or no JSON.", 401: "The signature is wrong.", 413: "Above 25 MiB."}
    operation = {
        "tags": ["github"],
        "summary": "Webhook",
        "description": "Deliveries of GitHub, proven by `X-Hub-Signature-256`. Stored before they are answered; the "
        "same `X-GitHub-Delivery` again is answered with what the first one led to.",
        "operationId": "webhook",
        "security": [],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {
            "200": {
                "description": "What the delivery led to.",
                "content": {"application/json": {"schema": {"type": "object"}, "examples": _answers()}},
            },
            **{str(status): {"description": word} for status, word in words.items()},
        },
    }
    return {PATHS[0]: {"post": operation}}


def _answers() -> dict[str, Any]:
    """Of a project that is deployed where klepaas runs; as examples."""
    deployment = {
        "deployment_id": "dep_7c1e2d3b4a596877",
        "deploy_history_id": 12,
        "project_id": "prj_0f9d1c2b3a495867",
        "environment": "production",
        "repository": "shop",
        "commit": "9fceb02",
        "repeated": False,
    }
    return {
        "deployed": {"value": {"status": "triggered", "deploy": deployment, "deployments": [deployment]}},
        "not deployed": {"value": {"status": "skipped", "reason": "auto_deploy_disabled"}},
        "not decided yet": {
            "value": {"status": "accepted", "delivery_id": "72d3162e-cc78-11e3-81ab-4c9367dc0958"},
        },
    }


class WebhookDoor:
    def __init__(self, *, context: Context, intake: Intake, metrics: Metrics) -> None:
        self._context, self._intake, self._metrics = context, intake, metrics
        self._large = asyncio.Semaphore(LARGE_ONES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        status, answer, more = await self._met(scope, receive)
        body = to_json(answer)
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*_HEADERS, length, *more]})
        await send({"type": "http.response.body", "body": body})
        self._metrics.answered(method="POST", route=scope["path"], status=status, since=began)

    async def _met(self, scope: Scope, receive: Receive) -> tuple[int, Mapping[str, Any], Sequence[_Header]]:
        """Status, body and further headers. What is taken in is to be found in the inbox, and not in the log."""
        if scope["method"] != "POST":
            return 405, {"detail": "Method Not Allowed"}, [(b"allow", b"POST")]
        try:
            async with AsyncExitStack() as held:
                return 200, await self._take(scope, receive, held), ()
        except KlepaasError as error:
            status = _status_of(error)
            log.info("webhook_refused", route=scope["path"], status=status, reason=error.message)
            # What is still on its way is not waited for.
            is_unread = isinstance(error, BodyTooLarge | NetworkTimeout)
            return status, {"detail": error.message}, [(b"connection", b"close")] if is_unread else ()
        except Exception:
            log.exception("webhook_failed", route=scope["path"])
            return 500, {"detail": "Something went wrong inside klepaas."}, ()

    async def _take(self, scope: Scope, receive: Receive, held: AsyncExitStack) -> Mapping[str, Any]:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, value)
        secrets = await self._context.github_app.webhook_secrets()
        expected = signature(secrets, headers.get(b"x-hub-signature-256"))
        body = await self._body(headers, receive, held)
        await _check(expected, body)
        return await self._intake.receive(self._received(headers, body))

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, held: AsyncExitStack) -> bytes:
        """All of it. Errors: BodyTooLarge as soon as that is known, NetworkTimeout."""
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced[:20]) > LARGEST_BODY_BYTES:
            raise _too_large()
        if announced.isdigit() and int(announced[:20]) <= SMALL_BODY_BYTES:
            return await self._read(receive, held)
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                return await self._read(receive, held)
        except TimeoutError as error:
            raise NetworkTimeout("The body did not arrive in time.") from error

    async def _read(self, receive: Receive, held: AsyncExitStack) -> bytes:
        message = await receive()
        first = _part(message, 0)
        if not message.get("more_body", False):
            return first
        parts, size, is_large = [first], len(first), False
        while message.get("more_body", False):
            message = await receive()
            parts.append(_part(message, size))
            size += len(parts[-1])
            if size > LARGE_BODY_BYTES and not is_large:
                await held.enter_async_context(self._large)
                is_large = True
        return b"".join(parts)

    def _received(self, headers: Mapping[bytes, bytes], body: bytes) -> Received:
        event = headers.get(b"x-github-event", b"").decode("latin-1").strip()[:_LONGEST_EVENT]
        if not event:
            raise Invalid("Missing event type header")
        delivery_id = headers.get(b"x-github-delivery", b"").decode("latin-1")
        if not _ID.fullmatch(delivery_id):
            # The same one again is still the same one.
            delivery_id = f"sha256-{hashlib.sha256(event.encode() + b' ' + body).hexdigest()}"
        kept = {
            name.decode(): value[:_LONGEST_HEADER].decode("latin-1") for name, value in headers.items() if name in _KEPT
        }
        return Received(id=delivery_id, event=event, headers=kept, body=body, received_at=self._context.clock.now())


def _part(message: Message, before: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise Invalid("The body broke off.")
    part: bytes = message.get("body", b"")
    if before + len(part) > LARGEST_BODY_BYTES:
        raise _too_large()
    return part


async def _check(expected: Signature, body: bytes) -> None:
    if len(body) > LARGE_BODY_BYTES:
        await asyncio.to_thread(expected.check, body)
    else:
        expected.check(body)


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The payload is larger than {LARGEST_BODY_BYTES} bytes.")


def _status_of(error: KlepaasError) -> int:
    own = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), None)
    if own is not None:
        return own
    return 400 if type(error) is Invalid else status_of(error)
