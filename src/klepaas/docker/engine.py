"""The thinnest client of the Docker Engine API: one method per request, over the engine's unix socket.

Works unchanged with Docker 20.10 and later and with Podman's socket. Source: Docker Engine API reference."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import httpx

from klepaas.docker.errors import (
    EngineConflict,
    EngineNotFound,
    EngineRejected,
    NameTaken,
    NetworkBroken,
    NotRunning,
    PortTaken,
)
from klepaas.docker.logs import LogLine, lines_of
from klepaas.errors import DiskFull, EngineTooOld, EngineUnavailable, ImageMissing, Invalid

OLDEST_API = (1, 41)
"""Docker 20.10. Older engines lack what we rely on and are not tested."""

NEWEST_API = (1, 47)
"""Newer engines are spoken to in this version; they refuse only versions below 1.44 (Docker 29)."""

MOST_CONNECTIONS = 40

CONNECT_S = 2.0
LOOK_S = 10.0
"""Looking takes milliseconds; a busy engine was seen to take seconds."""
CHANGE_S = 60.0
"""Creating and starting take 0.2 s on a quiet machine; a disk under load was seen to need ten times that."""
IMPORT_S = 180.0
SILENCE_S = 120.0
"""An event stream that is silent for longer is asked for again: its engine may hang."""

_LOG_LIMIT_BYTES = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class EngineEvent:
    """Something that happened to a container: `action` as the engine calls it (`die`, `start`, `oom`, …)."""

    action: str
    id: str
    at_ns: int
    attributes: Mapping[str, str]


class DockerEngine:
    """An engine at `unix:///path`. Connects on first use, and again by itself after the engine restarted.

    Errors of every method: EngineUnavailable when the engine is gone or silent, EngineTooOld; beside those the
    ones each method names, and EngineRejected with the engine's own words for everything else."""

    def __init__(self, host: str) -> None:
        if not host.startswith("unix:///"):
            raise Invalid(
                f"klepaas cannot use the Docker engine at {host!r}.",
                hint="Give a socket on this machine, e.g. unix:///var/run/docker.sock.",
            )
        self.host = host
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=host.removeprefix("unix://"),
                limits=httpx.Limits(max_connections=40),
                verify=False,  # a socket of this machine: reading all certificate authorities would be for nothing
            ),
            base_url="http://engine",
            trust_env=False,
        )
        self._version: str | None = None
        self._negotiating = asyncio.Lock()

    async def close(self) -> None:
        await self._client.aclose()

    async def connect(self) -> str:
        """Agree on an API version and return it, e.g. `1.41`. Asks the engine each time."""
        answer = await self._send("GET", "/_ping", seconds=LOOK_S)
        offered = _version_of(answer.headers.get("Api-Version", ""))
        if offered < OLDEST_API:
            shown = ".".join(map(str, offered)) if offered > (0, 0) else "unknown"
            raise EngineTooOld(
                f"The Docker engine speaks API {shown}, and klepaas needs 1.41 (Docker 20.10) or newer.",
                hint="Upgrade the Docker engine.",
                evidence={"host": self.host, "api_version": shown},
            )
        self._version = ".".join(map(str, min(offered, NEWEST_API)))
        return self._version

    async def info(self) -> Mapping[str, Any]:
        return await self._object("GET", "/info", seconds=LOOK_S)

    async def bridge(self) -> str:
        """The network interface behind which builds run, e.g. `docker0`. Errors: EngineNotFound (Podman has none)."""
        network = await self._object("GET", "/networks/bridge", seconds=LOOK_S)
        return str((network.get("Options") or {}).get("com.docker.network.bridge.name", ""))

    # Containers are named by id or name everywhere.

    async def containers(self, labels: Sequence[str]) -> list[Mapping[str, Any]]:
        """Containers in any state that carry all these labels (`name` or `name=value`), newest first."""
        params = {"all": "1", "filters": json.dumps({"label": list(labels)})}
        return await self._list("/containers/json", params)

    async def inspect(self, container: str) -> Mapping[str, Any]:
        """Errors: EngineNotFound."""
        return await self._object("GET", f"/containers/{container}/json", seconds=LOOK_S)

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Create a container and return its id. Errors: NameTaken, ImageMissing."""
        made = await self._object("POST", "/containers/create", params={"name": name}, body=body, seconds=CHANGE_S)
        return str(made["Id"])

    async def start(self, container: str) -> None:
        """Fine when it runs already. Errors: EngineNotFound, PortTaken (found out only now, not by `create`),
        NetworkBroken."""
        await self._call("POST", f"/containers/{container}/start", seconds=CHANGE_S)

    async def stop(self, container: str, *, grace_s: int) -> None:
        """Ask the container to end, and end it after `grace_s`. Fine when it is stopped. Errors: EngineNotFound."""
        path = f"/containers/{container}/stop"
        await self._call("POST", path, params={"t": str(grace_s)}, seconds=CHANGE_S + grace_s)

    async def pause(self, container: str) -> None:
        """Errors: EngineNotFound, NotRunning (also when it is paused already)."""
        await self._call("POST", f"/containers/{container}/pause", seconds=CHANGE_S)

    async def unpause(self, container: str) -> None:
        """Errors: EngineNotFound, EngineConflict when it is not paused."""
        await self._call("POST", f"/containers/{container}/unpause", seconds=CHANGE_S)

    async def remove(self, container: str, *, force: bool = False) -> None:
        """Remove a container and its anonymous volumes; a running one only with `force`. Errors: EngineNotFound,
        EngineConflict."""
        params = {"v": "1", "force": "1" if force else "0"}
        await self._call("DELETE", f"/containers/{container}", params=params, seconds=CHANGE_S)

    async def restart_policy(self, container: str, name: str) -> None:
        """Set the restart policy (`always`, `no`) of an existing container. Errors: EngineNotFound."""
        body = {"RestartPolicy": {"Name": name, "MaximumRetryCount": 0}}
        await self._call("POST", f"/containers/{container}/update", body=body, seconds=CHANGE_S)

    async def logs(self, container: str, *, lines: int) -> list[LogLine]:
        """The last lines the container wrote, oldest first. Errors: EngineNotFound."""
        path = await self._path(f"/containers/{container}/logs")
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": str(lines)}
        body = bytearray()
        try:
            async with self._client.stream("GET", path, params=params, timeout=_timeout(LOOK_S)) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    self._refuse(answer)
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > _LOG_LIMIT_BYTES:
                        break
        except httpx.TransportError as error:
            raise self._unavailable(error) from error
        return lines_of(bytes(body))

    # Images are named by digest (`sha256:…`) or reference.

    async def images(self, labels: Sequence[str]) -> list[Mapping[str, Any]]:
        """Images that carry all these labels."""
        params = {"filters": json.dumps({"label": list(labels)})}
        return await self._list("/images/json", params)

    async def inspect_image(self, image: str) -> Mapping[str, Any]:
        """Errors: EngineNotFound."""
        return await self._object("GET", f"/images/{image}/json", seconds=LOOK_S)

    async def remove_image(self, image: str, *, force: bool = False) -> None:
        """Remove an image or one of its names; with `force` also an image with several names, never one that a
        running container uses. Errors: EngineNotFound, EngineConflict."""
        params = {"force": "1" if force else "0"}
        await self._call("DELETE", f"/images/{image}", params=params, seconds=CHANGE_S)

    async def tag(self, image: str, *, repository: str, tag: str) -> None:
        """Errors: EngineNotFound."""
        await self._call("POST", f"/images/{image}/tag", params={"repo": repository, "tag": tag}, seconds=CHANGE_S)

    async def import_image(
        self, archive: AsyncIterator[bytes], *, repository: str, tag: str, changes: Sequence[str]
    ) -> str:
        """Make an image of one layer from a tar stream, without any builder, and return its digest.

        `changes` are Dockerfile lines (`ENTRYPOINT ["/caddy"]`, `LABEL a=b`)."""
        params = httpx.QueryParams({"fromSrc": "-", "repo": repository, "tag": tag, "changes": list(changes)})
        answer = await self._call("POST", "/images/create", params=params, content=archive, seconds=IMPORT_S)
        for line in answer.text.splitlines():
            if error := json.loads(line).get("error"):
                raise EngineRejected(f"The Docker engine could not import {repository}:{tag}: {error}.")
        return str((await self.inspect_image(f"{repository}:{tag}"))["Id"])

    async def prune_build_cache(self, *, keep_bytes: int) -> int:
        """Delete least recently used build cache beyond `keep_bytes` (of the whole engine) and return the bytes
        freed."""
        params = {"keep-storage": str(keep_bytes)}
        return int(
            (await self._object("POST", "/build/prune", params=params, seconds=IMPORT_S)).get("SpaceReclaimed", 0)
        )

    async def events(self, labels: Sequence[str], *, since_ns: int | None = None) -> AsyncIterator[EngineEvent]:
        """What happens to containers with these labels, from now (or `since_ns`, for a reader who was away).

        Never ends by itself. Errors: EngineUnavailable when the stream breaks or was silent for SILENCE_S."""
        path = await self._path("/events")
        params = {"filters": json.dumps({"type": ["container"], "label": list(labels)})}
        if since_ns is not None:
            params["since"] = f"{since_ns // 10**9}.{since_ns % 10**9:09d}"
        timeout = httpx.Timeout(CONNECT_S, read=SILENCE_S)
        try:
            async with self._client.stream("GET", path, params=params, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    self._refuse(answer)
                async for line in answer.aiter_lines():
                    yield _event_of(json.loads(line))
        except httpx.TransportError as error:
            raise self._unavailable(error) from error
        raise EngineUnavailable("The Docker engine closed its event stream.", evidence={"host": self.host})

    async def past_events(self, container: str, *, since: datetime) -> list[EngineEvent]:
        """What happened to a container, oldest first, as far as the engine remembers (256 events in all)."""
        filters = json.dumps({"type": ["container"], "container": [container]})
        params = {"filters": filters, "since": f"{since.timestamp():.0f}", "until": f"{time.time():.9f}"}
        answer = await self._call("GET", "/events", params=params, seconds=LOOK_S)
        return [_event_of(json.loads(line)) for line in answer.text.splitlines() if line]

    async def _list(self, path: str, params: Mapping[str, str]) -> list[Mapping[str, Any]]:
        answer = await self._call("GET", path, seconds=LOOK_S, params=params)
        return list(answer.json())

    async def _object(
        self,
        method: str,
        path: str,
        *,
        seconds: float,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        answer = await self._call(method, path, seconds=seconds, params=params, body=body)
        return dict(answer.json())

    async def _call(
        self,
        method: str,
        path: str,
        *,
        seconds: float,
        params: Mapping[str, str] | httpx.QueryParams | None = None,
        body: Mapping[str, Any] | None = None,
        content: AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        where = await self._path(path)
        answer = await self._send(method, where, seconds=seconds, params=params, body=body, content=content)
        if answer.status_code >= 400:
            self._refuse(answer)
        return answer

    async def _path(self, path: str) -> str:
        if self._version is None:
            async with self._negotiating:
                if self._version is None:
                    await self.connect()
        return f"/v{self._version}{path}"

    async def _send(
        self,
        method: str,
        path: str,
        *,
        seconds: float,
        params: Mapping[str, str] | httpx.QueryParams | None = None,
        body: Mapping[str, Any] | None = None,
        content: AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        try:
            return await self._client.request(
                method, path, params=params, json=body, content=content, timeout=_timeout(seconds)
            )
        except httpx.TransportError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: httpx.TransportError) -> EngineUnavailable:
        # The engine that comes back may be another one: agree on a version again.
        self._version = None
        why = "did not answer in time" if isinstance(error, httpx.TimeoutException) else _why(error)
        return EngineUnavailable(
            f"The Docker engine at {self.host} {why}.",
            hint="See whether it runs: docker info.",
            evidence={"host": self.host, "error": str(error) or type(error).__name__},
        )

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        words = _message_of(answer)
        low = words.lower()
        evidence = {"status": answer.status_code, "engine": words}
        if "no space left on device" in low:
            raise DiskFull("The disk of the Docker engine is full.", hint="Free some space.", evidence=evidence)
        if "port is already allocated" in low or "address already in use" in low:
            raise PortTaken("Another program listens on the port of the container.", evidence=evidence)
        if "iptables failed" in low or "iptables: no chain" in low:
            raise NetworkBroken(
                "The Docker engine cannot publish the port of the container: its rules of the firewall are gone.",
                hint="Something else reloaded the firewall. Restart the Docker engine: systemctl restart docker.",
                evidence=evidence,
            )
        if answer.status_code == 404 and "no such image" in low:
            raise _no_image(answer, evidence)
        if answer.status_code == 404:
            raise EngineNotFound(f"The Docker engine has no such thing: {words}.", evidence=evidence)
        if answer.status_code == 409 and "is already in use by container" in low:
            raise NameTaken("A container of this name exists.", evidence=evidence)
        if "is not running" in low or "is already paused" in low:
            raise NotRunning(f"The container is not running: {words}.", evidence=evidence)
        if answer.status_code == 409 or "is not paused" in low:
            raise EngineConflict(f"The Docker engine refused: {words}.", evidence=evidence)
        raise EngineRejected(f"The Docker engine refused: {words}.", evidence=evidence)


def _no_image(answer: httpx.Response, evidence: Mapping[str, Any]) -> Exception:
    if answer.request.url.path.endswith("/containers/create"):
        return ImageMissing(
            "The image of this release no longer exists on the Docker engine.",
            hint="Deploy its commit again; that rebuilds the image.",
            evidence=evidence,
        )
    return EngineNotFound("The Docker engine has no such image.", evidence=evidence)


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=CONNECT_S)


def _why(error: httpx.TransportError) -> str:
    words = str(error.__cause__ or error)
    if "Permission denied" in words or "[Errno 13]" in words:
        return "may not be used by this user"
    return "cannot be reached" if isinstance(error, httpx.ConnectError) else "broke the connection"


def _version_of(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _message_of(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"]).strip().rstrip(".")
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:500] or f"HTTP {answer.status_code}"


def _event_of(data: Mapping[str, Any]) -> EngineEvent:
    actor = data.get("Actor", {})
    return EngineEvent(
        action=str(data.get("Action", "")),
        id=str(actor.get("ID", "")),
        at_ns=int(data.get("timeNano", 0)),
        attributes=dict(actor.get("Attributes", {})),
    )
