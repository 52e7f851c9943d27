"""The container registry's front: bearer tokens as the specification of the registry's token authentication says."""

import base64
import binascii
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from klepaas.testing.ncp.image_store import refused
from klepaas.testing.ncp.world import World

TOKEN_LIFETIME = timedelta(minutes=5)

READS = ("GET", "HEAD")

_NAME = re.compile(r"/v2/(.+?)/(?:manifests|blobs|tags)/.*")
_TAGGED = re.compile(r"/v2/(.+)/manifests/([^/:]+)")


@dataclass(frozen=True)
class _Token:
    access: Mapping[str, frozenset[str]]
    """Image name → `pull`, `push`, `delete`."""
    expires_at: datetime


class Registry:
    def __init__(self, world: World) -> None:
        self._world = world
        self._tokens: dict[str, _Token] = {}

    async def respond(self, request: Request) -> Response:
        path = request.scope["path"]
        if path == "/token":
            return self._give_token(request)
        if path == "/v2":
            return Response(status_code=301, headers={"location": "/v2/"})
        if not path.startswith("/v2/"):
            return refused(404, "NAME_UNKNOWN")
        if refusal := self._refusal(request, path):
            return refusal
        tagged = _TAGGED.fullmatch(path)
        if tagged and request.method in READS and self._lags(tagged[1], tagged[2]):
            return refused(404, "MANIFEST_UNKNOWN")
        answer = await self._world.images.respond(request)
        if tagged and request.method == "PUT" and answer.status_code == 201:
            self._world.pushed[tagged[1], tagged[2]] = self._world.clock.now()
        return answer

    def _lags(self, name: str, tag: str) -> bool:
        at, lag = self._world.pushed.get((name, tag)), self._world.faults.lags.images
        return at is not None and self._world.clock.now() - at < timedelta(milliseconds=lag)

    def _refusal(self, request: Request, path: str) -> Response | None:
        match = _NAME.fullmatch(path)
        name = match[1] if match else ""
        action = "pull" if request.method in READS else "delete" if request.method == "DELETE" else "push"
        if path.partition("/blobs/uploads/")[1]:
            action = "push"
        kind, _, shown = request.headers.get("authorization", "").partition(" ")
        token = self._tokens.get(shown) if kind.lower() == "bearer" else None
        if token is None or token.expires_at <= self._world.clock.now():
            return self._ask(name, action, "")
        if name and action not in token.access.get(name, frozenset()):
            return self._ask(name, action, "insufficient_scope")
        return None

    def _ask(self, name: str, action: str, error: str) -> Response:
        wanted = {"pull": "pull", "push": "pull,push", "delete": "delete"}[action]
        host = self._world.registry_host
        words = [f'realm="http://{host}/token"', f'service="{host}"']
        words += [f'scope="repository:{name}:{wanted}"'] if name else []
        words += [f'error="{error}"'] if error else []
        headers = {"www-authenticate": "Bearer " + ",".join(words), "docker-distribution-api-version": "registry/2.0"}
        return refused(401, "UNAUTHORIZED", "authentication required", headers)

    def _give_token(self, request: Request) -> Response:
        if not self._knows(request.headers.get("authorization", "")):
            return refused(401, "UNAUTHORIZED", "authentication required", {"www-authenticate": 'Basic realm="ncr"'})
        if request.query_params.get("service") != self._world.registry_host:
            return refused(400, "UNSUPPORTED", "unknown service")
        access: dict[str, frozenset[str]] = {}
        for scope in " ".join(request.query_params.getlist("scope")).split():
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind == "repository" and name:
                access[name] = access.get(name, frozenset()) | {*actions.split(",")}
        value, now = secrets.token_urlsafe(24), self._world.clock.now()
        self._tokens[value] = _Token(access, now + TOKEN_LIFETIME)
        lifetime_s = int(TOKEN_LIFETIME.total_seconds())
        body = {"token": value, "access_token": value, "expires_in": lifetime_s, "issued_at": now.isoformat()}
        return Response(json.dumps(body), 200, media_type="application/json")

    def _knows(self, authorization: str) -> bool:
        user, password = basic(authorization)
        pair = self._world.pairs.get(user)
        return pair is not None and secrets.compare_digest(pair.secret_key.encode(), password.encode())


def basic(authorization: str) -> tuple[str, str]:
    """User and password of a `Basic` header; empty when it is none."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        return "", ""
    return user, password
