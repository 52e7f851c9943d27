"""A small real HTTP server that speaks the API's contract about a scripted world, for tests of the command line.

The name of a project says what becomes of its deployments; see `OUTCOMES`."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TOKEN = "klp_0011223344556677_test-token-of-the-double-0000000000000000000"
AT = "2026-01-05T09:00:00Z"
SHA = "9fceb02d0ae598e95dc970b74767f19372d61af8"
DIGEST = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
URL = "http://127.0.0.1:20000"

Json = dict[str, Any]


def _stage(name: str, took_s: float) -> list[Json]:
    return [
        {"kind": "stage.started", "stage": name, "fence": 1},
        {"kind": "stage.finished", "stage": name, "took_s": took_s, "next_step": "", "detail": ""},
    ]


_BEGINNING: list[Json] = [
    {"kind": "deployment.queued", "branch": "main"},
    {"kind": "deployment.claimed", "node": "n1", "fence": 1},
    *_stage("fetch", 0.4),
    *_stage("build", 12.1),
]
_FAILURE = {
    "stage": "verify",
    "code": "not_healthy",
    "message": "The app listens on 127.0.0.1 only.",
    "hint": "Listen on 0.0.0.0.",
    "evidence": {"last_lines": ["booting", "listening on 127.0.0.1:8080"], "probes": 31},
}

OUTCOMES: dict[str, tuple[str, list[Json]]] = {
    "good": ("succeeded", [{"kind": "traffic.shifted"}, {"kind": "deployment.succeeded"}]),
    "bad": (
        "failed",
        [{"kind": "stage.failed", "stage": "verify", "message": "It fails."}, {"kind": "deployment.failed"}],
    ),
    "returned": (
        "rolled_back_automatically",
        [{"kind": "traffic.returned", "reason": "2 requests failed"}, {"kind": "deployment.rolled_back_automatically"}],
    ),
    "stopped": ("cancelled", [{"kind": "deployment.cancelled", "actor": "token laptop"}]),
    "overtaken": ("superseded", [{"kind": "deployment.superseded", "by": "dep_newer"}]),
    "vanished": ("unknown", [{"kind": "deployment.outcome_unknown", "stage": "promote", "message": "No engine."}]),
    "settled": (
        "succeeded",
        [
            {"kind": "deployment.outcome_unknown", "stage": "promote", "message": "No engine."},
            {"kind": "deployment.claimed", "node": "n2", "fence": 2},
            {"kind": "deployment.succeeded"},
        ],
    ),
    "endless": ("running", []),
}
"""Project → how its deployments stand at the end, and their last events."""

REFUSALS: dict[str, tuple[int, str]] = {
    "missing": (404, "not_found"),
    "imageless": (409, "image_missing"),
    "forbidden": (403, "not_allowed"),
    "locked": (409, "conflict"),
    "malformed": (422, "invalid"),
    "away": (503, "engine_unavailable"),
    "broken": (500, "internal_error"),
}
"""Project → the status and code that every request about it gets."""


@dataclass
class World:
    """What the double knows, and what it was asked."""

    deployments: dict[str, Json] = field(default_factory=dict)
    registered: list[Json] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    drop_streams: int = 0
    """So many event streams break off after their third event."""
    lose_answers: int = 0
    """So many accepted deployments are never answered."""
    releases: int = 3
    url: str = ""

    def begin(self, project: str, key: str, *, is_rollback: bool = False) -> tuple[Json, bool]:
        for known in self.deployments.values():
            if key and known["_key"] == key:
                return known, False
        deployment = deployment_of(project, f"dep_{project}{len(self.deployments)}", is_rollback=is_rollback)
        self.deployments[deployment["id"]] = deployment | {"_key": key}
        return self.deployments[deployment["id"]], True

    def sent(self, method: str, path: str) -> list[Any]:
        return [body for m, p, body in self.requests if (m, p) == (method, path)]


def deployment_of(project: str, deployment_id: str, *, is_rollback: bool = False) -> Json:
    status = OUTCOMES.get(project, OUTCOMES["good"])[0]
    went_wrong = status in {"failed", "rolled_back_automatically", "unknown"}
    return {
        "id": deployment_id,
        "number": 12,
        "project": {"id": f"prj_{project}", "name": project},
        "environment": "production",
        "status": status,
        "stage": "promote",
        "branch": "main",
        "commit_sha": SHA,
        "commit_message": "Show prices with tax\n\nand more",
        "commit_author": "김하늘",
        "trigger": "manual",
        "actor": "token laptop",
        "is_rollback": is_rollback,
        "rollback_of": None,
        "release_id": "rel_1",
        "image_digest": DIGEST,
        "image_ref": "klepaas/shop:9fceb02",
        "created_at": AT,
        "started_at": "2026-01-05T09:00:00Z",
        "live_at": "2026-01-05T09:00:07.4Z",
        "finished_at": "2026-01-05T09:00:17.9Z",
        "duration_s": 17.9,
        "stages": [{"stage": "fetch", "started_at": AT, "finished_at": AT, "took_s": 0.4, "detail": "shallow"}],
        "failure": _FAILURE if went_wrong else None,
        "superseded_by": "dep_newer" if status == "superseded" else None,
        "cancelled_by": "token laptop" if status == "cancelled" else None,
        "evidence": {"certificate": {"requests": 240, "failed": 0, "p99_ms": 3.14}},
        "urls": [URL],
        "note": "",
    }


def project_of(name: str, repository: str = "octo-org/shop") -> Json:
    return {
        "id": f"prj_{name}",
        "number": 1,
        "name": name,
        "repository": repository,
        "branch": "main",
        "environment": "production",
        "target": "local",
        "settings": {"port": None, "health_path": "/", "hosts": ["shop.example.org"]},
        "auto_deploy": False,
        "connection_id": None,
        "owner_id": "own_1",
        "created_at": AT,
        "updated_at": AT,
    }


def release(number: int) -> Json:
    return {
        "id": f"rel_{number}",
        "number": number,
        "deployment_id": "dep_1",
        "commit_sha": SHA,
        "image_digest": DIGEST,
        "image_ref": "klepaas/shop:9fceb02",
        "container_port": 8080,
        "variable_names": [],
        "settings": {},
        "created_at": AT,
    }


class Double:
    """The routes. Every answer is canned; only what a request changes is remembered."""

    def __init__(self) -> None:
        self.url = ""
        self.world = World()

    def new_world(self) -> World:
        """A world of the next test's own: a server for each would take most of its time."""
        self.world = World(url=self.url)
        return self.world

    def app(self) -> Starlette:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/api/v1/{path:path}", self.answer, methods=methods)])

    async def answer(self, request: Request) -> Response:
        raw = await request.body()
        body = json.loads(raw) if raw else None
        path = request.path_params["path"]
        self.world.requests.append((request.method, path, body))
        if path == "health":
            return JSONResponse({"status": "ok", "database": "ok", "engine": "ok", "version": "0.1.0"})
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return refusal(401, "not_authenticated")
        match request.method, path.split("/"):
            case _, [_, name, *_] if name in REFUSALS:
                return refusal(*REFUSALS[name])
            case "POST", ["projects", name, "deployments"]:
                return self._begin(request, name)
            case "POST", ["projects", name, "rollback"]:
                return JSONResponse(self._plan(name)) if body.get("dry_run") else self._begin(request, name, True)
            case "POST", ["deployments", dep, "cancel"]:
                return JSONResponse(self._deployment(dep), 202)
            case "GET", ["deployments", dep]:
                return JSONResponse(self._deployment(dep))
            case "GET", ["deployments", dep, "events"]:
                return self._events(request, dep)
            case "GET", ["deployments", dep, "logs"]:
                return self._build_log(request)
            case "GET", ["projects"]:
                return JSONResponse({"projects": [project_of("good"), *self.world.registered]})
            case "POST", ["projects"]:
                self.world.registered.append(project_of(body.get("name") or "made", body["repository"]))
                return JSONResponse(self.world.registered[-1], 201)
            case "GET", ["projects", name]:
                return JSONResponse(project_of(name))
            case "PATCH", ["projects", name]:
                return JSONResponse(project_of(name))
            case "DELETE", ["connections", name]:
                return JSONResponse({"id": "con_1", "name": name, "projects": [{"id": "prj_shop", "name": "shop"}]})
            case "DELETE", _:
                return Response(status_code=204)
            case "GET", ["projects", name, "status"]:
                return JSONResponse(self._status(name))
            case _, ["projects", _, "variables"]:
                return JSONResponse({"variables": [{"name": "LOG_LEVEL", "updated_at": AT}]})
            case "GET", ["projects", name, "deployments"]:
                found = [deployment_of(name, "dep_a"), deployment_of(name, "dep_b", is_rollback=True)]
                return JSONResponse({"deployments": [] if name == "idle" else found, "next_before": None})
            case "GET", ["projects", name, "candidates"]:
                return JSONResponse({"candidates": self._candidates(name)})
            case "GET", ["projects", _, "logs"]:
                return JSONResponse({"lines": ["listening on :8080", "\x1b[31mGET / 200\x1b[0m\x07"]})
            case "POST", ["tokens"]:
                return JSONResponse(_token() | {"token": "klp_aa_new"}, 201)
            case "GET", ["tokens"]:
                return JSONResponse({"tokens": [_token()]})
            case "GET", ["connections"]:
                return JSONResponse({"connections": [_connection("forge")]})
            case "POST", ["connections"]:
                return JSONResponse(_connection(body["name"]) | {"host": body.get("host")}, 201)
            case "POST", ["connections", _, "verify"]:
                return JSONResponse({"branch": body.get("branch", "main"), "commit_sha": SHA})
        return refusal(404, "not_found")

    def _begin(self, request: Request, project: str, is_rollback: bool = False) -> Response:
        key = request.headers.get("idempotency-key", "")
        self.world.keys.append(key)
        deployment, is_new = self.world.begin(project, key, is_rollback=is_rollback)
        if self.world.lose_answers > 0:
            self.world.lose_answers -= 1
            return _Lost()
        began = _shown(deployment) | {"status": "queued"}
        return JSONResponse({"deployment": began, "is_new": is_new, "superseded": []}, 202)

    def _deployment(self, deployment_id: str) -> Json:
        return _shown(self.world.deployments[deployment_id])

    def _events(self, request: Request, deployment_id: str) -> Response:
        project = self.world.deployments[deployment_id]["project"]["name"]
        after = int(request.headers.get("last-event-id", "0"))
        ending = OUTCOMES.get(project, OUTCOMES["good"])[1]
        events = [{"seq": n, "at": AT, **each} for n, each in enumerate([*_BEGINNING, *ending], start=1)]
        breaks = self.world.drop_streams > 0
        self.world.drop_streams -= breaks
        endless = project in {"endless", "vanished"}
        return _stream(events[after : after + 3] if breaks else events[after:], hangs=endless and not breaks)

    def _build_log(self, request: Request) -> Response:
        lines = [{"position": str(n), "at": AT, "text": f"step {n}"} for n in (1, 2, 3)]
        if "text/event-stream" in request.headers.get("accept", ""):
            after = int(request.headers.get("last-event-id", "0"))
            return _stream([{"seq": int(line["position"]), "kind": "line", **line} for line in lines[after:]], end=True)
        after = int(request.query_params.get("after", "0"))
        return JSONResponse({"lines": lines[after:], "next_after": lines[-1]["position"]})

    def _status(self, name: str) -> Json:
        health = {"bad": "unhealthy", "vanished": "unknown", "idle": "absent"}.get(name, "healthy")
        live = None if name == "idle" else {"release": release(3), "deployment": deployment_of("good", "dep_live")}
        active = [_shown(self.world.begin(name, "watched")[0]) | {"status": "running"}] if name == "endless" else []
        return {
            "project": project_of(name),
            "environment": "production",
            "health": health,
            "health_detail": "HTTP 503" if health == "unhealthy" else "",
            "observed_at": AT,
            "urls": [URL] if live else [],
            "live": live,
            "active": active,
            "last": deployment_of(name, "dep_last") if live else None,
            "changes": [],
        }

    def _candidates(self, name: str) -> list[Json]:
        count = 1 if name == "idle" else self.world.releases
        return [
            {
                "steps_back": back,
                "release_id": f"rel_{count - back}",
                "number": count - back,
                "commit_sha": SHA,
                "commit_message": "Show prices with tax",
                "released_at": AT,
                "is_current": back == 0,
                "way": "warm" if back == 1 else "image",
            }
            for back in range(count)
        ]

    def _plan(self, name: str) -> Json:
        return {
            "project": {"id": f"prj_{name}", "name": name},
            "environment": "production",
            "candidate": self._candidates("good")[1],
            "current": release(self.world.releases),
            "live_deployment_id": "dep_live",
            "goes_back": {"port": {"now": 8080, "then": None}},
            "stays": ["hosts", "replicas"],
            "variables_added": ["OLD_NAME"],
            "variables_removed": [],
            "variables_differ": True,
        }


class _Lost(Response):
    """An answer that never arrives: the connection breaks instead."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"10")]})
        raise ConnectionAbortedError


def refusal(status: int, code: str) -> JSONResponse:
    error = {
        "code": code,
        "message": f"It says {code}.",
        "hint": "Do something else.",
        "evidence": {"seen": "this"},
        "request_id": "req_1234",
    }
    return JSONResponse({"error": error}, status)


def _shown(deployment: Json) -> Json:
    return {name: value for name, value in deployment.items() if not name.startswith("_")}


def _connection(name: str) -> Json:
    return {
        "id": "con_1",
        "owner_id": "own_1",
        "kind": "git_basic",
        "name": name,
        "host": "git.example.org",
        "created_at": AT,
    }


def _token() -> Json:
    return {
        "id": "aa",
        "owner_id": "own_1",
        "name": "ci",
        "scope": "deploy",
        "created_at": AT,
        "expires_at": None,
        "revoked_at": None,
    }


def _stream(events: list[Json], *, hangs: bool = False, end: bool = False) -> Response:
    async def frames() -> AsyncIterator[str]:
        yield ": keep-alive\n\n"
        for event in events:
            yield f"id: {event['seq']}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n"
        if end:
            yield "event: end\ndata: {}\n\n"
        while hangs:
            await asyncio.sleep(0.1)
            yield ": keep-alive\n\n"

    return StreamingResponse(frames(), media_type="text/event-stream")


@contextmanager
def running_double() -> Iterator[Double]:
    """The double on a free port of its own."""
    double = Double()
    config = uvicorn.Config(double.app(), port=0, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    double.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield double
    finally:
        server.should_exit = True
        thread.join(timeout=10)
