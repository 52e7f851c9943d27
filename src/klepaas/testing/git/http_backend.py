"""Git over HTTP by git's own http-backend (CGI). Who may do what is asked before."""

import gzip
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from klepaas import processes
from klepaas.testing.git.repository import ENV


async def serve(request: Request, folder: Path, rest: str, at_end: AsyncExitStack | None = None) -> Response:
    """Start http-backend on a bare repository and hand its answer on as it comes; `at_end` is left at its end.

    `rest` is what follows the repository in the path, e.g. `info/refs`."""
    body = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    running = AsyncExitStack()
    if at_end is not None:
        await running.enter_async_context(at_end)
    env = _cgi(request, folder, rest, len(body))
    chunks = await running.enter_async_context(processes.piped(["git", "http-backend"], env=env, stdin=body))
    head, rest_of_head = await _head(chunks)
    status, headers = _parsed(head)

    async def whole() -> AsyncIterator[bytes]:
        async with running:
            if rest_of_head:
                yield rest_of_head
            async for chunk in chunks:
                yield chunk

    return StreamingResponse(whole(), status, headers)


async def _head(chunks: AsyncIterator[bytes]) -> tuple[bytes, bytes]:
    """The headers, and what came with them."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if b"\r\n\r\n" in head:
            break
    before, _, after = head.partition(b"\r\n\r\n")
    return before, after


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    status, headers = 200, {}
    for line in head.decode().splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        elif name:
            headers[name.lower()] = value.strip()
    return status, headers


def _cgi(request: Request, folder: Path, rest: str, length: int) -> dict[str, str]:
    variables = {
        **ENV,
        "GIT_PROJECT_ROOT": str(folder.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "REMOTE_USER": "stand-in",
        "REQUEST_METHOD": request.method,
        "PATH_INFO": f"/{folder.name}/{rest}",
        "QUERY_STRING": request.url.query,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(length),
        "REMOTE_ADDR": "127.0.0.1",
    }
    if protocol := request.headers.get("git-protocol"):
        variables["GIT_PROTOCOL"] = protocol
    return variables
