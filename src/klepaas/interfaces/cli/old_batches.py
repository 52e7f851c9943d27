"""The rows of an older system in parts small enough to send: one repository each, neighbours in time together."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from klepaas.domain.old_row import read_time
from klepaas.interfaces.cli.old_database import OldDatabase

Row = Mapping[str, Any]

ROWS_AT_MOST, BYTES_AT_MOST = 40, 256 * 1024
"""The server asks the registry about each of them while we wait, and takes 1 MiB at once."""
NEIGHBOURS = timedelta(minutes=15)
"""Rows further apart never mean the same run at the provider (`domain.settlement`)."""


def batches(old: OldDatabase) -> Iterator[tuple[list[Row], list[Row]]]:
    """Rows with the projects of their repository. Rows of no repository come by themselves, to be refused there."""
    by_repository: dict[str, list[Row]] = {}
    for row in old.deployments:
        by_repository.setdefault(_repository(row), []).append(row)
    for repository, rows in by_repository.items():
        projects = [each for each in old.projects if _repository(each) == repository]
        for part in _parts(sorted(rows, key=_order)):
            yield part, projects


def _parts(rows: list[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    for row in rows:
        if part and _is_full(part) and not _are_neighbours(part[-1], row):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _is_full(part: list[Row]) -> bool:
    return len(part) >= ROWS_AT_MOST or sum(map(_size, part)) >= BYTES_AT_MOST


def _are_neighbours(one: Row, other: Row) -> bool:
    before, after = _began(one), _began(other)
    return before is not None and after is not None and after - before < NEIGHBOURS


def _repository(row: Row) -> str:
    return f"{row.get('github_owner')}/{row.get('github_repo')}".lower()


def _began(row: Row) -> datetime | None:
    return read_time(row.get("started_at")) or read_time(row.get("created_at"))


def _order(row: Row) -> tuple[str, int]:
    """Those without a time last: they are nobody's neighbours."""
    began = _began(row)
    number = str(row.get("id"))
    return began.isoformat() if began else "~", int(number) if number.isascii() and number.isdigit() else 0


def _size(row: Row) -> int:
    return len(json.dumps(row, ensure_ascii=False).encode())
