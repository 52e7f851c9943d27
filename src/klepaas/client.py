"""The HTTP API for Python programs: one method per route, klepaas's own errors, streams that survive a restart.

Answers are the JSON objects of the API as dicts. Every method raises the class of `klepaas.errors` the server named
(code, message, hint and evidence are the server's), and Unavailable when no klepaas answers."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from time import monotonic
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from klepaas import errors
from klepaas.domain.events import KINDS
from klepaas.errors import Invalid, KlepaasError, Unavailable

API = "/api/v1"

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
"""A rollback plan may ask the source and the engine before it is answered."""
SILENCE_TIMEOUT_S = 50.0
"""A stream that is quiet for longer than three keep-alive comments is dead."""
RESTS_S = (0.1, 0.3, 1.0, 2.0)
"""Before a broken stream is opened again, once, twice, …; then always the last."""

_STATUS_CLASSES: Mapping[int, type[KlepaasError]] = {
    401: errors.NotAuthenticated,
    403: errors.NotAllowed,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.BodyTooLarge,
    422: errors.Invalid,
    502: errors.Outside,
    503: errors.Unavailable,
    507: errors.DiskFull,
}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One event of a stream. `id` is where to resume right behind it; empty when the stream cannot be resumed."""

    event: str
    data: dict[str, Any]
    id: str = ""

    @property
    def is_last(self) -> bool:
        """Whether the stream ends with it."""
        if self.event == "end":
            return True
        kind = KINDS.get(self.event)
        return kind is not None and kind.leads_to is not None and kind.leads_to.is_terminal


class Client:
    """A klepaas at `url`, seen with one token. Use it as `async with Client(url, token) as klepaas`."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: timedelta | None = None,
    ) -> None:
        """`patience`: how long a broken stream is opened again and again before it is given up."""
        try:
            base = httpx.URL(url.rstrip("/"))
        except (httpx.InvalidURL, TypeError) as error:
            raise _no_address(url) from error
        if base.scheme not in {"http", "https"} or not base.host or base.userinfo:
            raise _no_address(url)
        self.url = str(base)
        self._patience = patience if patience is not None else timedelta(minutes=1)
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None),
            transport=transport,
            # Nothing leads from here to https: reading all certificate authorities would be for nothing.
            verify=base.scheme == "https",
            # A proxy of the environment does not reach this machine's loopback, and has no business with the token.
            trust_env=not _is_loopback(base.host),
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    # The process.

    async def health(self) -> dict[str, Any]:
        """The report of the process, also when it is not well."""
        answer = await self._send("GET", f"{API}/health")
        return _object(answer) if answer.status_code in {200, 503} else _object(_checked(answer))

    async def version(self) -> dict[str, Any]:
        return await self._ask("GET", "version")

    # Projects.

    async def register(self, repository: str, **fields: Any) -> dict[str, Any]:
        """Fields: name, branch, environment, target, settings, connection_id (an id or a name), auto_deploy, rules."""
        return await self._ask("POST", "projects", body={"repository": repository, **_given(fields)})

    async def projects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._ask("GET", "projects"))["projects"]
        return found

    async def project(self, project: str) -> dict[str, Any]:
        return await self._ask("GET", "projects", project)

    async def configure(self, project: str, **fields: Any) -> dict[str, Any]:
        """Fields: repository, branch, settings, connection_id (id or name; "" takes it away), auto_deploy, rules."""
        return await self._ask("PATCH", "projects", project, body=_given(fields))

    async def retire(self, project: str, *, with_pipeline: bool = False) -> None:
        """`with_pipeline`: take down the chain that builds and deploys it at its provider, too."""
        query = {"with_pipeline": True} if with_pipeline else {}
        await self._ask("DELETE", "projects", project, query=query)

    async def ensure_pipeline(self, project: str) -> AsyncGenerator[Message, None]:
        """Have the chain of a project at its provider: `change` (`data["text"]`) for each thing that was made, adopted
        or repaired, then `end` with the ids. Raises what the server could not do; asking again goes on from there."""
        path = _path("projects", project, "pipeline")
        async with aclosing(self._messages(path, "", {}, method="POST")) as messages:
            async for message in messages:
                if message.event == "error":
                    raise _told_error(message.data)
                yield message
                if message.is_last:
                    return
        raise Unavailable(f"klepaas at {self.url} broke off.", hint="Ask again: it goes on where it stopped.")

    async def remove_pipeline(self, project: str) -> list[str]:
        """Sentences about what was taken down."""
        found: list[str] = (await self._ask("DELETE", "projects", project, "pipeline"))["changes"]
        return found

    async def status(self, project: str, *, environment: str | None = None) -> dict[str, Any]:
        return await self._ask("GET", "projects", project, "status", query={"environment": environment})

    async def variables(self, project: str, *, environment: str | None = None) -> list[dict[str, Any]]:
        answer = await self._ask("GET", "projects", project, "variables", query={"environment": environment})
        found: list[dict[str, Any]] = answer["variables"]
        return found

    async def set_variables(
        self, project: str, values: Mapping[str, str | None], *, environment: str | None = None
    ) -> list[dict[str, Any]]:
        """None removes a variable; those not named stay."""
        answer = await self._ask(
            "PUT",
            "projects",
            project,
            "variables",
            body={"variables": dict(values)},
            query={"environment": environment},
        )
        found: list[dict[str, Any]] = answer["variables"]
        return found

    async def runtime_log(self, project: str, *, environment: str | None = None, lines: int = 200) -> list[str]:
        query = {"environment": environment, "lines": lines}
        found: list[str] = (await self._ask("GET", "projects", project, "logs", query=query))["lines"]
        return found

    # Deployments.

    async def deploy(self, project: str, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        """Fields: branch, commit, environment, rebuild, note. The same `key` again is the same deployment."""
        return await self._ask("POST", "projects", project, "deployments", body=_given(fields), key=key)

    async def deployments(
        self,
        project: str,
        *,
        environment: str | None = None,
        status: Sequence[str] = (),
        before: int | None = None,
        limit: int = 50,
    ) -> dict[str, Any]:
        query = {"environment": environment, "status": list(status), "before": before, "limit": limit}
        return await self._ask("GET", "projects", project, "deployments", query=query)

    async def deployment(self, deployment_id: str) -> dict[str, Any]:
        return await self._ask("GET", "deployments", deployment_id)

    async def cancel(self, deployment_id: str) -> dict[str, Any]:
        return await self._ask("POST", "deployments", deployment_id, "cancel")

    async def events(self, deployment_id: str, *, after: int = 0, limit: int = 1000) -> dict[str, Any]:
        return await self._ask("GET", "deployments", deployment_id, "events", query={"after": after, "limit": limit})

    async def evidence(self, deployment_id: str) -> dict[str, Any]:
        return await self._ask("GET", "deployments", deployment_id, "evidence")

    async def build_log(self, deployment_id: str, *, after: str | None = None, limit: int = 1000) -> dict[str, Any]:
        return await self._ask("GET", "deployments", deployment_id, "logs", query={"after": after, "limit": limit})

    # The history as a whole.

    async def import_history(self, **fields: Any) -> dict[str, Any]:
        """Fields: source, deployments, projects, owner, apply; see the API. Without `apply` nothing is written."""
        return await self._ask("POST", "history", "imports", body=_given(fields))

    async def check_history(self, *, project: str | None = None) -> dict[str, Any]:
        return await self._ask("GET", "history", "check", query={"project": project})

    # Rollbacks.

    async def candidates(self, project: str, *, environment: str | None = None) -> list[dict[str, Any]]:
        answer = await self._ask("GET", "projects", project, "candidates", query={"environment": environment})
        found: list[dict[str, Any]] = answer["candidates"]
        return found

    async def roll_back(self, project: str, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        """Fields: steps_back or commit, environment, dry_run. A dry run answers with the plan."""
        return await self._ask("POST", "projects", project, "rollback", body=_given(fields), key=key)

    async def diagnose(self, owner: str, name: str) -> dict[str, Any]:
        """Whether a repository at GitHub could be rolled back, as older clients are told: `ready`, `issues`,
        `warnings`, `deployment_count`, `latest_deployment`."""
        return await self._ask("GET", "rollback", "diagnose", owner, name)

    # Connections.

    async def add_connection(self, name: str, password: str | None = None, **fields: Any) -> dict[str, Any]:
        """Fields: username, kind, host (the only server that may be told the password); of GitHub's kinds: server,
        installation_id, owner."""
        return await self._ask("POST", "connections", body=_given({"name": name, "password": password, **fields}))

    async def connections(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._ask("GET", "connections"))["connections"]
        return found

    async def verify_connection(
        self, connection: str, repository: str | None = None, *, branch: str | None = None
    ) -> dict[str, Any]:
        """Raises what the repository's server says: AuthenticationFailed, RepositoryNotFound, BranchNotFound."""
        body = _given({"repository": repository, "branch": branch})
        return await self._ask("POST", "connections", connection, "verify", body=body)

    async def remove_connection(self, connection: str) -> dict[str, Any]:
        """Answers with the projects that used it and have none now."""
        return await self._ask("DELETE", "connections", connection)

    # GitHub.

    async def github(self) -> dict[str, Any]:
        """How klepaas stands with GitHub: its App, where it is installed, whether webhooks can be taken."""
        return await self._ask("GET", "github")

    async def app_manifest(self, redirect_url: str, **fields: Any) -> dict[str, Any]:
        """Fields: name, organization."""
        return await self._ask("GET", "github", "manifest", query={"redirect_url": redirect_url, **fields})

    async def adopt_app(self, code: str) -> dict[str, Any]:
        """Have klepaas fetch and keep the App that GitHub made; the code works once."""
        return await self._ask("POST", "github", "app", body={"code": code})

    async def forget_app(self) -> None:
        await self._ask("DELETE", "github", "app")

    async def deliveries(
        self, *, project: str | None = None, before: int | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """Webhooks that came, newest first, with what was decided; go on with `before` = `next_before`."""
        query = {"project": project, "before": before, "limit": limit}
        return await self._ask("GET", "github", "deliveries", query=query)

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One of them with its headers and, for the operator, its body."""
        return await self._ask("GET", "github", "deliveries", delivery_id)

    async def replay_delivery(self, delivery_id: str) -> dict[str, Any]:
        """Have it decided again, by the rules of now. Answers with the replay, a delivery of its own."""
        return await self._ask("POST", "github", "deliveries", delivery_id, "replay")

    # Tokens.

    async def create_token(
        self, name: str, scope: str, *, lifetime_days: float | None = None, owner: str | None = None
    ) -> dict[str, Any]:
        body = _given({"name": name, "scope": scope, "lifetime_days": lifetime_days, "owner": owner})
        return await self._ask("POST", "tokens", body=body)

    async def tokens(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._ask("GET", "tokens"))["tokens"]
        return found

    async def revoke_token(self, token_id: str) -> None:
        await self._ask("DELETE", "tokens", token_id)

    # Streams.

    def follow(self, deployment_id: str, *, after: int = 0) -> AsyncGenerator[Message, None]:
        """Every event of a deployment once and in order, across broken connections, until it has ended."""
        return self._resumed(_path("deployments", deployment_id, "events"), str(after) if after else "")

    def follow_build_log(self, deployment_id: str, *, after: str | None = None) -> AsyncGenerator[Message, None]:
        """Every line of the build log once and in order (`data["text"]`), then the event `end`."""
        return self._resumed(_path("deployments", deployment_id, "logs"), after or "")

    async def follow_runtime_log(
        self, project: str, *, environment: str | None = None, lines: int = 200
    ) -> AsyncGenerator[Message, None]:
        """The last lines of the running app and then new ones as they come, over one connection."""
        query = {"environment": environment, "lines": lines}
        async with aclosing(self._messages(_path("projects", project, "logs"), "", query)) as messages:
            async for message in messages:
                yield message

    async def _resumed(self, path: str, last_id: str) -> AsyncGenerator[Message, None]:
        last_open, tries = monotonic(), 0
        while True:
            opened = False

            def noted() -> None:
                nonlocal opened
                opened = True

            try:
                async with aclosing(self._messages(path, last_id, {}, opened=noted)) as messages:
                    async for message in messages:
                        last_id = message.id or last_id
                        tries = 0
                        yield message
                        if message.is_last:
                            return
            except Unavailable:
                if not opened and monotonic() - last_open > self._patience.total_seconds():
                    raise
            last_open = monotonic() if opened else last_open
            await asyncio.sleep(RESTS_S[min(tries, len(RESTS_S) - 1)])
            tries += 1

    async def _messages(
        self,
        path: str,
        last_id: str,
        query: Mapping[str, Any],
        *,
        opened: Callable[[], None] = lambda: None,
        method: str = "GET",
    ) -> AsyncGenerator[Message, None]:
        """The messages of one connection. Ends when the server ends it; Unavailable when it breaks."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            async with self._http.stream(
                method, path, params=_given(query), headers=headers, timeout=timeout
            ) as answer:
                if answer.is_error:
                    await answer.aread()
                    _checked(answer)
                opened()
                parser = _Parser()
                async for text in answer.aiter_text():
                    for message in parser.messages(text):
                        yield message
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def _ask(
        self,
        method: str,
        *parts: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        headers = {"Idempotency-Key": key} if key is not None else {}
        answer = _checked(
            await self._send(method, _path(*parts), json=body, params=_given(query or {}), headers=headers)
        )
        return _object(answer) if answer.status_code != 204 else {}

    async def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(
            f"klepaas does not answer at {self.url}.",
            hint="Start it with: klepaas up",
            evidence={"reason": str(error) or type(error).__name__},
        )


@dataclass
class _Parser:
    """Takes a stream apart, however its bytes were cut. Source: WHATWG HTML, server-sent events."""

    _rest: str = ""
    _event: str = ""
    _id: str = ""
    _data: list[str] = field(default_factory=list)

    def messages(self, text: str) -> Iterator[Message]:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if message := self._line(line.removesuffix("\r")):
                yield message

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "id":
                self._id = value
            case "data":
                self._data.append(value)
        return None

    def _complete(self) -> Message | None:
        event, data, self._event, self._data = self._event, "\n".join(self._data), "", []
        return Message(event=event or "message", data=json.loads(data), id=self._id) if data else None


def error_from(answer: httpx.Response) -> KlepaasError:
    """The error the server meant: the class its code names, else the class its status stands for.

    `evidence["request_id"]` says where the operator finds it in the log."""
    try:
        told = answer.json()["error"]
        code, message = str(told["code"]), str(told["message"])
        hint, evidence = str(told.get("hint", "")), dict(told.get("evidence") or {})
    except (ValueError, KeyError, TypeError):
        code, hint, evidence = "", "Is this really the address of klepaas?", {}
        message = f"The server answered with HTTP {answer.status_code} and nothing klepaas would say."
        told = {}
    kind = _class_of(code) or _STATUS_CLASSES.get(answer.status_code, KlepaasError)
    error = kind(message, hint=hint, evidence=evidence | _request_id(told))
    if isinstance(error, Unavailable) and answer.headers.get("retry-after", "").isdigit():
        error.retry_after = timedelta(seconds=int(answer.headers["retry-after"]))
    return error


def _told_error(told: Mapping[str, Any]) -> KlepaasError:
    """What a stream ended with."""
    kind = _class_of(str(told.get("code", ""))) or KlepaasError
    evidence = told.get("evidence")
    return kind(
        str(told.get("message", "")), hint=str(told.get("hint", "")), evidence=dict(evidence) if evidence else {}
    )


def _request_id(told: Mapping[str, Any]) -> dict[str, str]:
    return {"request_id": str(told["request_id"])} if told.get("request_id") else {}


def _class_of(code: str) -> type[KlepaasError] | None:
    kinds: list[type[KlepaasError]] = [KlepaasError]
    for kind in kinds:  # grows while it is walked
        if kind.code == code:
            return kind
        kinds.extend(kind.__subclasses__())
    return None


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise error_from(answer)
    return answer


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise error_from(answer)
    return found


def _path(*parts: str) -> str:
    """The route's path; whatever a part holds, it stays one part."""
    return "/".join(
        [API, *(quote(part, safe="") if part not in {".", ".."} else part.replace(".", "%2E") for part in parts)]
    )


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _no_address(url: str) -> Invalid:
    return Invalid(f"{str(url)[:80]!r} is not the address of a klepaas.", hint="Give e.g. http://127.0.0.1:8700")
