"""One request to the REST API, from the credential it shows to the headers of its answer."""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from klepaas.testing.github.app_jwt import BadToken
from klepaas.testing.github.callers import Caller
from klepaas.testing.github.limits import Budget, Limits
from klepaas.testing.github.routes import ROUTES
from klepaas.testing.github.routing import Answer, Asked
from klepaas.testing.github.shapes import Json
from klepaas.testing.github.world import World

VERSIONS = ("2022-11-28", "2026-03-10")
"""Without the header `X-GitHub-Api-Version` the first."""

GONE = {"2022-11-28": frozenset[str](), "2026-03-10": frozenset({"merge_commit_sha", "assignee", "has_downloads"})}
"""Fields a version leaves away. Source: GitHub's page on breaking changes of the REST API."""


class Api:
    def __init__(self, world: World) -> None:
        self._world = world
        self.limits = Limits(world.now)

    async def respond(self, request: Request, path: str) -> tuple[Response, Caller]:
        """`path` is without `/api/v3`. The caller's kind is `bad` when the credential is not good."""
        caller, response = Caller("bad", "anonymous"), Response()
        try:
            caller = self.caller(request.headers.get("authorization", ""))
            budget = self.limits.budget(caller.budget)
            response = await self._within(budget, caller, request, path)
        except Answer as no:
            budget = self.limits.budget(caller.budget)
            response = no.response()
        self._finish(request, response, caller, budget, path)
        return response, caller

    def caller(self, authorization: str) -> Caller:
        """Who shows this header. Errors: Answer 401."""
        value = token_in(authorization)
        if not authorization:
            return self._world.nobody
        if value.count(".") == 2 and value.startswith("ey"):
            try:
                return self._world.app_with(value)
            except BadToken as error:
                raise Answer(401, str(error)) from None
        caller = self._world.caller_with(value)
        if caller is None:
            raise Answer(401, "Bad credentials")
        return caller

    async def _within(self, budget: Budget, caller: Caller, request: Request, path: str) -> Response:
        if path == "/rate_limit":
            return _overview(budget)
        if budget.remaining == 0:
            raise exceeded(caller, budget)
        version = request.headers.get("x-github-api-version", VERSIONS[0])
        if version not in VERSIONS:
            raise Answer(400, f'The "{version}" is not a supported version of the REST API.')
        handler, parts = ROUTES.find("GET" if request.method == "HEAD" else request.method, path)
        asked = Asked(self._world, caller, request, path, parts, await _body(request))
        return _without(GONE[version], await handler(asked), path)

    def _finish(self, request: Request, response: Response, caller: Caller, budget: Budget, path: str) -> None:
        if request.method in ("GET", "HEAD") and response.status_code == 200:
            self._tag(request, response)
        free = path == "/rate_limit" or (response.status_code == 304 and caller.kind != "none")
        if not free and budget.remaining:
            budget.used += 1
        version = request.headers.get("x-github-api-version", VERSIONS[0])
        response.headers.update(
            {
                **budget.headers(),
                "server": "github.com",
                "x-github-media-type": "github.v3; format=json",
                "x-github-api-version-selected": version,
                "x-github-request-id": request_id(),
                "vary": "Accept, Authorization, Cookie, X-GitHub-OTP",
                "cache-control": "private, max-age=60, s-maxage=60",
            }
        )

    def _tag(self, request: Request, response: Response) -> None:
        # GitHub's tags differ from token to token, so a new token of the same installation starts anew
        # (its support says so in eclipse-csi/otterdog issue 201).
        shown = request.headers.get("authorization", "").encode()
        tag = f'W/"{hashlib.sha256(bytes(response.body) + shown).hexdigest()}"'
        known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
        if tag.removeprefix("W/") in known:
            response.status_code, response.body = 304, b""
            for name in ("content-length", "content-type"):
                if name in response.headers:
                    del response.headers[name]
        response.headers["etag"] = tag


def token_in(authorization: str) -> str:
    """The token of a `Bearer`, `token` or `Basic` header; of the last it is the password, whoever the user."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() != "basic":
        return value.strip()
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        return ""
    return password or user


def exceeded(caller: Caller, budget: Budget) -> Answer:
    whom = {"installation": f"installation ID {caller.installation_id}", "none": "127.0.0.1"}.get(
        caller.kind, f"user ID {caller.account.id if caller.account else 0}"
    )
    return Answer(403, f"API rate limit exceeded for {whom}.", headers=budget.headers())


def request_id() -> str:
    return ":".join(secrets.token_hex(n).upper() for n in (2, 3, 4, 4, 4))


def _overview(budget: Budget) -> Response:
    search: Json = {**budget.json(), "limit": 30, "used": 0, "remaining": 30}
    rates = {
        "core": budget.json(),
        "search": search,
        "graphql": {**budget.json(), "used": 0, "remaining": budget.limit},
    }
    return JSONResponse({"resources": rates, "rate": budget.json()})


async def _body(request: Request) -> Json:
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise Answer(400, "Problems parsing JSON") from None
    if not isinstance(body, dict):
        raise Answer(400, "Body should be a JSON object")
    return body


def _without(gone: frozenset[str], response: Response, path: str) -> Response:
    # What webhooks said does not change with the version somebody reads it with.
    if not gone or not response.body or "/deliveries" in path:
        return response
    headers = {
        name: value for name, value in response.headers.items() if name not in ("content-length", "content-type")
    }
    return JSONResponse(_pruned(json.loads(bytes(response.body)), gone), response.status_code, headers)


def _pruned(value: Any, gone: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _pruned(inner, gone) for name, inner in value.items() if name not in gone}
    return [_pruned(inner, gone) for inner in value] if isinstance(value, list) else value
