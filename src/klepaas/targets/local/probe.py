"""One HTTP request that tells apart the ways an app can fail to answer.

Not an HTTP library's client: those fold `closed without a word`, `not HTTP` and `refused` into one error, follow
redirects or keep connections; and a probe must cost well under a millisecond."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_HEAD_LIMIT_BYTES = 64 * 1024
_FAREWELL_S = 0.05
_FAREWELL_BYTES = 256 * 1024


class Failure(StrEnum):
    """Why there is no HTTP status."""

    REFUSED = "refused"
    CLOSED = "closed"
    """The connection was accepted and closed without a byte. Docker's port forwarder does that when nothing
    listens behind it."""
    SLOW = "slow"
    NOT_HTTP = "not_http"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Either a status with headers (names in lower case) or a failure; `heard` is what came instead of HTTP."""

    took_ms: float
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    failure: Failure | None = None
    heard: str = ""


async def ask(
    address: tuple[str, int], path: str, *, host: str, timeout_s: float, headers: Mapping[str, str] | None = None
) -> Answer:
    """GET `path` once, on a connection of its own, without following redirects. Never raises for what it finds."""
    began = time.perf_counter()

    def answer(**found: object) -> Answer:
        return Answer(took_ms=(time.perf_counter() - began) * 1000, **found)  # type: ignore[arg-type]

    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(*address, limit=_HEAD_LIMIT_BYTES)
            writer.write(_request(path, host, headers or {}))
            await writer.drain()
            head = await _head_of(reader)
        status, found = _read(head)
        if not head:
            return answer(failure=Failure.CLOSED)
        if status is None:
            return answer(failure=Failure.NOT_HTTP, heard=_shown(head))
        result = answer(status=status, headers=found)
        await _hear_out(reader)
        return result
    except TimeoutError:
        return answer(failure=Failure.SLOW)
    except ValueError:
        return answer(failure=Failure.NOT_HTTP, heard="a line of more than 64 KiB")
    except ConnectionRefusedError:
        return answer(failure=Failure.REFUSED)
    except OSError:
        return answer(failure=Failure.CLOSED)
    finally:
        if writer is not None:
            writer.transport.abort()


def _request(path: str, host: str, headers: Mapping[str, str]) -> bytes:
    fields = {"Host": host, "User-Agent": "klepaas", "Accept": "*/*", "Connection": "close", **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1", errors="replace")


async def _head_of(reader: asyncio.StreamReader) -> bytes:
    """Up to the first empty line or the end. Bare line feeds are fine: proxies take them, and CGI scripts send them."""
    head = b""
    while len(head) < _HEAD_LIMIT_BYTES:
        line = await reader.readline()
        if not line.strip():
            break
        head += line
    return head


def _read(head: bytes) -> tuple[int | None, Mapping[str, str]]:
    lines = head.decode("latin-1").splitlines() or [""]
    version, _, rest = lines[0].partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit() and len(code) == 3):
        return None, {}
    fields = (line.partition(":") for line in lines[1:] if ":" in line)
    return int(code), {name.strip().lower(): value.strip() for name, _, value in fields}


async def _hear_out(reader: asyncio.StreamReader) -> None:
    # An app whose caller hangs up in the middle of a body writes an error to its log; a stream would never end.
    left = _FAREWELL_BYTES
    try:
        async with asyncio.timeout(_FAREWELL_S):
            while left > 0 and (chunk := await reader.read(left)):
                left -= len(chunk)
    except (TimeoutError, OSError):
        return


def _shown(data: bytes) -> str:
    return data[:60].decode("latin-1").encode("unicode_escape").decode("ascii")
