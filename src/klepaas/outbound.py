"""HTTP to addresses that users name: it reaches the public Internet and what the operator allows, nothing of this
machine, its network or its cloud.

A name is resolved here, every address it has is looked at, and the connection is made to one of those very addresses:
a name that changes its address afterwards changes nothing. Redirects are for the caller, who has to ask anew."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx

from klepaas.errors import Invalid, Unavailable
from klepaas.trust import authorities

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_TRANSLATED = ip_network("64:ff9b::/96")
"""IPv6 that a gateway turns into the IPv4 address in its last 32 bits (RFC 6052)."""


class GuardedTransport(httpx.AsyncBaseTransport):
    """`allowed` are host names in lower case whose addresses may also be private ones.

    Errors: Invalid for a forbidden address, also for one a request is led to later; Unavailable for an unknown name;
    httpx's own for the rest."""

    def __init__(self, allowed: Collection[str] = (), *, resolve: Resolve | None = None) -> None:
        self._allowed = frozenset(allowed)
        self._resolve = resolve or _resolved
        self._inner: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host.lower()
        address = await self._checked(host, request.url.port or 443)
        if request.url.scheme != "https" and host not in self._allowed:
            raise Invalid(f"{host} is only spoken to by https.", hint="Give its https address.")
        # The Host header was made from the name already; the name is also whom the certificate must be for.
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)
        return await self._of(host).handle_async_request(request)

    async def aclose(self) -> None:
        for each in self._inner.values():
            await each.aclose()

    def _of(self, host: str) -> httpx.AsyncHTTPTransport:
        """One pool per name: two names at one address must not share a connection, nor its certificate."""
        if host not in self._inner:
            self._inner[host] = httpx.AsyncHTTPTransport(retries=0, verify=authorities())
        return self._inner[host]

    async def _checked(self, host: str, port: int) -> str:
        found = [ip_address(each.partition("%")[0]) for each in await self._resolve(host, port)]
        if not found:
            raise Unavailable(f"The name {host} is not known.", hint="Correct it, or try again later.")
        for each in found:
            if not (is_public(each) or (host in self._allowed and not _is_nobodys(each))):
                raise Invalid(
                    f"{host} is at an address that klepaas does not speak to for its users.",
                    hint="The operator can allow the server with KLEPAAS_OUTBOUND_HOSTS.",
                )
        return str(found[0])


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet could be meant by it; also sees through IPv4 dressed as IPv6."""
    plain = _plain(address)
    return plain.is_global and not plain.is_multicast and not plain.is_reserved and not _is_nobodys(plain)


def _is_nobodys(address: Address) -> bool:
    """Never a server's address: link-local (cloud metadata among them), unspecified, multicast."""
    plain = _plain(address)
    return plain.is_link_local or plain.is_unspecified or plain.is_multicast


def _plain(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


async def _resolved(host: str, port: int) -> Sequence[str]:
    try:
        return [str(ip_address(host.strip("[]")))]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"The name {host} is not known.", hint="Correct it, or try again later.") from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))
