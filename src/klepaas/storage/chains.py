"""What is known of the projects' chains at their provider, behind `operations.ports.chains.ChainBook`."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.project import Project
from klepaas.errors import Conflict
from klepaas.storage.database import Database
from klepaas.storage.tables import projects

p = projects.c

COLUMNS = ("sc_project_id", "sc_repo_name", "build_project_id", "deploy_project_id", "pipeline_id")
"""What has had a column since the older systems; everything else lies in `chain`."""
NAMES = "names"
_LOCK = 0x6E616D6573  # "names" in ASCII


class ChainTable:
    """Names are compared in any case: the image's is always in lower case."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim_names(
        self, project: Project, candidates: Sequence[Mapping[str, str]], *, keep: Mapping[str, str]
    ) -> Mapping[str, str]:
        async with self._database.write() as connection:
            if not self._database.is_sqlite:  # SQLite's write lock is enough
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            found = await connection.execute(
                sa.select(p.id, p.owner_id, p.github_owner, p.github_repo, p.retired_at, p.chain).where(
                    p.chain.is_not(None)
                )
            )
            rows = [row for row in found if (row.chain or {}).get(NAMES)]
            own = next((dict(row.chain[NAMES]) for row in rows if row.id == project.id), None)
            if own is not None:
                return own
            left = [row.id for row in rows if _was_left(row, project)]
            others = [row.chain[NAMES] for row in rows if row.id not in left]
            names = _free([{**one, **keep} for one in candidates], others, project)
            await connection.execute(sa.update(projects).where(p.id.in_(left)).values(chain=None))
            chain = {**await _chain(connection, project.id), NAMES: names}
            await connection.execute(sa.update(projects).where(p.id == project.id).values(chain=chain))
        return names

    async def note(self, project_id: str, known: Mapping[str, Any]) -> None:
        columns: dict[str, Any] = {
            name: None if value is None else str(value) for name, value in known.items() if name in COLUMNS
        }
        rest = {name: value for name, value in known.items() if name not in COLUMNS}
        async with self._database.write() as connection:
            if rest:
                merged = {**await _chain(connection, project_id), **rest}
                columns["chain"] = {name: value for name, value in merged.items() if value is not None}
            if columns:
                await connection.execute(sa.update(projects).where(p.id == project_id).values(**columns))

    async def forget(self, project_id: str) -> None:
        nothing = dict.fromkeys((*COLUMNS, "chain"))
        async with self._database.write() as connection:
            await connection.execute(sa.update(projects).where(p.id == project_id).values(**nothing))


def _free(
    candidates: Sequence[Mapping[str, str]], others: Sequence[Mapping[str, str]], project: Project
) -> Mapping[str, str]:
    for names in candidates:
        if not any(_share(names, other) for other in others):
            return names
    held = next(name for name in candidates[-1].values() for other in others if name.lower() in _lower(other))
    raise Conflict(
        f"{project.name} cannot use {held} at its provider: another project holds that name.",
        hint="Leave the name to klepaas, or remove the other project with its chain.",
    )


async def _chain(connection: AsyncConnection, project_id: str) -> Mapping[str, Any]:
    """Held until the end of the transaction, so that nobody writes between."""
    return await connection.scalar(sa.select(p.chain).where(p.id == project_id).with_for_update()) or {}


def _was_left(row: Any, project: Project) -> bool:
    """Whether this is the chain of an earlier project of the same owner and repository, which was left standing."""
    theirs = (row.owner_id, row.github_owner.lower(), row.github_repo.lower())
    ours = (project.owner_id, project.repository.owner.lower(), project.repository.name.lower())
    return row.retired_at is not None and theirs == ours


def _share(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return any(one.get(kind, "").lower() == name.lower() for kind, name in other.items())


def _lower(names: Mapping[str, str]) -> set[str]:
    return {name.lower() for name in names.values()}
