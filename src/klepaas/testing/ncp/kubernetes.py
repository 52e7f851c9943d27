"""The cluster's API server, as far as rollouts are asked about: objects read, made, changed and removed.

Callers show the token `ncp-iam-authenticator` makes: a signed request to IAM, in Base64. Changes by PATCH are merged
(RFC 7386, also for the strategic and the server-side kind); there is no watch."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from klepaas.testing.ncp.answers import Answer
from klepaas.testing.ncp.cluster import KINDS, Json, Key, Unfit, key_of, resolver
from klepaas.testing.ncp.signature import KEY, SIGNATURES, TIMESTAMP, signer
from klepaas.testing.ncp.world import World

TOKEN_PREFIX = "k8s-ncp-v1."

PLURALS = {(version, plural): kind for kind, (version, plural) in KINDS.items()}

_PATH = re.compile(
    r"/(?:api|apis)/(?P<version>v1|[a-z0-9.]+/v\d+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?P<status>/status)?"
)


class Refused(Exception):
    def __init__(self, code: int, reason: str, words: str) -> None:
        super().__init__(words)
        self.code, self.reason = code, reason

    def response(self) -> Response:
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        return _said({**body, "message": str(self), "reason": self.reason, "code": self.code}, self.code)


class Kubernetes:
    def __init__(self, world: World) -> None:
        self._world, self._cluster = world, world.cluster

    async def respond(self, request: Request, *, now_ms: int) -> Response:
        try:
            self._authenticate(request, now_ms)
            return await self._answer(request)
        except Refused as refused:
            return refused.response()
        except Unfit as error:
            return Refused(422, "Invalid", str(error)).response()

    def _authenticate(self, request: Request, now_ms: int) -> None:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            if not shown.startswith(TOKEN_PREFIX):
                raise ValueError
            token = json.loads(base64.b64decode(shown.removeprefix(TOKEN_PREFIX), validate=True))
            stage = "v1" if self._cluster.region == "KR" else f"{self._cluster.region.lower()}-v1"
            if token["path"] != f"/iam/{stage}/user?clusterUuid={self._cluster.uuid}":
                raise ValueError
            said = {TIMESTAMP: token["timestamp"], KEY: token["accessKey"], SIGNATURES[0]: token["signature"]}
            signer("GET", token["path"], said, self._world.pairs, now_ms=now_ms)
        except (ValueError, KeyError, TypeError, binascii.Error, Answer):
            raise Refused(401, "Unauthorized", "Unauthorized") from None

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        if path == "/version":
            return _said({"major": "1", "minor": "29", "gitVersion": "v1.29.9", "platform": "linux/amd64"})
        match = _PATH.fullmatch(path)
        kind = PLURALS.get((match["version"], match["plural"])) if match else None
        if match is None or kind is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        namespace = match["namespace"] or ""
        if match["name"] is None:
            return await self._on_many(request, kind, namespace)
        return await self._on_one(request, (kind, "" if kind == "Namespace" else namespace, match["name"]))

    async def _on_many(self, request: Request, kind: str, namespace: str) -> Response:
        if request.method == "POST":
            made = _of_kind(await _json(request), kind, namespace)
            if key_of(made) in self._cluster.objects:
                raise Refused(409, "AlreadyExists", f'"{made["metadata"]["name"]}" already exists')
            return _said(await self._apply(made), 201)
        if request.method != "GET":
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        wanted = request.query_params.get("labelSelector", "")
        found = [
            one
            for (known, space, _), one in self._cluster.objects.items()
            if known == kind and namespace in ("", space) and _selected(one, wanted)
        ]
        about = {"kind": f"{kind}List", "apiVersion": KINDS[kind][0], "metadata": {"resourceVersion": "1"}}
        return _said({**about, "items": found})

    async def _on_one(self, request: Request, key: Key) -> Response:
        kind, namespace, name = key
        found = self._cluster.objects.get(key)
        applies = request.method == "PATCH" and "apply-patch" in request.headers.get("content-type", "")
        if found is None and not applies:
            raise Refused(404, "NotFound", f'{KINDS[kind][1]} "{name}" not found')
        if request.method == "GET" and found is not None:
            return _said(found)
        if request.method == "DELETE":
            self._cluster.remove(key)
            return _said({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        if request.method not in ("PUT", "PATCH"):
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        body = await _json(request)
        changed = body if request.method == "PUT" else _merged(found or {}, body)
        return _said(await self._apply(_of_kind(changed, kind, namespace)), 200 if found else 201)

    async def _apply(self, wanted: Json) -> Json:
        made = self._cluster.apply(wanted)
        if made["kind"] == "Deployment":
            resolve = resolver(self._world.registry_host, self._world.images.digest)
            await self._cluster.roll_out(key_of(made), resolve)
        return made


def _of_kind(wanted: Json, kind: str, namespace: str) -> Json:
    """With what the path says. Errors: Refused when they differ."""
    about = wanted.get("metadata") or {}
    if wanted.get("kind", kind) != kind or about.get("namespace", namespace) != namespace:
        raise Refused(400, "BadRequest", "the object does not match the path")
    spaced = {"namespace": namespace} if namespace and kind != "Namespace" else {}
    return {"apiVersion": KINDS[kind][0], "kind": kind, **wanted, "metadata": {**about, **spaced}}


async def _json(request: Request) -> Json:
    raw = await request.body()
    try:
        if "yaml" in request.headers.get("content-type", ""):
            from ruamel.yaml import YAML

            found = YAML(typ="safe", pure=True).load(raw.decode())
        else:
            found = json.loads(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "BadRequest", "the object provided is unrecognized")
    return found


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(new, Mapping):
        return new
    base = dict(old) if isinstance(old, Mapping) else {}
    for name, value in new.items():
        if value is None:
            base.pop(name, None)
        else:
            base[name] = _merged(base.get(name), value)
    return base


def _selected(found: Json, selector: str) -> bool:
    labels = found["metadata"].get("labels") or {}
    pairs = [part.replace("==", "=").partition("=") for part in selector.split(",") if part]
    return all(labels.get(name.strip()) == value.strip() for name, _, value in pairs)


def _said(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body, default=str), status, media_type="application/json")
