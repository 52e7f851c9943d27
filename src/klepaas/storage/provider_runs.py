"""Runs at the provider, behind `operations.ports.provider_runs.ProviderRuns`."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.project import App
from klepaas.domain.status import NEXT
from klepaas.errors import Conflict
from klepaas.operations.ports.clock import Clock
from klepaas.operations.ports.provider_runs import ProviderRun
from klepaas.storage.database import Database
from klepaas.storage.tables import deployments, provider_runs

r = provider_runs.c

ENDED = tuple(status for status, following in NEXT.items() if not following)
LEFT = "left"
"""The word of a run whose deployment ended before it did."""


class ProviderRunTable:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def of(self, deployment_id: str, kind: str) -> ProviderRun | None:
        async with self._database.read() as connection:
            return await _one(connection, r.deployment_id == deployment_id, r.kind == kind)

    async def newest(self, app_key: str, kind: str) -> ProviderRun | None:
        ours = (r.app_key == app_key, r.kind == kind, r.deployment_id.is_not(None))
        async with self._database.read() as connection:
            return await _one(connection, *ours)

    async def intend(
        self,
        app: App,
        kind: str,
        provider_project_id: str,
        *,
        deployment_id: str,
        known: Collection[str],
        commit_sha: str | None = None,
        release_id: str | None = None,
    ) -> ProviderRun | None:
        row = {
            "app_key": app.key,
            "deployment_id": deployment_id,
            "kind": kind,
            "provider_project_id": provider_project_id,
            "commit_sha": commit_sha,
            "release_id": release_id,
            "known": sorted(known),
            "noted_at": self._clock.now(),
        }
        try:
            async with self._database.write() as connection:
                if earlier := await _one(connection, r.deployment_id == deployment_id, r.kind == kind):
                    return earlier
                await self._close_left(connection, kind, provider_project_id)
                stored = await connection.execute(sa.insert(provider_runs).values(**row).returning(*provider_runs.c))
                return _run(stored.one())
        except sa.exc.IntegrityError:
            return None

    async def began(self, run: ProviderRun, run_id: str) -> ProviderRun:
        change = sa.update(provider_runs).where(r.number == run.number).values(run_id=run_id)
        try:
            async with self._database.write() as connection:
                stored = await connection.execute(change.returning(*provider_runs.c))
                return _run(stored.one())
        except sa.exc.IntegrityError as error:
            raise Conflict(
                f"The {run.kind} run {run_id} belongs to another deployment.",
                hint="Look at the runs in the provider's console, then deploy again.",
                evidence={"run_id": run_id, "provider_project_id": run.provider_project_id},
            ) from error

    async def ended(self, run: ProviderRun, word: str) -> None:
        values = {"word": word[:100], "ended_at": sa.func.coalesce(r.ended_at, self._clock.now())}
        async with self._database.write() as connection:
            await connection.execute(sa.update(provider_runs).where(r.number == run.number).values(**values))

    async def forget(self, run: ProviderRun) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(provider_runs).where(r.number == run.number, r.run_id.is_(None)))

    async def ids(self, kind: str, provider_project_id: str) -> Collection[str]:
        here = (r.kind == kind, r.provider_project_id == provider_project_id, r.run_id.is_not(None))
        async with self._database.read() as connection:
            return set(await connection.scalars(sa.select(r.run_id).where(*here)))

    async def by_hand(self, app: App, kind: str, provider_project_id: str, run_id: str, *, word: str, by: str) -> bool:
        now = self._clock.now()
        row = {
            "app_key": app.key,
            "kind": kind,
            "provider_project_id": provider_project_id,
            "known": [],
            "run_id": run_id,
            "word": word[:100],
            "by": by[:120],
            "noted_at": now,
            "ended_at": now,
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(sa.insert(provider_runs).values(**row))
        except sa.exc.IntegrityError:
            return False
        return True

    async def list(self, app_key: str, *, limit: int = 50) -> Sequence[ProviderRun]:
        query = sa.select(provider_runs).where(r.app_key == app_key).order_by(r.number.desc()).limit(limit)
        async with self._database.read() as connection:
            return [_run(row) for row in await connection.execute(query)]

    async def _close_left(self, connection: AsyncConnection, kind: str, provider_project_id: str) -> None:
        """Those whose deployment has ended are in nobody's way any more."""
        has_ended = sa.exists().where(deployments.c.id == r.deployment_id, deployments.c.status.in_(ENDED))
        here = (r.kind == kind, r.provider_project_id == provider_project_id, r.ended_at.is_(None))
        values = {"word": sa.func.coalesce(r.word, LEFT), "ended_at": self._clock.now()}
        await connection.execute(sa.update(provider_runs).where(*here, has_ended).values(**values))


async def _one(connection: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> ProviderRun | None:
    query = sa.select(provider_runs).where(*conditions).order_by(r.number.desc()).limit(1)
    row = (await connection.execute(query)).first()
    return _run(row) if row is not None else None


def _run(row: sa.Row[Any]) -> ProviderRun:
    return ProviderRun(
        number=row.number,
        app_key=row.app_key,
        kind=row.kind,
        provider_project_id=row.provider_project_id,
        noted_at=row.noted_at,
        deployment_id=row.deployment_id,
        commit_sha=row.commit_sha,
        release_id=row.release_id,
        known=tuple(row.known),
        run_id=row.run_id,
        word=row.word,
        by=row.by,
        ended_at=row.ended_at,
    )
