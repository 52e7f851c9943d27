"""The HTTP door as one ASGI app."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.types import Receive, Scope, Send

from klepaas import __version__
from klepaas.interfaces.api import errors, examples
from klepaas.interfaces.api.body_limit import BodyLimit
from klepaas.interfaces.api.compat import hybrid
from klepaas.interfaces.api.door import Door, Guarded, Passes
from klepaas.interfaces.api.metrics import Metrics
from klepaas.interfaces.api.request_line import RequestLine
from klepaas.interfaces.api.v1 import (
    connections,
    deliveries,
    deployments,
    github_app,
    health,
    history,
    metrics,
    pipelines,
    projects,
    rollbacks,
    tokens,
)
from klepaas.interfaces.api.v1.parameters import PREFIX
from klepaas.interfaces.api.webhook import PATHS, WebhookDoor, described
from klepaas.operations.context import Context
from klepaas.operations.health import HealthReport
from klepaas.operations.intake import Intake
from klepaas.settings import ServerSettings

document = APIRouter(route_class=Guarded)

ROUTERS = (
    health.router,
    metrics.router,
    projects.router,
    pipelines.router,
    deployments.router,
    rollbacks.router,
    connections.router,
    tokens.router,
    github_app.router,
    deliveries.router,
    history.router,
    *hybrid.ROUTERS,
    document,
)
"""Every route there is, each under its full path: what the tenancy and scope walks of the tests go through."""


def create_app(
    context: Context, *, settings: ServerSettings, health: Callable[[], Awaitable[HealthReport]], intake: Intake
) -> FastAPI:
    """The app over one context. `health` is asked on every health check and must answer from memory."""
    # The routes as they were built with their functions: to include a router is to build each of its routes again, at
    # the first request, for a prefix and dependencies that none of ours is given.
    app = Api(
        routes=[route for router in ROUTERS for route in router.routes],
        title="klepaas",
        version=__version__,
        description="Takes a commit of a repository to a running, health-checked release, and back. "
        "Every request but health and version wants `Authorization: Bearer klp_…`; every error has one shape.",
        openapi_url=None,  # served by `document`, for callers with a token
        redirect_slashes=False,
    )
    counting = Metrics()
    app.state.door = Door(
        context=context, settings=settings, health=health, metrics=counting, passes=Passes(context), intake=intake
    )
    app.webhook = WebhookDoor(context=context, intake=intake, metrics=counting)
    errors.install(app)
    app.add_middleware(BodyLimit, limit_bytes=settings.max_body_bytes)
    app.add_middleware(RequestLine, metrics=counting)
    return app


class Api(FastAPI):
    """All routes, and before them the door of webhooks."""

    webhook: WebhookDoor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PATHS:
            await self.webhook(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


@document.get(f"{PREFIX}/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    """This API, described for programs."""
    app: FastAPI = request.app
    document = app.openapi()
    if "bearer" not in document["components"].setdefault("securitySchemes", {}):
        document["components"]["securitySchemes"]["bearer"] = {"type": "http", "scheme": "bearer"}
        document["security"] = [{"bearer": []}]
        for path in (f"{PREFIX}/health", f"{PREFIX}/version"):
            document["paths"][path]["get"]["security"] = []
        examples.restore(document["components"]["schemas"])
        document["components"]["schemas"] |= errors.error_schemas()
        document["paths"] |= described()
    return document
