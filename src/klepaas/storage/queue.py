"""The engine's side of the deployments: leases, claims and fenced writes.

A node claims a row by writing its own id and raising `fence`; every later write names that fence, so a node
that lost the row cannot change it. The database's clock decides about leases: nodes need not agree on the time."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.deployment import Deployment
from klepaas.domain.events import CancellationRequested, Event
from klepaas.domain.status import IN_HAND, Status
from klepaas.operations.ports.clock import Clock
from klepaas.operations.ports.queue import Lost
from klepaas.storage import deployment_state, event_log
from klepaas.storage.claims import Claims
from klepaas.storage.database import Database
from klepaas.storage.tables import apps, deployments, nodes
from klepaas.storage.words import keepable_event

d = deployments.c

CLAIM_AT_ONCE = 200
FORGET_NODES_AFTER_S = 3600.0


class DeploymentQueue:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock, self._claims = database, clock, Claims(database)
        self._claimable = self._claimable_rows()

    async def join(self, node: str, lease_s: float) -> None:
        async with self._database.pulse() as connection:
            if self._database.is_sqlite:
                # One process is all there is (the lock file of `home` sees to it): whoever was here is gone.
                await connection.execute(sa.delete(nodes))
                await connection.execute(sa.update(apps).values(held_until=None).where(apps.c.held_until.is_not(None)))
                # Nor does anybody rest: the clock may have been set back since.
                await connection.execute(
                    sa.update(deployments).values(look_again_at=None).where(d.look_again_at.is_not(None))
                )
            else:
                await connection.execute(
                    sa.delete(nodes).where(nodes.c.lease_until < self._database.now - FORGET_NODES_AFTER_S)
                )
            await connection.execute(sa.insert(nodes).values(id=node, lease_until=self._database.now + lease_s))

    async def renew(self, node: str, lease_s: float) -> bool:
        async with self._database.pulse() as connection:
            renewed = await connection.execute(
                sa.update(nodes)
                .where(nodes.c.id == node, nodes.c.lease_until > self._database.now)
                .values(lease_until=self._database.now + lease_s)
            )
        return renewed.rowcount == 1

    async def leave(self, node: str) -> None:
        async with self._database.pulse() as connection:
            await connection.execute(sa.delete(nodes).where(nodes.c.id == node))

    async def leads(self, node: str) -> bool:
        """Whether this node is the one that watches: the first by id of those whose lease runs."""
        async with self._database.read() as connection:
            first = await connection.scalar(
                sa.select(sa.func.min(nodes.c.id)).where(nodes.c.lease_until > self._database.now)
            )
        return bool(first == node)

    async def claim(self, node: str, room: int) -> Sequence[Deployment]:
        if room <= 0:
            return []
        try:
            async with self._database.write() as connection:
                rows = await connection.execute(self._claimable, {"node": node, "room": min(room, CLAIM_AT_ONCE)})
                found = rows.all()
                if not found:
                    return []
                held = await self._claims.held(connection, [row.app_key for row in found])
                taken = []
                for row in found:
                    if row.app_key in held:
                        continue
                    before = deployment_state.from_json(row.state, number=row.number)
                    events = before.claim(node=node, fence=row.fence + 1)
                    after = await event_log.write(
                        connection,
                        before,
                        events,
                        at=self._clock.now(),
                        by=node,
                        mine={"fence": row.fence},
                        node=node,
                        look_again_at=None,
                    )
                    if after is not None:
                        taken.append(after)
                return taken
        except sa.exc.IntegrityError:
            return []  # another node started the same app between our look and our write

    def _claimable_rows(self) -> sa.Select[Any]:
        ownerless = ~sa.exists().where(nodes.c.id == d.node, nodes.c.lease_until > self._database.now)
        due = sa.or_(d.look_again_at.is_(None), d.look_again_at <= self._database.now)
        may_begin = sa.and_(d.status == Status.QUEUED, self._claims.is_idle)
        may_go_on = sa.and_(d.status.in_(IN_HAND), ownerless, due)
        return (
            # The conditions are those of the locked rows themselves: PostgreSQL checks them again on a row that
            # another node claimed between our look and our lock, and leaves it out.
            sa.select(d.state, d.number, d.fence, d.app_key)
            .where(self._claims.is_alive, sa.or_(may_begin, may_go_on))
            .order_by(d.created_at)
            .limit(sa.bindparam("room", type_=sa.Integer()))
            .with_for_update(skip_locked=True, of=deployments)
        )

    async def owned(self, node: str) -> Mapping[str, bool]:
        async with self._database.read() as connection:
            rows = await connection.execute(
                sa.select(d.id, d.cancelled_by).where(d.node == node, d.status.in_(IN_HAND))
            )
            return {row.id: row.cancelled_by is not None for row in rows}

    async def let_go(self, deployment_id: str, node: str, look_again_in_s: float = 0.0) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(deployments)
                .where(d.id == deployment_id, d.node == node, d.status.in_(IN_HAND))
                .values(node=None, look_again_at=self._database.now + look_again_in_s if look_again_in_s else None)
            )

    async def advance(self, deployment: Deployment, node: str, events: Sequence[Event]) -> Deployment:
        mine = {"fence": deployment.fence, "node": node}
        async with self._database.write() as connection:
            now = self._clock.now()
            after = await event_log.write(connection, deployment, events, at=now, by=node, mine=mine)
            if after is None:
                current, done = await self._moved_on(connection, deployment, events, mine)
                if done:
                    return current
                after = await event_log.write(connection, current, events, at=now, by=node, mine=mine)
            if after is None:
                raise Lost(deployment.id)
            return after

    async def _moved_on(
        self,
        connection: AsyncConnection,
        deployment: Deployment,
        events: Sequence[Event],
        mine: Mapping[str, Any],
    ) -> tuple[Deployment, bool]:
        """The row's state now, and whether these events are in it already (a commit whose answer was lost).

        Besides ourselves only a cancellation may write to a row we own; anything else means we lost it."""
        query = sa.select(d.state, d.number).where(d.id == deployment.id, *(d[name] == mine[name] for name in mine))
        row = (await connection.execute(query)).first()
        if row is None:
            raise Lost(deployment.id)
        current = deployment_state.from_json(row.state, number=row.number)
        since = await event_log.read(connection, deployment.id, after=deployment.seq)
        ours = [each.event for each in since if not isinstance(each.event, CancellationRequested)]
        if not ours:
            return current, False
        if [_stored(event) for event in ours] == [_stored(keepable_event(event)) for event in events]:
            return current, True
        raise Lost(deployment.id)


def _stored(event: Event) -> tuple[str, str]:
    return event.kind, json.dumps(event.data(), sort_keys=True)
