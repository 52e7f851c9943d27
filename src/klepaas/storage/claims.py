"""What must hold before a node begins a deployment of an app, asked inside the transaction that begins it."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.status import IN_HAND
from klepaas.storage.database import Database
from klepaas.storage.tables import apps, deployments, nodes

d = deployments.c


class Claims:
    """Its statements are built once: to build one takes longer than to run it."""

    def __init__(self, database: Database) -> None:
        other = deployments.alias()
        self.is_alive = sa.exists().where(nodes.c.id == sa.bindparam("node"), nodes.c.lease_until > database.now)
        """A node whose own lease ran out takes nothing, its own deployments least of all: it still works on them."""
        self.is_idle = ~sa.exists().where(other.c.app_key == d.app_key, other.c.status.in_(IN_HAND))
        """Of the app of a deployment in a query: nothing of it runs, and nothing is unknown."""
        of_app = sa.exists().where(d.app_key == sa.bindparam("app_key"), d.status.in_(IN_HAND))
        self._held = (
            sa.select(apps.c.key, apps.c.held_until > database.now)
            .where(apps.c.key.in_(sa.bindparam("app_keys", expanding=True)))
            .order_by(apps.c.key)
            .with_for_update(read=True)
        )
        self._may_begin = sa.select(sa.and_(self.is_alive, ~of_app))

    async def may_begin(self, connection: AsyncConnection, node: str, app_key: str) -> bool:
        """Whether the node may begin a deployment of this app now; if so, `held` is answered for, too."""
        if not await connection.scalar(self._may_begin, {"node": node, "app_key": app_key}):
            return False
        return not await self.held(connection, [app_key])

    async def held(self, connection: AsyncConnection, app_keys: Sequence[str]) -> set[str]:
        """Those apps that somebody holds (`Apps.hold`), and until our transaction ends no others can be held: a hold
        locks the same row, and then sees what we started."""
        rows = await connection.execute(self._held, {"app_keys": list(app_keys)})
        return {key for key, is_held in rows if is_held}
