"""Caddy's admin interface, on a unix socket that only our user may open."""

from pathlib import Path
from typing import Any

import httpx

from klepaas.errors import Rejected, Unavailable

_LOOK_S = 2.0
_LOAD_S = 30.0
"""A reload of 1,000 doors takes 0.1 s; opening certificates may take longer."""


class CaddyAdmin:
    """Errors of every method: Unavailable when Caddy does not answer."""

    def __init__(self, socket: Path) -> None:
        self._client = httpx.AsyncClient(
            # Unverified: a socket of this machine, for which reading all certificate authorities takes too long.
            transport=httpx.AsyncHTTPTransport(uds=str(socket), verify=False),
            base_url="http://caddy",
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def serves(self, generation: str) -> bool:
        """Whether Caddy runs the configuration of this generation."""
        return (await self._ask("GET", f"/id/{generation}", _LOOK_S)).is_success

    async def listens(self) -> set[str]:
        """The addresses Caddy has open, e.g. `127.0.0.1:20001`."""
        servers = (await self._ask("GET", "/config/apps/http/servers", _LOOK_S)).json() or {}
        return {address for server in servers.values() for address in server.get("listen", [])}

    async def load(self, config: dict[str, Any]) -> None:
        """Replace the configuration; Caddy keeps the old one when it does not like the new. Errors: Rejected."""
        answer = await self._ask("POST", "/load", _LOAD_S, body=config)
        if not answer.is_success:
            raise Rejected("The proxy refused its configuration.", evidence={"caddy": answer.text[:2000]})

    async def _ask(self, method: str, path: str, seconds: float, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            return await self._client.request(method, path, json=body, timeout=seconds)
        except httpx.TransportError as error:
            raise Unavailable("The proxy does not answer its admin socket.", evidence={"error": str(error)}) from error
