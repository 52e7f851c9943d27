"""What GitHub was told of deployments and is to be told, behind `operations.ports.reports.Reports`.

There is no queue of messages: a row says how far GitHub was told, and is due when the record has gone on since. A row
whose deployment has ended and is not live any more has nothing left to tell (`due_at` NULL)."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.connection import ConnectionKind
from klepaas.domain.deployment import Deployment
from klepaas.domain.project import Project
from klepaas.domain.status import IN_HAND
from klepaas.operations.ports.clock import Clock
from klepaas.operations.ports.reports import DueReport
from klepaas.storage import deployment_state
from klepaas.storage.database import Database
from klepaas.storage.projects import project_of
from klepaas.storage.tables import apps, connections, deployments, projects, reports
from klepaas.storage.words import keepable

r, d, p, a = reports.c, deployments.c, projects.c, apps.c

NOTICED_WITHIN = timedelta(days=1)
"""A deployment GitHub never heard of is news only so long: a klepaas that starts again tells no old stories."""
NUMBERS_BACK = 500
"""PostgreSQL gives numbers before rows can be seen; so many may still be on their way."""

_UNTOLD = (
    sa.select(d.id, d.number)
    .join(projects, p.id == d.project_id)
    .join(
        connections,
        sa.and_(
            connections.c.id == p.connection_id,
            connections.c.kind.in_([ConnectionKind.GITHUB_APP, ConnectionKind.GITHUB_TOKEN]),
        ),
    )
    .where(
        d.number > sa.bindparam("above"),
        d.created_at > sa.bindparam("since"),
        d.created_at >= connections.c.created_at,
        ~sa.exists().where(r.deployment_id == d.id),
    )
)
"""Deployments that GitHub never heard of, with whoever may tell it."""


class ReportTable:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._noticed = 0
        self._due = self._due_rows()
        """Built once: building it takes longer than running it."""

    async def notice(self) -> None:
        values = {"above": self._noticed - NUMBERS_BACK, "since": self._clock.now() - NOTICED_WITHIN}
        async with self._database.read() as connection:
            newest = await connection.scalar(sa.select(sa.func.max(d.number)))
            found = (await connection.execute(_UNTOLD, values)).all()
        for row in found:
            await self._begin(row.id)
        self._noticed = newest or 0

    async def _begin(self, deployment_id: str) -> None:
        values = {"seq": 0, "is_live": False, "sent": {}, "attempts": 0, "last_error": ""}
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    sa.insert(reports).values(deployment_id=deployment_id, due_at=self._database.now, **values)
                )
        except sa.exc.IntegrityError:
            pass  # another process was quicker

    async def take_back(self) -> None:
        claimed = sa.and_(r.attempts == 0, r.due_at > self._database.now)
        async with self._database.write() as connection:
            await connection.execute(sa.update(reports).where(claimed).values(due_at=self._database.now))

    async def is_retrying(self) -> bool:
        async with self._database.read() as connection:
            query = sa.select(r.deployment_id).where(r.due_at.is_not(None), r.attempts > 0).limit(1)
            return await connection.scalar(query) is not None

    async def claim(self, *, limit: int, lease: timedelta) -> Sequence[DueReport]:
        async with self._database.read() as connection:
            rows = (await connection.execute(self._due, {"at_most": limit})).all()
        if not rows:
            return []
        async with self._database.write() as connection:
            mine = [row for row in rows if await self._take(connection, row, lease)]
        async with self._database.read() as connection:
            return await _with_surroundings(connection, mine)

    def _due_rows(self) -> sa.Select[Any]:
        live = deployments.alias("live")
        # Either may have no release yet, and NULL is neither true nor false.
        is_before = sa.func.coalesce(d.release_id == a.previous_release_id, sa.false())
        is_live = sa.case(
            (a.live_deployment_id == d.id, sa.true()),
            # The switch to another one is under way and may be taken back: until it has ended this one counts.
            (live.c.status.in_(IN_HAND), sa.or_(r.is_live, is_before)),
            else_=sa.false(),
        )
        return (
            sa.select(r.deployment_id, r.due_at, r.sent, r.attempts, d.state, d.number, d.project_id, d.app_key)
            .add_columns(is_live.label("is_live"), live.c.state.label("live_state"), live.c.number.label("live_number"))
            .join(deployments, d.id == r.deployment_id)
            .join(apps, a.key == d.app_key)
            .join(live, live.c.id == a.live_deployment_id, isouter=True)
            .where(
                r.due_at <= self._database.now,
                sa.or_(r.seq != d.seq, r.attempts > 0, r.is_live != is_live),
            )
            .order_by(d.number)
            .limit(sa.bindparam("at_most", type_=sa.Integer()))
        )

    async def _take(self, connection: AsyncConnection, row: sa.Row[Any], lease: timedelta) -> bool:
        until = self._database.now + lease.total_seconds()
        taken = await connection.execute(
            sa.update(reports).where(r.deployment_id == row.deployment_id, r.due_at == row.due_at).values(due_at=until)
        )
        return taken.rowcount == 1

    async def told(self, due: DueReport, sent: Mapping[str, Any]) -> None:
        async with self._database.write() as connection:
            await connection.execute(_one(due).values(sent=keepable(dict(sent))))

    async def agreed(self, due: DueReport) -> None:
        is_over = due.deployment.status.is_terminal and not due.is_live
        async with self._database.write() as connection:
            await connection.execute(
                _one(due).values(
                    seq=due.deployment.seq,
                    is_live=due.is_live,
                    attempts=0,
                    last_error="",
                    due_at=None if is_over else self._database.now,
                )
            )

    async def retry(self, due: DueReport, *, after: timedelta, error: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                _one(due).values(
                    attempts=due.attempts + 1,
                    last_error=keepable(error)[:500],
                    due_at=self._database.now + after.total_seconds(),
                )
            )

    async def give_up(self, due: DueReport, *, error: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(_one(due).values(last_error=keepable(error)[:500], due_at=None))


def _one(due: DueReport) -> sa.Update:
    return sa.update(reports).where(r.deployment_id == due.deployment.id)


async def _with_surroundings(connection: AsyncConnection, rows: Sequence[sa.Row[Any]]) -> Sequence[DueReport]:
    """Each with its project, what is live beside it, and the other deployments of its commit."""
    ids = {row.project_id for row in rows}
    # A retired project, too: what it ran does not run any more, and that is to be told.
    found = await connection.execute(sa.select(projects).where(p.id.in_(ids)))
    its_project: Mapping[str, Project] = {row.id: project_of(row) for row in found}
    due = []
    for row in rows:
        deployment = deployment_state.from_json(row.state, number=row.number)
        live = deployment_state.from_json(row.live_state, number=row.live_number) if row.live_state else None
        due.append(
            DueReport(
                deployment=deployment,
                project=its_project[row.project_id],
                is_live=row.is_live,
                live=deployment if row.is_live else live,
                together=await _of_same_commit(connection, deployment),
                sent=row.sent,
                attempts=row.attempts,
            )
        )
    return due


async def _of_same_commit(connection: AsyncConnection, deployment: Deployment) -> Sequence[Deployment]:
    if deployment.commit_sha is None:
        return [deployment]
    query = sa.select(d.state, d.number).where(
        d.app_key == deployment.app_key, d.commit_sha == deployment.commit_sha, d.id != deployment.id
    )
    others = await connection.execute(query)
    return [deployment, *(deployment_state.from_json(row.state, number=row.number) for row in others)]
