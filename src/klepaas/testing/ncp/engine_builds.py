"""Builds by a real Docker engine: context in, image out, pushed to the stand-in's registry with its credentials."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import httpx

Say = Callable[[str], None]

LABEL = "klepaas.testing.ncp"
"""On every image, so that what a crash leaves behind is found."""


class CannotBuild(Exception):
    """In the engine's words."""


class EngineBuilds:
    def __init__(self, host: str) -> None:
        """`host` is `unix:///…`."""
        transport = httpx.AsyncHTTPTransport(uds=host.removeprefix("unix://"))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None)

    async def stop(self) -> None:
        await self._client.aclose()

    async def build(self, context: AsyncIterator[bytes], *, dockerfile: str, reference: str, say: Say) -> None:
        """Build and name an image. Errors: CannotBuild."""
        params = {"dockerfile": dockerfile, "t": reference, "rm": "1", "forcerm": "1"}
        params["labels"] = json.dumps({LABEL: reference})
        headers = {"content-type": "application/x-tar"}
        await self._told("POST", f"/build?{httpx.QueryParams(params)}", headers=headers, content=context, say=say)

    async def push(self, reference: str, *, user: str, password: str, say: Say) -> str:
        """Push an image by its name and return the digest of its manifest. Errors: CannotBuild."""
        name, _, tag = reference.rpartition(":")
        about = {"username": user, "password": password, "serveraddress": name.partition("/")[0]}
        headers = {"x-registry-auth": base64.urlsafe_b64encode(json.dumps(about).encode()).decode()}
        path = f"/images/{name}/push?tag={quote(tag)}"
        digest = await self._told("POST", path, headers=headers, content=None, say=say)
        if not digest:
            raise CannotBuild("the engine pushed nothing")
        return digest

    async def tag(self, reference: str, other: str) -> None:
        name, _, tag = other.rpartition(":")
        await self._client.post(f"/images/{reference}/tag", params={"repo": name, "tag": tag})

    async def forget(self, reference: str) -> None:
        """Take the image off the engine; the registry has it."""
        await self._client.delete(f"/images/{reference}")

    async def _told(
        self, method: str, path: str, *, headers: dict[str, str], content: AsyncIterator[bytes] | None, say: Say
    ) -> str:
        """Follow one long call; the digest it speaks of, if any."""
        digest = ""
        async with self._client.stream(method, path, headers=headers, content=content) as answer:
            if not answer.is_success:
                raise CannotBuild((await answer.aread()).decode(errors="replace"))
            async for line in answer.aiter_lines():
                told = json.loads(line) if line.strip() else {}
                if "error" in told:
                    raise CannotBuild(told["error"])
                if "stream" in told or "status" in told:
                    say(str(told.get("stream") or told.get("status")).rstrip())
                digest = (told.get("aux") or {}).get("Digest", digest)
        return digest
