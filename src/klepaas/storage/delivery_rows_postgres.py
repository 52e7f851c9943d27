"""Deliveries on PostgreSQL, where other processes write, too.

One statement for any number of rows: it is prepared once, and the database is asked once. The rows go as one JSON
text, and all bodies behind one another, which costs the least on both sides."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from pydantic_core import to_json

from klepaas.storage.database import Database
from klepaas.storage.delivery_rows import AGAIN, DECISION, DELIVERY, Answers, Arrival, Decided, Row
from klepaas.storage.repositories import RepositoryAsOf, asked_about, versions_now


class PostgresRows:
    """Both statements may be carried out twice. Two processes that hold rows of each other's batch wait in one order,
    and not for each other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, arrivals: Sequence[Arrival], decided: Sequence[Decided]) -> Answers:
        known = await self._add(sorted(arrivals, key=_id)) if arrivals else {}
        if decided:
            await self._decide(decided)
        return known

    async def _add(self, arrivals: Sequence[Arrival]) -> Answers:
        states = list({each.as_of for each in arrivals if each.as_of is not None})
        meant = [row for each in arrivals for row in each.decisions]
        bodies = b"".join(each.row["body"] for each in arrivals)
        values = (_asked(states), _rows(arrivals, states), bodies, _text(meant))
        found = await self._database.execute_at_once(_add_statement(), values)
        new = {id_ for id_, _ in found if id_ is not None}
        over = {states[number] for _, number in found if number is not None}
        for state in over:
            state.forget(state.repository)
        ids = {each.row["id"] for each in arrivals}
        return {
            **{each.row["id"]: None for each in arrivals if each.as_of in over},
            **(await self._known(ids - new) if ids - new else {}),
        }

    async def _known(self, ids: Iterable[str]) -> Answers:
        found = await self._database.execute_at_once(_KNOWN, (list(ids),))
        return {id_: (answer or {}) if decided_at else None for id_, answer, decided_at in found}

    async def _decide(self, decided: Sequence[Decided]) -> None:
        # One statement changes a row once: the newest counts.
        newest = {each.row["id"]: each.row for each in decided}
        meant = {(row["delivery_id"], row["project_id"]): row for each in decided for row in each.decisions}
        in_order = [meant[key] for key in sorted(meant)]
        await self._database.execute_at_once(_DECIDE, (_text(list(newest.values())), _text(in_order)))


def _id(arrival: Arrival) -> str:
    return str(arrival.row["id"])


def _text(rows: Sequence[Row]) -> str:
    return to_json(rows).decode()


def _asked(states: Sequence[RepositoryAsOf]) -> str:
    return _text(
        [
            {**asked_about(state.repository), "versions": state.versions, "state": number}
            for number, state in enumerate(states)
        ]
    )


def _rows(arrivals: Sequence[Arrival], states: Sequence[RepositoryAsOf]) -> str:
    rows: list[dict[str, Any]] = []
    ends_at = 0
    for each in arrivals:
        size = len(each.row["body"])
        state = None if each.as_of is None else states.index(each.as_of)
        rows.append({**each.row, "body": None, "begins_at": ends_at + 1, "size": size, "state": state})
        ends_at += size
    return _text(rows)


_UNPACK_DECISIONS = f"""
INSERT INTO decisions ({", ".join(DECISION)})
SELECT {", ".join(DECISION)}
FROM json_to_recordset(%s) AS row (
    delivery_id text, project_id text, environment text, outcome text, reason text, deployment_id text,
    decided_at timestamptz
)"""


@cache
def _add_statement() -> str:
    """Its rows: the id of each that is new, and the number of each state that is over."""
    return f"""
WITH asked AS (
SELECT * FROM json_to_recordset(%s) AS row (
    state int, owner text, name text, ends text, ends_git text, repository_id bigint, installation_id text,
    versions text
)), over AS (
SELECT state FROM asked WHERE versions <> ({versions_now("asked")})
), came AS (
SELECT *, EXISTS (SELECT FROM over WHERE over.state = row.state) AS is_over
FROM json_to_recordset(%s) AS row (
    id text, event text, headers jsonb, begins_at int, size int, repository text,
    received_at timestamptz, decided_at timestamptz, answer jsonb, state int
)), new AS (
INSERT INTO deliveries ({", ".join(DELIVERY)})
SELECT id, event, headers, substr(%b::bytea, begins_at, size), repository, received_at,
    CASE WHEN NOT is_over THEN decided_at END, CASE WHEN NOT is_over THEN answer END
FROM came
ON CONFLICT (id) DO NOTHING RETURNING id
), meant AS ({_UNPACK_DECISIONS}
WHERE delivery_id IN (SELECT id FROM new JOIN came USING (id) WHERE NOT is_over)
ON CONFLICT DO NOTHING
)
SELECT id, NULL::int FROM new UNION ALL SELECT NULL, state FROM over
"""


_DECIDE = f"""
WITH told AS (
SELECT * FROM json_to_recordset(%s) AS row (id text, answer jsonb, decided_at timestamptz)
), held AS (
SELECT id FROM deliveries WHERE id IN (SELECT id FROM told) ORDER BY id FOR NO KEY UPDATE
), decided AS (
UPDATE deliveries SET answer = told.answer, decided_at = told.decided_at
FROM told JOIN held USING (id) WHERE deliveries.id = told.id
)
{_UNPACK_DECISIONS} {AGAIN}
"""
_KNOWN = "SELECT id, answer, decided_at FROM deliveries WHERE id = ANY(%s)"
