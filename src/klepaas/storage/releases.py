"""Releases with their sealed variables, behind `operations.ports.releases.Releases`."""

import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.deployment import Deployment
from klepaas.domain.project import Project
from klepaas.domain.release import Release
from klepaas.errors import Conflict, NotFound
from klepaas.operations.ports.clock import Clock
from klepaas.storage import projects
from klepaas.storage.database import Database
from klepaas.storage.sealing import Sealer
from klepaas.storage.tables import releases, variables

r, v = releases.c, variables.c

_BY_ID = sa.select(releases).where(r.id == sa.bindparam("id"))
_SEALED = sa.select(r.sealed_variables).where(r.id == sa.bindparam("id"))
_PROVEN = (
    sa.select(releases)
    .where(
        r.project_id == sa.bindparam("project_id"),
        r.environment == sa.bindparam("environment"),
        r.proven_at.is_not(None),
    )
    .order_by(r.number.desc())
    .limit(sa.bindparam("most", type_=sa.Integer()))
)
"""Queries on the way of every rollback are built once: building one takes as long as running it."""

CREATE_TRIES = 10
"""The number may be taken by a release of another deployment of the app. Only one of them runs at a time."""

KNOWN_RELEASES = 1000
"""Releases kept in memory: the live ones and their neighbours are asked for again and again."""


def place_of(release_id: str) -> str:
    """Where a release's variables are sealed into."""
    return f"release:{release_id}"


class ReleaseTable:
    def __init__(self, database: Database, sealer: Sealer, clock: Clock) -> None:
        self._database, self._sealer, self._clock = database, sealer, clock
        self._known: OrderedDict[str, Release] = OrderedDict()

    async def create(
        self,
        deployment: Deployment,
        project: Project,
        *,
        image_digest: str,
        image_ref: str,
        container_port: int,
    ) -> Release:
        """With `deployment.settings_of` it takes settings and variables of that earlier release instead.

        Errors: WrongKey when the key cannot open the variables; NotFound when the earlier release is gone."""
        for _ in range(CREATE_TRIES):
            try:
                async with self._database.write() as connection:
                    if earlier := await _one(connection, r.deployment_id == deployment.id):
                        return _release(earlier)
                    row = await self._new_row(connection, deployment, project)
                    row |= {
                        "image_digest": image_digest,
                        "image_ref": image_ref,
                        "container_port": container_port,
                    }
                    stored = await connection.execute(sa.insert(releases).values(**row).returning(*releases.c))
                    return _release(stored.one())
            except sa.exc.IntegrityError:
                continue  # another node created it, or another release of the app took the number
        raise Conflict(f"No release could be numbered for deployment {deployment.id}.", hint="Deploy again.")

    async def _new_row(self, connection: AsyncConnection, deployment: Deployment, project: Project) -> dict[str, Any]:
        release_id = "rel_" + secrets.token_hex(8)
        settings, values = await self._snapshot(connection, deployment, project)
        app = sa.and_(r.project_id == project.id, r.environment == deployment.environment)
        return {
            "id": release_id,
            "project_id": project.id,
            "environment": deployment.environment,
            "number": sa.select(sa.func.coalesce(sa.func.max(r.number), 0) + 1).where(app).scalar_subquery(),
            "deployment_id": deployment.id,
            "commit_sha": deployment.commit_sha,
            "settings": settings,
            "variable_names": sorted(values),
            "environment_digest": self._sealer.digest(values),
            "sealed_variables": self._sealer.seal_values(values, place_of(release_id)),
            "created_at": self._clock.now(),
        }

    async def _snapshot(
        self, connection: AsyncConnection, deployment: Deployment, project: Project
    ) -> tuple[dict[str, Any], dict[str, str]]:
        if deployment.settings_of is not None:
            earlier = await _one(connection, r.id == deployment.settings_of)
            if earlier is None:
                raise _not_found(deployment.settings_of)
            return earlier.settings, self._sealer.open_values(earlier.sealed_variables, place_of(earlier.id))
        here = (v.project_id == project.id, v.environment == deployment.environment)
        rows = await connection.execute(sa.select(v.name, v.sealed).where(*here))
        place = projects.place_of
        values = {
            row.name: self._sealer.open(row.sealed, place(project.id, deployment.environment, row.name)).decode()
            for row in rows
        }
        return project.settings.model_dump(mode="json"), values

    async def get(self, release_id: str) -> Release | None:
        if known := self._known.get(release_id):
            return known  # a release never changes
        if not release_id:
            return None
        async with self._database.read() as connection:
            row = (await connection.execute(_BY_ID, {"id": release_id})).first()
        if row is None:
            return None
        release = self._known[release_id] = _release(row)
        if len(self._known) > KNOWN_RELEASES:
            self._known.popitem(last=False)
        return release

    async def of_app(self, project_id: str, environment: str, *, limit: int = 100) -> Sequence[Release]:
        values = {"project_id": project_id, "environment": environment, "most": limit}
        async with self._database.read() as connection:
            return [_release(row) for row in await connection.execute(_PROVEN, values)]

    async def variables(self, release_id: str) -> Mapping[str, str]:
        """Errors: WrongKey; NotFound."""
        async with self._database.read() as connection:
            sealed = await connection.scalar(_SEALED, {"id": release_id})
        if sealed is None:
            raise _not_found(release_id)
        return self._sealer.open_values(sealed, place_of(release_id))


async def _one(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> sa.Row[Any] | None:
    return (await connection.execute(sa.select(releases).where(condition))).first()


def _not_found(release_id: str) -> NotFound:
    return NotFound(f"There is no release {release_id[:80]!r}.", hint="Deploy again.")


def _release(row: sa.Row[Any]) -> Release:
    return Release(
        id=row.id,
        project_id=row.project_id,
        environment=row.environment,
        number=row.number,
        deployment_id=row.deployment_id,
        commit_sha=row.commit_sha,
        image_digest=row.image_digest,
        image_ref=row.image_ref,
        settings=projects.settings_from(row.settings),
        container_port=row.container_port,
        variable_names=tuple(row.variable_names),
        environment_digest=row.environment_digest,
        created_at=row.created_at,
    )
