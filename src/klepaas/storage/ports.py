"""Loopback ports of the local target, leased under a unique constraint (`targets.local.ports.PortLeases`)."""

import random
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.errors import Unavailable
from klepaas.operations.ports.clock import Clock
from klepaas.storage.database import Database
from klepaas.storage.tables import port_leases

p = port_leases.c

REFUSED_FOR = timedelta(minutes=10)
"""How long a port a stranger was found on is not offered again. A guess: strangers rarely move."""

_LEASES = sa.select(p.holder, p.port).order_by(p.port)

LEASE_TRIES = 50
"""Racing leases repeat until each has a port of its own; ports are drawn at random, so they rarely meet."""


class PortLeaseTable:
    """`port_range` holds the first and the last port that may be leased."""

    def __init__(self, database: Database, clock: Clock, port_range: tuple[int, int]) -> None:
        self._database, self._clock = database, clock
        self._range = range(port_range[0], port_range[1] + 1)
        self._refused: dict[int, datetime] = {}
        self._known: Mapping[str, int] = {}
        self._known_of: int | None = None
        """The state of the database they were read in: a switch looks at the leases half a dozen times."""

    async def lease(self, holder: str) -> int:
        for _ in range(LEASE_TRIES):
            if (port := (await self.leased()).get(holder)) is not None:
                return port
            try:
                async with self._database.write() as connection:
                    port = await self._free_port(connection)
                    await connection.execute(
                        sa.insert(port_leases).values(port=port, holder=holder, leased_at=self._clock.now())
                    )
                    return port
            except sa.exc.IntegrityError:
                continue  # somebody else leased this port, or one for this holder
        raise self._none_free()

    async def replace(self, holder: str, taken: int) -> int:
        self._refused[taken] = self._clock.now()
        for _ in range(LEASE_TRIES):
            if (await self.leased()).get(holder) != taken:
                return await self.lease(holder)
            try:
                async with self._database.write() as connection:
                    await connection.execute(
                        sa.update(port_leases)
                        .where(p.holder == holder, p.port == taken)
                        .values(port=await self._free_port(connection), leased_at=self._clock.now())
                    )
            except sa.exc.IntegrityError:
                continue  # somebody else leased the port we chose
        raise self._none_free()

    async def hand_over(self, holder: str, to: str) -> int | None:
        try:
            async with self._database.write() as connection:
                port: int | None = await connection.scalar(
                    sa.update(port_leases).where(p.holder == holder).values(holder=to).returning(p.port)
                )
                return port
        except sa.exc.IntegrityError:
            return None  # `to` has a port

    async def free(self, holder: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(port_leases).where(p.holder == holder))

    async def leased(self) -> Mapping[str, int]:
        state = self._database.state
        if state is not None and state == self._known_of:
            return self._known
        async with self._database.read() as connection:
            found = {row.holder: row.port for row in await connection.execute(_LEASES)}
        self._known, self._known_of = found, state
        return found

    async def _free_port(self, connection: AsyncConnection) -> int:
        taken = set(await connection.scalars(sa.select(p.port)))
        candidates = [port for port in self._range if port not in taken and not self._is_refused(port)]
        # Drawn at random: a port that was free a moment ago may still be on somebody's mind (an open browser tab).
        random.shuffle(candidates)
        for port in candidates:
            if _can_be_bound(port):
                return port
        raise self._none_free()

    def _is_refused(self, port: int) -> bool:
        since = self._refused.get(port)
        return since is not None and self._clock.now() - since < REFUSED_FOR

    def _none_free(self) -> Unavailable:
        return Unavailable(
            f"No port is free between {self._range.start} and {self._range.stop - 1}.",
            hint="Widen KLEPAAS_DOCKER__PORT_RANGE, or remove apps that are not needed.",
        )


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        # As a server would: connections that are only winding down (TIME_WAIT) do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
