"""Deliveries on SQLite: nobody else writes meanwhile, so what is not there before the insert is new."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json, to_json

from klepaas.storage.database import Database
from klepaas.storage.delivery_rows import AGAIN, DECISION, DELIVERY, Answers, Arrival, Decided, Row

BYTES_OF_A_MOMENT, DECISIONS_OF_A_MOMENT = 2**20, 500
"""What takes longer to write is not written in the event loop."""


class SqliteRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, arrivals: Sequence[Arrival], decided: Sequence[Decided]) -> Answers:
        def work(connection: sqlite3.Connection) -> Answers:
            known = _known(connection, arrivals) if arrivals else {}
            new = [each for each in arrivals if each.row["id"] not in known]
            connection.executemany(_INSERT_DELIVERY, [_delivery(each.row) for each in new])
            connection.executemany(_DECIDE, [_answer(each.row) for each in decided])
            connection.executemany(_INSERT_DECISION, [_decision(row) for row in (*_meant(new), *_meant(decided))])
            return known

        return await self._database.write_at_once(work, is_long=_is_long(arrivals, decided))


def _is_long(arrivals: Sequence[Arrival], decided: Sequence[Decided]) -> bool:
    meant = len(_meant(arrivals)) + len(_meant(decided))
    return meant > DECISIONS_OF_A_MOMENT or sum(len(each.row["body"]) for each in arrivals) > BYTES_OF_A_MOMENT


def _meant(entries: Sequence[Arrival | Decided]) -> Sequence[Row]:
    return [row for each in entries for row in each.decisions]


def _known(connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> Answers:
    ids = [each.row["id"] for each in arrivals]
    found = connection.execute(f"{_KNOWN} ({', '.join('?' * len(ids))})", ids)
    return {id_: from_json(answer or "{}") if decided_at else None for id_, answer, decided_at in found}


def _insert(table: str, names: Sequence[str], otherwise: str) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) {otherwise}"


# A batch may hold one id twice.
_INSERT_DELIVERY = _insert("deliveries", DELIVERY, "ON CONFLICT (id) DO NOTHING")
_INSERT_DECISION = _insert("decisions", DECISION, AGAIN)
_DECIDE = "UPDATE deliveries SET answer = ?, decided_at = ? WHERE id = ?"
_KNOWN = "SELECT id, answer, decided_at FROM deliveries WHERE id IN"


def _delivery(row: Row) -> tuple[Any, ...]:
    """In the order of `DELIVERY`."""
    return (
        row["id"],
        row["event"],
        _json(row["headers"]),
        row["body"],
        row["repository"],
        _time(row["received_at"]),
        _time(row["decided_at"]),
        _json(row["answer"]),
    )


def _answer(row: Row) -> tuple[Any, ...]:
    return _json(row["answer"]), _time(row["decided_at"]), row["id"]


def _decision(row: Row) -> tuple[Any, ...]:
    return tuple(_time(row[name]) if name == "decided_at" else row[name] for name in DECISION)


def _time(value: datetime | None) -> str | None:
    """As `tables.Utc` keeps it."""
    return None if value is None else value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _json(value: Any) -> str | None:
    return None if value is None else to_json(value).decode()
