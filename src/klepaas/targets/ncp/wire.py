"""Sending one request to Naver Cloud and reading its answer: time-outs, a limit of size, nothing followed."""

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address

import httpx

from klepaas import __version__
from klepaas.errors import KlepaasError, NetworkTimeout, Rejected, Unavailable
from klepaas.targets.ncp.refusal import answer_lost
from klepaas.trust import authorities

CONNECT_S = 5.0
MAX_ANSWER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Request:
    """`who` is the service, for sentences. `target` of the wire is that of `url`."""

    who: str
    method: str
    url: httpx.URL
    headers: dict[str, str]
    content: bytes | None = None


class Wire:
    """One pool of connections. `transport` None: the ordinary one."""

    def __init__(self, *, answer_within_s: float, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._within_s, self._transport = answer_within_s, transport
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def send(self, request: Request) -> httpx.Response:
        """Once. Errors: NetworkTimeout or Unavailable when it did nothing or only read; AnswerLost when it may have
        changed something; Rejected for an answer beyond the limit."""
        client = self._client(is_loopback(request.url.host))
        try:
            async with asyncio.timeout(self._within_s):
                built = client.build_request(
                    request.method, request.url, headers=request.headers, content=request.content
                )
                answer = await client.send(built, stream=True)
                try:
                    content = await _read(answer, request.who)
                finally:
                    await answer.aclose()
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            # Not chained: the request that is part of it holds the credential.
            raise _failure(request, error) from None
        return httpx.Response(answer.status_code, headers=_decoded(answer.headers), content=content)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    def _client(self, is_local: bool) -> httpx.AsyncClient:
        if is_local not in self._clients:
            self._clients[is_local] = httpx.AsyncClient(
                timeout=httpx.Timeout(self._within_s, connect=CONNECT_S),
                transport=self._transport,
                verify=authorities(),
                trust_env=not is_local,  # A proxy of the environment does not reach this machine's loopback.
                follow_redirects=False,
                headers={"User-Agent": f"klepaas/{__version__}", "Accept": "application/json"},
            )
        return self._clients[is_local]


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


async def _read(answer: httpx.Response, who: str) -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise Rejected(f"What {who} answered is far too large.", evidence={"limit_bytes": MAX_ANSWER_BYTES})
        parts.append(part)
    return b"".join(parts)


def _decoded(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Those of a body that was unpacked already."""
    return [(n, v) for n, v in headers.multi_items() if n not in {"content-encoding", "content-length"}]


_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)


def _failure(request: Request, error: Exception) -> KlepaasError:
    place = f"{request.url.scheme}://{request.url.netloc.decode()}"
    evidence = {"reason": str(error)[:200] or type(error).__name__, "service": request.who}
    timed_out = isinstance(error, (TimeoutError, httpx.TimeoutException))
    line = f"{request.who} does not answer at {place}." if timed_out else f"{request.who} cannot be reached at {place}."
    if request.method != "GET" and not isinstance(error, _NEVER_SENT):
        return answer_lost(line, evidence)
    hint = "Look at the network of this machine and at the endpoint that is configured, then try again."
    return (NetworkTimeout if timed_out else Unavailable)(line, hint=hint, evidence=evidence)
