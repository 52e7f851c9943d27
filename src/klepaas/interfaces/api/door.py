"""What every route may use: the context of operations, who asks, and how the process stands.

A route of the class `Guarded` wants a token. It is checked before the body is read, so that a stranger's body
costs nothing, and before anything else is said about the request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.responses import Response

from klepaas.domain.actor import Actor
from klepaas.errors import Invalid, NotAuthenticated, NotFound, Unavailable
from klepaas.interfaces.api.metrics import Metrics
from klepaas.operations import tokens
from klepaas.operations.context import Context
from klepaas.operations.health import HealthReport
from klepaas.operations.intake import Intake
from klepaas.settings import ServerSettings

LOOK_EVERY_S = 5.0
"""How long an open stream trusts its token before it is looked at again; a revoked one sees nothing after that."""


@dataclass(frozen=True, kw_only=True)
class Door:
    """The parts the API was built with."""

    context: Context
    settings: ServerSettings
    health: Callable[[], Awaitable[HealthReport]]
    metrics: Metrics
    passes: "Passes"
    intake: Intake


class Passes:
    """The tokens of open streams, which outlive the request they began with.

    Each is looked at every LOOK_EVERY_S, once for all its streams: a thousand of them cost one timer and one read."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: dict[str, _Stays] = {}

    @asynccontextmanager
    async def stay(self, token: str) -> AsyncIterator[None]:
        """What is done inside ends when the token does, also while it waits for something that does not come."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                stays = self._enter(token, limit)
                try:
                    yield
                finally:
                    self._leave(token, stays, limit)
        except TimeoutError:
            if not limit.expired():
                raise

    def _enter(self, token: str, limit: asyncio.Timeout) -> "_Stays":
        stays = self._open.get(token)
        if stays is None:
            stays = self._open[token] = _Stays()
            stays.looking = asyncio.create_task(self._look(token, stays))
        stays.limits.add(limit)
        return stays

    def _leave(self, token: str, stays: "_Stays", limit: asyncio.Timeout) -> None:
        stays.limits.discard(limit)
        if not stays.limits:
            self._forget(token, stays)
            if stays.looking is not None:
                stays.looking.cancel()

    async def _look(self, token: str, stays: "_Stays") -> None:
        try:
            with suppress(NotAuthenticated):
                while True:
                    await asyncio.sleep(LOOK_EVERY_S)
                    with suppress(Unavailable):  # the record is away, and what streams show comes from it: look again
                        await tokens.authenticate(self._context, token)
        finally:
            # Whatever ended the looking: no stream stays open with nobody who looks. One that comes now is a new stay.
            self._forget(token, stays)
            for limit in stays.limits:
                limit.reschedule(0)  # a moment that is past

    def _forget(self, token: str, stays: "_Stays") -> None:
        if self._open.get(token) is stays:
            del self._open[token]


class _Stays:
    """The open streams of one token, and who looks at it."""

    def __init__(self) -> None:
        self.limits: set[asyncio.Timeout] = set()
        self.looking: asyncio.Task[None] | None = None


@dataclass(frozen=True)
class Pass:
    """One token among the passes."""

    passes: Passes
    token: str

    def stay(self) -> AbstractAsyncContextManager[None]:
        return self.passes.stay(self.token)


class Guarded(APIRoute):
    """A route that wants a token and knows its own parameters."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        known = _query_names(self.dependant)

        async def guarded(request: Request) -> Response:
            await _authenticate(request)
            _refuse_what_no_name_holds(request, known)
            return await answer(request)

        return guarded


async def _door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


async def _context(request: Request) -> Context:
    door: Door = request.app.state.door
    return door.context


async def _actor(request: Request) -> Actor:
    actor: Actor = request.state.actor
    return actor


async def _pass(request: Request) -> Pass:
    return Pass(request.app.state.door.passes, _token(request))


async def _wants_stream(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


TheDoor = Annotated[Door, Depends(_door)]
TheContext = Annotated[Context, Depends(_context)]
CurrentActor = Annotated[Actor, Depends(_actor)]
CurrentPass = Annotated[Pass, Depends(_pass)]
WantsStream = Annotated[bool, Depends(_wants_stream)]
"""Whether the caller asked for Server-Sent Events by `Accept: text/event-stream`."""


async def _authenticate(request: Request) -> None:
    try:
        actor = await tokens.authenticate(request.app.state.door.context, _token(request))
    except Unavailable as error:
        # Said to somebody we do not know yet: nothing of the machinery behind.
        raise Unavailable(
            "klepaas cannot check the token now: its database does not answer.", hint="Try again in a moment."
        ) from error
    request.state.actor = actor
    request.state.actor_label = actor.label


def _token(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _refuse_what_no_name_holds(request: Request, known: frozenset[str]) -> None:
    """Zero bytes, which no database takes, and parameters nobody reads: a typing error in the name of the
    environment must not show another environment."""
    if any("\0" in value for value in request.path_params.values()):
        raise NotFound(f"There is nothing at {request.url.path[:200]!r}.")
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise Invalid(
                f"There is no parameter {name[:80]!r} here.",
                hint=f"Possible: {', '.join(sorted(known))}." if known else "This request takes none.",
            )
        if "\0" in value:
            raise Invalid(f"The parameter {name!r} holds a zero byte.")


def _query_names(dependant: Dependant) -> frozenset[str]:
    own = {field.alias for field in dependant.query_params}
    return frozenset(own.union(*(_query_names(each) for each in dependant.dependencies)))
