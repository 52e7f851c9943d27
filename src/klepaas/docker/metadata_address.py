"""The address where a cloud hands its machine's credentials to whoever asks from this machine.

Builds run code of strangers, on the engine's bridge; so this machine's firewall refuses them that address. Docker keeps
a chain for such rules (DOCKER-USER), which outlives its restarts. Source: Docker, "Packet filtering and firewalls"."""

import asyncio
import os
import socket
import time
from contextlib import AsyncExitStack, suppress
from enum import StrEnum
from pathlib import Path

import structlog

from klepaas import processes
from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineNotFound
from klepaas.docker.machine import SYSTEM_PATH
from klepaas.file_lock import held

log = structlog.get_logger()

ADDRESS = "169.254.169.254"
"""AWS, Google Cloud, Azure, Naver Cloud, OpenStack and others."""
CHAIN = "DOCKER-USER"
LOOKED_AGAIN_AFTER_S = 300.0
"""Whoever reloads the firewall may lose the rule."""
_LOCK, _LOCK_PATIENCE_S = Path("/run/klepaas-firewall.lock"), 5.0
"""The firewall is one for all klepaas of this machine. Not iptables' own lock: that one it takes itself."""


class Reach(StrEnum):
    """What containers get of the address."""

    NOTHING = "nothing"
    OPEN = "open"
    UNKNOWN = "unknown"
    """We may not look (not root), or the engine's network is not this machine's (a virtual machine, Podman)."""


class MetadataAddress:
    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._kept_at: float | None = None
        self._keeping = asyncio.Lock()

    async def keep_closed(self) -> None:
        """Have the rule, where we may. Errors: EngineUnavailable."""
        async with self._keeping:  # of two builds that begin together both wait for the rule, and one puts it there
            now = time.monotonic()
            if self._kept_at is not None and now - self._kept_at < LOOKED_AGAIN_AFTER_S:
                return
            bridge = await self._bridge()
            if bridge is not None and not await _closed(bridge):
                log.warning("metadata_address_open", address=ADDRESS, hint=command(bridge))
            self._kept_at = now

    async def reach(self) -> Reach:
        """Errors: EngineUnavailable."""
        bridge = await self._bridge()
        if bridge is None or os.geteuid() != 0:
            return Reach.UNKNOWN
        return Reach.NOTHING if await _firewall("-C", bridge) else Reach.OPEN

    async def _bridge(self) -> str | None:
        """The interface that builds are behind; None when it is not one of this machine."""
        try:
            name = await self._engine.bridge()
        except EngineNotFound:
            return None
        return name if name in {known for _, known in socket.if_nameindex()} else None


def command(bridge: str = "docker0") -> str:
    """What to type where we may not do it ourselves."""
    return f"sudo iptables {' '.join(_rule('-I', bridge))}"


def _rule(action: str, bridge: str) -> list[str]:
    return [action, CHAIN, "-i", bridge, "-d", f"{ADDRESS}/32", "-j", "REJECT"]


async def _closed(bridge: str) -> bool:
    """Have the rule there, once. False where we may not."""
    async with AsyncExitStack() as stack:
        # Without the lock (not root, a /run that cannot be written) it may stand there twice, which does no harm.
        with suppress(OSError):
            await stack.enter_async_context(held(_LOCK, patience_s=_LOCK_PATIENCE_S))
        return await _firewall("-C", bridge) or await _firewall("-I", bridge)


async def _firewall(action: str, bridge: str) -> bool:
    try:
        # -w: others may be changing the firewall in this moment.
        finished = await processes.run(["iptables", "-w", "5", *_rule(action, bridge)], env={"PATH": SYSTEM_PATH})
    except OSError:
        return False
    return finished.exit_code == 0
