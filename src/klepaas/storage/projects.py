"""Projects and their sealed environment variables, behind `operations.ports.projects.Projects`."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.github import RepositoryName
from klepaas.domain.project import Project, ProjectSettings
from klepaas.domain.repository import Repository, SourceKind
from klepaas.domain.status import Status
from klepaas.domain.trigger_rule import TriggerRule
from klepaas.errors import Conflict
from klepaas.operations.ports.projects import Recalled
from klepaas.storage.database import Database
from klepaas.storage.repositories import PROJECTS_OF, VERSION, RepositoryAsOf, asked_about, versions_of
from klepaas.storage.sealing import Sealer
from klepaas.storage.shared import Shared
from klepaas.storage.tables import apps, deployments, projects, variables

p, v = projects.c, variables.c
Model = TypeVar("Model", bound=BaseModel)

UNDER_WAY = (Status.QUEUED, Status.RUNNING, Status.UNKNOWN)


def place_of(project_id: str, environment: str, name: str) -> str:
    """Where a variable is sealed into."""
    return f"variable:{project_id}:{environment}:{name}"


_STANDING = sa.select(projects).where(p.retired_at.is_(None)).order_by(p.name, p.number)
_BY_ID = _STANDING.where(p.id == sa.bindparam("id"))
_NAMED = _STANDING.where(p.name == sa.bindparam("name"))
_NAMED_OF_OWNER = _NAMED.where(p.owner_id == sa.bindparam("owner_id"))
_TARGETS = sa.select(p.id, p.target).where(p.retired_at.is_(None))
_WITH_VERSIONS = PROJECTS_OF.add_columns(VERSION)

REPOSITORIES_KEPT = 1000
"""What a crowd of deliveries is about is read once, and again when anything was written."""
RECALLED_FOR_S = 10.0
"""Where other processes write, too. Whoever writes on the strength of it looks whether it still holds."""


class ProjectTable:
    """A retired project is not found any more; its row and its history stay."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database, self._sealer = database, sealer
        # Deliveries about one repository come in crowds.
        self._of_repository: Shared[RepositoryName, Sequence[Project]] = Shared(self._read_of_repository)
        self._with_versions: Shared[RepositoryName, Recalled] = Shared(self._read_with_versions)
        self._kept: dict[RepositoryName, Sequence[Project]] = {}
        self._kept_of: int | None = None
        self._recalled: dict[RepositoryName, tuple[Recalled, float]] = {}

    async def add(self, project: Project) -> Project:
        """The project with its number. Errors: Conflict when its owner has a project of this name."""
        columns = {**columns_of(project), "id": project.id, "created_at": project.created_at}
        try:
            async with self._changing() as connection:
                number = await connection.scalar(sa.insert(projects).values(**columns).returning(p.number))
        except sa.exc.IntegrityError as error:
            raise _taken(project) from error
        return replace(project, number=number or 0)

    async def get(self, project_id: str) -> Project | None:
        found = await self._found(_BY_ID, {"id": project_id})
        return found[0] if found else None

    async def named(self, name: str, owner_id: str | None) -> Sequence[Project]:
        if owner_id is None:
            return await self._found(_NAMED, {"name": name})
        return await self._found(_NAMED_OF_OWNER, {"name": name, "owner_id": owner_id})

    async def list(self, owner_id: str | None) -> Sequence[Project]:
        mine = _STANDING if owner_id is None else _STANDING.where(p.owner_id == owner_id)
        return await self._found(mine, {})

    async def targets(self) -> Mapping[str, str]:
        async with self._database.read() as connection:
            return {row.id: row.target for row in await connection.execute(_TARGETS)}

    async def of_repository(self, repository: RepositoryName) -> Sequence[Project]:
        state = self._database.state
        if state is None:
            return await self._of_repository.ask(repository)
        if state != self._kept_of or len(self._kept) > REPOSITORIES_KEPT:
            self._kept, self._kept_of = {}, state
        found = self._kept.get(repository)
        if found is None:
            found = await self._of_repository.ask(repository)
            if self._database.state == state == self._kept_of:
                self._kept[repository] = found
        return found

    async def recall(self, repository: RepositoryName) -> Recalled:
        if self._database.is_sqlite:
            return Recalled(await self.of_repository(repository), None)
        recalled, until = self._recalled.get(repository, (None, 0.0))
        if recalled is None or time.monotonic() > until:
            recalled = await self._with_versions.ask(repository)
            if len(self._recalled) > REPOSITORIES_KEPT:
                self._recalled.clear()
            self._recalled[repository] = recalled, time.monotonic() + RECALLED_FOR_S
        return recalled

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction after which what is recalled is read anew; what others change shows at the next write."""
        try:
            async with self._database.write() as connection:
                yield connection
        finally:
            self._recalled.clear()

    async def _read_with_versions(self, repository: RepositoryName) -> Recalled:
        async with self._database.read() as connection:
            rows = list(await connection.execute(_WITH_VERSIONS, asked_about(repository)))
        as_of = RepositoryAsOf(repository, versions_of(rows), forget=self._forget)
        return Recalled([project_of(row) for row in rows], as_of)

    def _forget(self, repository: RepositoryName) -> None:
        self._recalled.pop(repository, None)

    async def _read_of_repository(self, repository: RepositoryName) -> Sequence[Project]:
        return await self._found(PROJECTS_OF, asked_about(repository))

    async def learn(self, known: Sequence[Project]) -> None:
        statement = (
            sa.update(projects)
            .where(p.id == sa.bindparam("of_id"), p.updated_at == sa.bindparam("unchanged_since"))
            .values(
                repository_location=sa.bindparam("location"),
                github_owner=sa.bindparam("owner"),
                github_repo=sa.bindparam("repo"),
                github_repository_id=sa.bindparam("repository_id"),
                github_installation_id=sa.bindparam("installation_id"),
            )
        )
        rows = [
            {
                "of_id": project.id,
                "unchanged_since": project.updated_at,
                "location": project.repository.location,
                "owner": project.repository.owner,
                "repo": project.repository.name,
                "repository_id": project.github_repository_id,
                "installation_id": project.github_installation_id,
            }
            for project in known
        ]
        async with self._changing() as connection:
            await connection.execute(statement, rows)

    async def change(self, project: Project, *, unchanged_since: datetime) -> Project:
        # Later than before even when the clock stands still: the time is what tells changes apart.
        changed = replace(project, updated_at=max(project.updated_at, unchanged_since + timedelta(microseconds=1)))
        try:
            async with self._changing() as connection:
                found = await connection.execute(
                    sa.update(projects)
                    .where(p.id == project.id, p.updated_at == unchanged_since, p.retired_at.is_(None))
                    .values(**columns_of(changed))
                )
        except sa.exc.IntegrityError as error:
            raise _taken(project) from error
        if found.rowcount != 1:
            raise Conflict(
                f"Project {project.name} was changed by somebody else in the meantime.",
                hint="Look at it and try again.",
            )
        return changed

    async def retire(self, project_id: str, at: datetime) -> None:
        """From here on the record says that none of its apps is to be live. Idempotent.

        Errors: Conflict while a deployment is under way."""
        under_way = sa.exists().where(deployments.c.project_id == project_id, deployments.c.status.in_(UNDER_WAY))
        async with self._changing() as connection:
            # First: it waits for a submission that is being written, which the question after it then sees.
            await connection.execute(
                sa.update(projects).where(p.id == project_id, p.retired_at.is_(None)).values(retired_at=at)
            )
            if await connection.scalar(sa.select(under_way)):
                raise Conflict("A deployment of this project is under way.", hint="Wait for it, or cancel it.")
            await connection.execute(
                sa.update(apps)
                .where(apps.c.project_id == project_id)
                .values(
                    live_release_id=None,
                    live_deployment_id=None,
                    previous_release_id=None,
                    warm_release_id=None,
                    warm_until=None,
                )
            )

    async def set_variables(
        self, project_id: str, environment: str, values: Mapping[str, str | None], at: datetime
    ) -> None:
        if not values:
            return
        here = (v.project_id == project_id, v.environment == environment)
        rows = [
            {
                "project_id": project_id,
                "environment": environment,
                "name": name,
                "sealed": self._sealer.seal(value.encode(), place_of(project_id, environment, name)),
                "updated_at": at,
            }
            for name, value in values.items()
            if value is not None
        ]
        async with self._database.write() as connection:
            # Held until the end, so that two who set the same new variable take turns.
            await connection.execute(sa.select(p.id).where(p.id == project_id).with_for_update())
            await connection.execute(sa.delete(variables).where(*here, v.name.in_(list(values))))
            if rows:
                await connection.execute(sa.insert(variables), rows)

    async def variable_names(self, project_id: str, environment: str) -> Mapping[str, datetime]:
        query = sa.select(v.name, v.updated_at).where(v.project_id == project_id, v.environment == environment)
        async with self._database.read() as connection:
            return {row.name: row.updated_at for row in await connection.execute(query.order_by(v.name))}

    async def _found(self, query: sa.Select[Any], values: Mapping[str, Any]) -> Sequence[Project]:
        async with self._database.read() as connection:
            return [project_of(row) for row in await connection.execute(query, values)]


def _taken(project: Project) -> Conflict:
    return Conflict(f"There is already a project named {project.name}.", hint="Choose another name.")


def columns_of(project: Project) -> dict[str, Any]:
    """What a change may change."""
    return {
        "owner_id": project.owner_id,
        "name": project.name,
        "repository_kind": project.repository.kind,
        "repository_location": project.repository.location,
        "github_owner": project.repository.owner,
        "github_repo": project.repository.name,
        "branch": project.branch,
        "environment": project.environment,
        "target": project.target,
        "settings": project.settings.chosen(),
        "auto_deploy": project.auto_deploy,
        "connection_id": project.connection_id,
        "rules": project.rules.model_dump(mode="json", exclude_defaults=True),
        "github_repository_id": project.github_repository_id,
        "github_installation_id": project.github_installation_id,
        "updated_at": project.updated_at,
    }


def project_of(row: sa.Row[Any]) -> Project:
    return Project(
        id=row.id,
        number=row.number,
        owner_id=row.owner_id,
        name=row.name,
        repository=Repository(
            kind=SourceKind(row.repository_kind),
            location=row.repository_location,
            owner=row.github_owner,
            name=row.github_repo,
        ),
        branch=row.branch,
        environment=row.environment,
        target=row.target,
        settings=settings_from(row.settings),
        auto_deploy=row.auto_deploy,
        connection_id=row.connection_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        rules=_known(TriggerRule, row.rules or {}),
        github_repository_id=row.github_repository_id,
        github_installation_id=row.github_installation_id,
        sc_project_id=row.sc_project_id,
        sc_repo_name=row.sc_repo_name,
        build_project_id=row.build_project_id,
        deploy_project_id=row.deploy_project_id,
        pipeline_id=row.pipeline_id,
        chain=row.chain or {},
    )


def settings_from(stored: Mapping[str, Any]) -> ProjectSettings:
    """Settings as stored. Those only a newer version knows are left out."""
    return _known(ProjectSettings, stored)


def _known(model: type[Model], stored: Mapping[str, Any]) -> Model:
    return model.model_validate({name: value for name, value in stored.items() if name in model.model_fields})
