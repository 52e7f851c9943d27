"""What is known of branches, behind `operations.ports.branches.Branches`."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from klepaas.operations.ports.branches import DecidedHead
from klepaas.operations.ports.clock import Clock
from klepaas.storage.database import Database
from klepaas.storage.tables import branch_heads, branch_moves, projects
from klepaas.storage.words import keepable

h, m = branch_heads.c, branch_moves.c

REMEMBERED_FOR = timedelta(days=7)
"""A push is not told again after 3 days, as GitHub keeps deliveries no longer."""
MOST_MOVES = 1000
"""Of one ref, the newest ones: far more than can be on their way at the same time."""


class BranchTable:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def heads(self, project_ids: Collection[str], branch: str) -> Mapping[str, DecidedHead]:
        query = sa.select(branch_heads).where(h.project_id.in_(list(project_ids)), h.branch == branch)
        async with self._database.read() as connection:
            return {row.project_id: _head(row) for row in await connection.execute(query)}

    async def decided(self, heads: Sequence[DecidedHead]) -> None:
        if not heads:
            return
        new = self._database.insert(branch_heads)
        is_same = h.sha == new.excluded.sha
        earlier = sa.case((h.seen_at < new.excluded.seen_at, h.seen_at), else_=new.excluded.seen_at)
        statement = new.on_conflict_do_update(
            index_elements=[h.project_id, h.branch],
            set_={
                "sha": new.excluded.sha,
                "etag": new.excluded.etag,
                # Two who decide about the same head at once agree on the earlier look.
                "seen_at": sa.case((is_same, earlier), else_=new.excluded.seen_at),
                "is_settled": new.excluded.is_settled,
            },
        )
        rows = [
            {
                "project_id": head.project_id,
                "branch": head.branch,
                "sha": head.sha,
                "etag": head.etag,
                "seen_at": head.seen_at,
                "is_settled": head.is_settled,
            }
            # Everybody writes in the same order, so that nobody waits for somebody who waits for him.
            for head in sorted(heads, key=lambda each: (each.project_id, each.branch))
        ]
        async with self._database.write() as connection:
            await connection.execute(statement, rows)

    async def saw(self, project_ids: Collection[str], branch: str, sha: str, etag: str | None) -> None:
        here = (h.project_id.in_(sorted(project_ids)), h.branch == branch, h.sha == sha)
        async with self._database.write() as connection:
            await connection.execute(sa.update(branch_heads).where(*here).values(etag=etag))

    async def move(self, repository: str, ref: str, before: str, after: str) -> None:
        values = {"repository": repository, "ref": keepable(ref)[:255], "before": before, "after": after}
        statement = self._database.insert(branch_moves).values(**values, at=self._clock.now()).on_conflict_do_nothing()
        async with self._database.write() as connection:
            await connection.execute(statement)

    async def moves(self, repository: str, ref: str) -> Mapping[str, set[str]]:
        query = sa.select(m.after, m.before).where(m.repository == repository, m.ref == keepable(ref)[:255])
        found: dict[str, set[str]] = {}
        async with self._database.read() as connection:
            for row in await connection.execute(query.order_by(m.at.desc()).limit(MOST_MOVES)):
                found.setdefault(row.after, set()).add(row.before)
        return found

    async def forget_old_moves(self) -> None:
        long_ago = self._clock.now() - REMEMBERED_FOR
        async with self._database.write() as connection:
            await connection.execute(sa.delete(branch_moves).where(m.at < long_ago))

    async def known(self) -> Sequence[DecidedHead]:
        ours = sa.select(branch_heads).join(projects, projects.c.id == h.project_id)
        query = ours.where(projects.c.auto_deploy, projects.c.retired_at.is_(None))
        async with self._database.read() as connection:
            return [_head(row) for row in await connection.execute(query)]


def _head(row: sa.Row[Any]) -> DecidedHead:
    seen_at: datetime = row.seen_at
    return DecidedHead(
        project_id=row.project_id,
        branch=row.branch,
        sha=row.sha,
        is_settled=row.is_settled,
        seen_at=seen_at,
        etag=row.etag,
    )
