"""The result of a bench: a table for people, one JSON object for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class BenchFailed(Exception):
    """Nothing could be measured; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """`numbers` is the JSON object without the bench's name; `notes` are sentences below the table."""

    numbers: Mapping[str, Any]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    def text(self) -> str:
        return "\n".join([*table(self.head, self.rows), *self.notes])

    def json(self, bench: str) -> str:
        """One line."""
        return json.dumps({"bench": bench, **_rounded(dict(self.numbers))})


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns: the first to the left, all others, which are numbers, to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [_line(head, widths), _line(["-" * width for width in widths], widths), *(_line(r, widths) for r in rows)]


def ms(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([first, *others]).rstrip()


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 3)
        case dict():
            return {key: _rounded(each) for key, each in value.items()}
        case list() | tuple():
            return [_rounded(each) for each in value]
    return value
