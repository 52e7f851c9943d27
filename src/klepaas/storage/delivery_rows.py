"""Writing deliveries and what they mean, many at once.

They come by the hundred a second. SQLAlchemy's way to the driver would take several times as long as the writing
itself, so the rows go there as they are: the statements are text, and the values what the driver takes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from pydantic_core import from_json, to_json

Row = Mapping[str, Any]
Answers = Mapping[str, Mapping[str, Any] | None]
"""What was answered to deliveries that were there before, by id; None while it is not decided."""

_DELIVERY = ("id", "event", "headers", "body", "repository", "received_at", "decided_at", "answer")
_DECISION = ("delivery_id", "project_id", "environment", "outcome", "reason", "deployment_id", "decided_at")
_NEWEST = ", ".join(f"{name} = excluded.{name}" for name in _DECISION[2:])
_AGAIN = f"ON CONFLICT (delivery_id, project_id) DO UPDATE SET {_NEWEST}"


class DeliveryRows(Protocol):
    def add(self, connection: sa.Connection, rows: Sequence[Row], meant: Sequence[Row]) -> Answers:
        """Insert the rows of deliveries that are new, and what these mean; those that are not new change nothing."""

    def record(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """What deliveries mean for projects; again, it is what they mean now."""


class SqliteRows:
    """Nobody else writes meanwhile: what is not there before the insert is new."""

    def add(self, connection: sa.Connection, rows: Sequence[Row], meant: Sequence[Row]) -> Answers:
        ids = tuple(row["id"] for row in rows)
        there = connection.exec_driver_sql(f"{_KNOWN} ({', '.join('?' * len(ids))})", ids)
        known = {id_: from_json(answer or "{}") if decided_at else None for id_, answer, decided_at in there}
        new = [row for row in rows if row["id"] not in known]
        if new:
            connection.exec_driver_sql(_INSERT_DELIVERY, [_values(_DELIVERY, row) for row in new])
        if meant := [row for row in meant if row["delivery_id"] not in known]:
            self.record(connection, meant)
        return known

    def record(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        connection.exec_driver_sql(_INSERT_DECISION, [_values(_DECISION, row) for row in rows])


def _insert(table: str, names: Sequence[str], otherwise: str) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) {otherwise}"


# A batch may hold one id twice.
_INSERT_DELIVERY = _insert("deliveries", _DELIVERY, "ON CONFLICT (id) DO NOTHING")
_KNOWN = "SELECT id, answer, decided_at FROM deliveries WHERE id IN"
_INSERT_DECISION = _insert("decisions", _DECISION, _AGAIN)


def _values(names: Sequence[str], row: Row) -> tuple[Any, ...]:
    return tuple(_CONVERTED[name](row[name]) if name in _CONVERTED else row[name] for name in names)


def _time(value: datetime | None) -> str | None:
    """As `tables.Utc` keeps it."""
    return None if value is None else value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _json(value: Any) -> str | None:
    return None if value is None else to_json(value).decode()


_CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "headers": _json,
    "answer": _json,
    "received_at": _time,
    "decided_at": _time,
}


class PostgresRows:
    """One statement for any number of rows: it is prepared once. They go as one JSON text, and all bodies behind one
    another, which costs the least on both sides."""

    def add(self, connection: sa.Connection, rows: Sequence[Row], meant: Sequence[Row]) -> Answers:
        texts, ends_at = [], 0
        for row in rows:
            size = len(row["body"])
            texts.append({**row, "body": None, "begins_at": ends_at + 1, "size": size})
            ends_at += size
        bodies = b"".join(row["body"] for row in rows)
        values = (bodies, to_json(texts).decode(), to_json(meant).decode())
        new = connection.exec_driver_sql(_UNPACK_DELIVERIES, values).scalars()
        left = list({row["id"] for row in rows}.difference(new))
        if not left:
            return {}
        there = connection.exec_driver_sql("SELECT id, answer, decided_at FROM deliveries WHERE id = ANY(%s)", (left,))
        return {id_: (answer or {}) if decided_at else None for id_, answer, decided_at in there}

    def record(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        newest = {(row["delivery_id"], row["project_id"]): row for row in rows}  # one statement changes a row once
        connection.exec_driver_sql(f"{_UNPACK_DECISIONS} {_AGAIN}", (to_json(list(newest.values())).decode(),))


_UNPACK_DECISIONS = f"""
INSERT INTO decisions ({", ".join(_DECISION)})
SELECT {", ".join(_DECISION)}
FROM json_to_recordset(%s) AS row (
    delivery_id text, project_id text, environment text, outcome text, reason text, deployment_id text,
    decided_at timestamptz
)"""
_UNPACK_DELIVERIES = f"""
WITH new AS (
INSERT INTO deliveries ({", ".join(_DELIVERY)})
SELECT id, event, headers, substr(%b::bytea, begins_at, size), repository, received_at, decided_at, answer
FROM json_to_recordset(%s) AS row (
    id text, event text, headers jsonb, begins_at int, size int, repository text,
    received_at timestamptz, decided_at timestamptz, answer jsonb
)
ON CONFLICT (id) DO NOTHING RETURNING id
), meant AS ({_UNPACK_DECISIONS} WHERE delivery_id IN (SELECT id FROM new) ON CONFLICT DO NOTHING)
SELECT id FROM new
"""
