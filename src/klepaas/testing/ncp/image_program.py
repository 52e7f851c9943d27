"""The registry program (`docker-registry` of Debian, `registry` elsewhere) behind the stand-in's own front."""

import asyncio
import contextlib
import shutil
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from klepaas import processes
from klepaas.settings import process_environment
from klepaas.testing.ncp.images import MANIFEST, SmallImage, digest_of

STARTS_WITHIN_S = 20.0
"""It answers in about 0.1 s; the rest is patience with a busy machine."""

_ACCEPT = ", ".join(
    (
        MANIFEST,
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )
)

_NOT_OURS = {"authorization", "host", "connection", "transfer-encoding"}
"""Headers that end at the front."""


def installed() -> str | None:
    """The program's path; None when there is none."""
    path = process_environment().get("PATH")
    return shutil.which("docker-registry", path=path) or shutil.which("registry", path=path)


class ImageProgram:
    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._port = 0
        self._running: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(timeout=60, trust_env=False)

    async def start(self) -> None:
        """Errors: RuntimeError when it does not answer."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._client.base_url = httpx.URL(f"http://127.0.0.1:{self._port}")
        config = self._folder / "config.yml"
        config.write_text(_config(self._folder / "data", self._port))
        self._running = asyncio.create_task(self._run(config))
        deadline = time.monotonic() + STARTS_WITHIN_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                await self._client.get("/v2/")
                return
            if self._running.done() or time.monotonic() > deadline:
                raise RuntimeError(f"{self._program} did not start")
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._client.aclose()

    async def respond(self, request: Request) -> Response:
        path, query = request.scope["path"], request.url.query
        asked = self._client.build_request(
            request.method,
            path + (f"?{query}" if query else ""),
            headers=[(k, v) for k, v in request.headers.items() if k not in _NOT_OURS],
            content=request.stream() if request.method in ("POST", "PUT", "PATCH") else None,
        )
        answer = await self._client.send(asked, stream=True)
        headers = {name: value for name, value in answer.headers.items() if name not in _NOT_OURS}

        async def whole() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_raw():
                    yield chunk
            finally:
                await answer.aclose()

        return StreamingResponse(whole(), answer.status_code, headers)

    async def put(self, name: str, tags: Sequence[str], image: SmallImage) -> None:
        for blob in (image.layer, image.config):
            begun = await self._client.post(f"/v2/{name}/blobs/uploads/")
            where = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest_of(blob)})
            (await self._client.put(where, content=blob)).raise_for_status()
        for tag in tags:
            path = f"/v2/{name}/manifests/{tag}"
            put = await self._client.put(path, content=image.manifest, headers={"content-type": MANIFEST})
            put.raise_for_status()

    async def digest(self, name: str, reference: str) -> str | None:
        answer = await self._client.head(f"/v2/{name}/manifests/{reference}", headers={"accept": _ACCEPT})
        return answer.headers.get("docker-content-digest") if answer.is_success else None

    async def delete(self, name: str, reference: str) -> None:
        # The program deletes by digest only, and every tag of that manifest with it.
        digest = await self.digest(name, reference)
        if digest is None:
            raise LookupError(f"there is no {name}:{reference}")
        (await self._client.delete(f"/v2/{name}/manifests/{digest}")).raise_for_status()

    async def tags(self) -> dict[str, list[str]]:
        names = (await self._client.get("/v2/_catalog")).json()["repositories"]
        found = {}
        for name in names:
            answer = await self._client.get(f"/v2/{name}/tags/list")
            found[name] = sorted(answer.json().get("tags") or []) if answer.is_success else []
        return {name: tags for name, tags in found.items() if tags}

    async def _run(self, config: Path) -> None:
        env = {"PATH": process_environment().get("PATH", ""), "HOME": str(self._folder), "OTEL_TRACES_EXPORTER": "none"}
        async with processes.stream([self._program, "serve", str(config)], env=env) as (lines, _):
            async for _ in lines:
                pass


def _config(data: Path, port: int) -> str:
    return f"""\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
  relativeurls: true
"""
