"""What the record says about each app, behind `operations.ports.apps.Apps`."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import App, Project
from klepaas.domain.status import IN_HAND
from klepaas.errors import Conflict
from klepaas.operations.ports.apps import AppState, WatchedChange
from klepaas.storage.database import Database
from klepaas.storage.tables import apps, deployments, observations
from klepaas.storage.words import keepable

a, o = apps.c, observations.c

_BY_KEY = sa.select(apps).where(a.key == sa.bindparam("key"))

NAME_LIMIT = 63
"""Longest label in a host name (RFC 1035)."""


class AppTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure(self, project: Project, environment: str) -> AppState:
        """The app's state; its row and its name are made when it is new. One query when it is not."""
        if state := await self.get(project.id, environment):
            return state
        for name in _names(project, environment):
            try:
                async with self._database.write() as connection:
                    await connection.execute(
                        sa.insert(apps).values(
                            key=_key(project.id, environment),
                            project_id=project.id,
                            environment=environment,
                            name=name,
                            health=Health.ABSENT,
                            health_detail="",
                        )
                    )
            except sa.exc.IntegrityError:
                pass  # somebody else made this app, or has this name
            if state := await self.get(project.id, environment):
                return state
        raise Conflict(f"No name is free for {project.name} in {environment}.", hint="Rename the project.")

    async def get(self, project_id: str, environment: str) -> AppState | None:
        async with self._database.read() as connection:
            row = (await connection.execute(_BY_KEY, {"key": _key(project_id, environment)})).first()
            return None if row is None else _state(row)

    async def all(self) -> Sequence[AppState]:
        """Also those of retired projects: nothing of them is to be live."""
        async with self._database.read() as connection:
            return [_state(row) for row in await connection.execute(sa.select(apps).order_by(a.name))]

    async def observed(self, state: AppState, observation: Observation, *, action: str = "") -> None:
        detail = keepable(observation.detail)
        differs = (observation.health, detail) != (state.health, state.health_detail)
        async with self._database.write() as connection:
            # Only while what was looked at is still what is to be live: a switch in the meantime is newer truth.
            found = await connection.execute(
                sa.update(apps)
                .where(a.key == state.app.key, a.live_release_id.is_not_distinct_from(state.live_release_id))
                .values(
                    health=observation.health,
                    health_detail=detail,
                    observed_at=observation.at,
                )
            )
            if (differs and found.rowcount == 1) or action:
                await connection.execute(
                    sa.insert(observations).values(
                        app_key=state.app.key,
                        release_id=state.live_release_id,
                        at=observation.at,
                        health=observation.health,
                        detail=detail,
                        action=action,
                        data=keepable(observation.as_dict()),
                    )
                )

    async def warm(self, app: App, release_id: str | None, until: datetime | None) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(apps).where(a.key == app.key).values(warm_release_id=release_id, warm_until=until)
            )

    async def hold(self, app: App, for_s: float) -> float | None:
        async with self._database.write() as connection:
            await connection.execute(sa.select(a.key).where(a.key == app.key).with_for_update())
            # A query of its own: with the lock in hand it sees what was started before us.
            free = await connection.scalar(
                sa.select(sa.or_(a.held_until.is_(None), a.held_until <= self._database.now)).where(
                    a.key == app.key,
                    ~sa.exists().where(deployments.c.app_key == app.key, deployments.c.status.in_(IN_HAND)),
                )
            )
            if not free:
                return None
            until: float | None = await connection.scalar(
                sa.update(apps)
                .where(a.key == app.key)
                .values(held_until=self._database.now + for_s)
                .returning(a.held_until)
            )
            return until

    async def let_go(self, app: App, hold: float) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(apps).where(a.key == app.key, a.held_until == hold).values(held_until=None)
            )

    async def changes(self, app_key: str, *, limit: int = 50) -> Sequence[WatchedChange]:
        """Newest first."""
        query = sa.select(observations).where(o.app_key == app_key).order_by(o.number.desc()).limit(limit)
        async with self._database.read() as connection:
            return [_change(row) for row in await connection.execute(query)]

    async def forget_changes(self, before: datetime) -> int:
        newest = sa.select(sa.func.max(o.number)).group_by(o.app_key)
        async with self._database.write() as connection:
            gone = await connection.execute(sa.delete(observations).where(o.at < before, o.number.not_in(newest)))
            return gone.rowcount


def _key(project_id: str, environment: str) -> str:
    return f"{project_id}/{environment}"


def _names(project: Project, environment: str) -> Iterator[str]:
    """Names for an app, the best one first: `shop-production`, then `shop-production-3fa2` and longer."""
    plain = f"{project.name}-{environment}"
    mark = hashlib.sha256(_key(project.id, environment).encode()).hexdigest()
    if len(plain) <= NAME_LIMIT:
        yield plain
    for length in (4, 8, 16, 32):
        yield f"{plain[: NAME_LIMIT - 1 - length].rstrip('-')}-{mark[:length]}"


def _state(row: sa.Row[Any]) -> AppState:
    return AppState(
        app=App(project_id=row.project_id, environment=row.environment, name=row.name),
        live_release_id=row.live_release_id,
        live_deployment_id=row.live_deployment_id,
        previous_release_id=row.previous_release_id,
        warm_release_id=row.warm_release_id,
        warm_until=row.warm_until,
        health=Health(row.health),
        health_detail=row.health_detail,
        observed_at=row.observed_at,
    )


def _change(row: sa.Row[Any]) -> WatchedChange:
    return WatchedChange(
        number=row.number,
        app_key=row.app_key,
        release_id=row.release_id,
        at=row.at,
        health=Health(row.health),
        detail=row.detail,
        action=row.action,
    )
