"""What every route may use: the context of operations, who asks, and how the process stands.

A route of the class `Guarded` wants a token. It is checked before the body is read, so that a stranger's body
costs nothing, and before anything else is said about the request."""

import time
from collections.abc import Awaitable, Callable, Coroutine
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

PASS_HOLDS_S = 10.0
"""How long an open stream trusts a token before it asks again; a revoked one sees nothing after that."""


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
    """Which tokens were good a moment ago, for streams that outlive the request they began with."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._good_at: dict[str, float] = {}

    async def is_good(self, token: str) -> bool:
        """Whether the token still opens the door, asked of the record at most every PASS_HOLDS_S."""
        now = time.monotonic()
        if now - self._good_at.get(token, float("-inf")) < PASS_HOLDS_S:
            return True
        self._good_at = {each: at for each, at in self._good_at.items() if now - at < PASS_HOLDS_S}
        self._good_at[token] = now  # asked once, not once for each of its thousand streams
        try:
            await tokens.authenticate(self._context, token)
        except NotAuthenticated:
            self._good_at.pop(token, None)
            return False
        return True


@dataclass(frozen=True)
class Pass:
    """One token among the passes."""

    passes: Passes
    token: str

    async def is_good(self) -> bool:
        return await self.passes.is_good(self.token)


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
