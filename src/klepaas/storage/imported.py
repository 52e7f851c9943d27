"""Deployments of older systems, behind `operations.past.ImportedHistory`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from klepaas.domain.imported import Imported
from klepaas.domain.old_findings import Finding, Problem
from klepaas.domain.record_check import Complaint
from klepaas.domain.settlement import Outcome, Source
from klepaas.storage.database import Database
from klepaas.storage.tables import imported_deployments
from klepaas.storage.words import keepable

i = imported_deployments.c

KEYS_AT_ONCE = 500
"""Of one question: databases limit how many values a statement may hold."""
_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)
_ONCE = ("id", "key", "owner_id", "source", "old_id", "imported_at")
"""What a later import of the same row does not change."""


class ImportedTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, keys: Collection[str]) -> Mapping[str, Imported]:
        wanted, found = list(keys), list[Imported]()
        async with self._database.read() as connection:
            for start in range(0, len(wanted), KEYS_AT_ONCE):
                query = sa.select(imported_deployments).where(i.key.in_(wanted[start : start + KEYS_AT_ONCE]))
                found += [_imported(row) for row in await connection.execute(query)]
        return {each.key: each for each in found}

    async def by_old_id(self, owner_id: str, repository: str, old_ids: Collection[str]) -> Mapping[str, str]:
        query = sa.select(i.old_id, sa.func.coalesce(i.twin_of, i.id)).where(
            i.owner_id == owner_id, i.repository == repository, i.old_id.in_(list(old_ids)[:KEYS_AT_ONCE])
        )
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(i.number))
            return {row[0]: row[1] for row in rows}

    async def keep(self, found: Sequence[Imported]) -> int:
        changed = 0
        async with self._database.write() as connection:
            for each in found:
                row = _columns(each)
                # Only what was unknown is written again: racing imports cannot take an end back.
                kept = self._database.insert(imported_deployments).values(**row)
                again = kept.on_conflict_do_update(
                    index_elements=[i.key],
                    set_={name: value for name, value in row.items() if name not in _ONCE},
                    where=sa.and_(i.outcome == Outcome.UNKNOWN, i.owner_id == each.owner_id),
                )
                changed += (await connection.execute(again.returning(i.number))).first() is not None
        return changed

    async def of_repository(
        self,
        owner_id: str,
        repository: str,
        *,
        environment: str | None = None,
        outcomes: Collection[Outcome] = (),
        before_number: int | None = None,
        limit: int = 50,
    ) -> Sequence[Imported]:
        made = sa.func.coalesce(i.created_at, sa.literal(_BEFORE_ALL, i.created_at.type))
        query = sa.select(imported_deployments).where(
            i.owner_id == owner_id, i.repository == repository, i.twin_of.is_(None)
        )
        if environment is not None:
            query = query.where(i.environment == environment)
        if outcomes:
            query = query.where(i.outcome.in_(list(outcomes)))
        if before_number is not None and before_number < 0:
            place = sa.select(made, i.number).where(i.number == -before_number).subquery()
            last = sa.select(place.c[0]).scalar_subquery()
            query = query.where(sa.or_(made < last, sa.and_(made == last, i.number < -before_number)))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(made.desc(), i.number.desc()).limit(limit))
            return [_imported(row) for row in rows]

    async def get(self, imported_id: str) -> Imported | None:
        async with self._database.read() as connection:
            query = sa.select(imported_deployments).where(i.id == imported_id)
            row = (await connection.execute(query)).first()
        return None if row is None else _imported(row)

    async def complaints(self, owner_id: str | None, repository: str | None) -> Sequence[Complaint]:
        query = sa.select(imported_deployments)
        if owner_id is not None:
            query = query.where(i.owner_id == owner_id)
        if repository is not None:
            query = query.where(i.repository == repository)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(i.number))
            return [each for row in rows for each in _complaints(_imported(row))]


def _complaints(imported: Imported) -> list[Complaint]:
    def about(problem: str, text: str) -> Complaint:
        return Complaint(
            deployment_id=imported.id,
            number=imported.number,
            repository=f"{imported.github_owner}/{imported.github_repo}",
            problem=problem,  # type: ignore[arg-type]
            text=text,
            is_past=True,
        )

    told = {Problem.DUPLICATE: "duplicate", Problem.CONTRADICTION: "contradiction", Problem.STUCK: "stuck"}
    found = [about(told[each.problem], each.text) for each in imported.findings if each.problem in told]
    if imported.outcome is Outcome.UNKNOWN and imported.twin_of is None:
        found.append(about("unknown", imported.reason))
    return found


def _columns(imported: Imported) -> dict[str, Any]:
    row = asdict(imported)
    del row["number"]
    row["repository"] = imported.repository
    row["originals"], row["evidence"] = [dict(each) for each in imported.originals], dict(imported.evidence)
    row["findings"] = [asdict(each) for each in imported.findings]
    return {name: keepable(value) for name, value in row.items()}


def _imported(row: sa.Row[Any]) -> Imported:
    values = dict(row._mapping)
    del values["repository"]
    values["number"] = -values["number"]
    values["outcome"], values["settled_by"] = Outcome(values["outcome"]), Source(values["settled_by"])
    values["findings"] = tuple(
        Finding(problem=Problem(each["problem"]), text=each["text"]) for each in values["findings"]
    )
    values["originals"] = tuple(values["originals"])
    return Imported(**values)
