"""What is wrong with rows of an older system: each finding a sentence, none of them a repair."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from klepaas.domain.old_row import TIMES, OldRow, OldStatus

STUCK_AFTER = timedelta(hours=1)
"""The older system gave up looking after five minutes, and a build there ended after thirty at most."""
SAME_MOMENT = timedelta(seconds=1)
"""Its twins were written in one go: their times are equal."""
TOLERANCE = timedelta(seconds=2)
_UTC_TAKEN_FOR_KOREAN = timedelta(hours=9)


class Problem(StrEnum):
    DUPLICATE = "duplicate"
    STUCK = "stuck"
    MISSING_TIME = "missing_time"
    UNREADABLE_TIME = "unreadable_time"
    CONTRADICTION = "contradiction"
    UNREADABLE_STATUS = "unreadable_status"
    NO_COMMIT = "no_commit"


@dataclass(frozen=True, kw_only=True)
class Finding:
    problem: Problem
    text: str
    """A sentence for people."""


def findings_of(row: OldRow, now: datetime) -> list[Finding]:
    """All that is wrong with one row, looked at by itself."""
    return [
        *(Finding(problem=Problem.STUCK, text=text) for text in _stuck(row, now)),
        *(Finding(problem=Problem.MISSING_TIME, text=f"{name} is missing.") for name in _missing(row)),
        *(
            Finding(problem=Problem.UNREADABLE_TIME, text=f"{name} is no time: {str(row.original.get(name))[:40]!r}.")
            for name in row.unreadable
        ),
        *(Finding(problem=Problem.CONTRADICTION, text=text) for text in _contradictions(row, now)),
        *(Finding(problem=Problem.UNREADABLE_STATUS, text=text) for text in _unreadable_words(row)),
        *(Finding(problem=Problem.NO_COMMIT, text=text) for text in _no_commit(row)),
    ]


def twins(rows: Sequence[OldRow]) -> Mapping[str, str]:
    """Old id → old id of the row that already tells of the same deployment, the one with the lower id.

    The same commit, in the same place, recorded in the same moment. Deploying a commit again later is no twin, nor
    is a rollback to it."""
    found: dict[str, str] = {}
    firsts: list[OldRow] = []
    for row in sorted(rows, key=_order):
        first = next((one for one in firsts if _is_same(one, row)), None)
        if first is None:
            firsts.append(row)
        else:
            found[row.old_id] = first.old_id
    return found


def _order(row: OldRow) -> tuple[int, str]:
    return (int(row.old_id) if row.old_id.isascii() and row.old_id.isdigit() else 0, row.old_id)


def _is_same(one: OldRow, other: OldRow) -> bool:
    what = [(row.repository, row.commit_sha, row.environment, row.is_rollback) for row in (one, other)]
    if what[0] != what[1] or not one.commit_sha or one.created_at is None or other.created_at is None:
        return False
    return abs(one.created_at - other.created_at) <= SAME_MOMENT


def _stuck(row: OldRow, now: datetime) -> Iterator[str]:
    if row.status is not OldStatus.OPEN:
        return
    word = str(row.original.get("status")).strip()
    if row.began_at is None:
        yield f"It says {word!r} and nobody knows since when."
    elif now - row.began_at > STUCK_AFTER:
        yield f"It says {word!r} since {row.began_at:%Y-%m-%d %H:%M} UTC."


def _missing(row: OldRow) -> Iterator[str]:
    ended = row.status in {OldStatus.SUCCESS, OldStatus.FAILED}
    wanted = {
        "created_at": True,
        "started_at": "started_at" in row.original,
        "deployed_at": row.status is OldStatus.SUCCESS,
        "completed_at": ended and "completed_at" in row.original,
    }
    for name in TIMES:
        if wanted[name] and getattr(row, name) is None and name not in row.unreadable:
            yield name


def _contradictions(row: OldRow, now: datetime) -> Iterator[str]:
    if row.status is OldStatus.SUCCESS and row.deployed_at is None:
        yield "It says that it succeeded, and not when it was live."
    if row.status in {OldStatus.OPEN, OldStatus.FAILED} and row.deployed_at is not None:
        yield f"It says when it was live, and its status is {str(row.original.get('status'))[:20]!r}."
    if row.status is OldStatus.SUCCESS and row.deployed_at is not None and row.deployed_at == row.created_at:
        yield "It was live the moment it was recorded, as a clean-up wrote it and no deployment can."
    if row.stage_status not in {None, row.status}:
        yield (
            f"Its status is {str(row.original.get('status'))[:20]!r} and its sourcedeploy_status "
            f"{str(row.original.get('sourcedeploy_status'))[:20]!r}."
        )
    if row.status is OldStatus.SUCCESS and row.error_message is not None:
        yield "It says that it succeeded, and has an error message."
    yield from _against_the_clock(row, now)


def _against_the_clock(row: OldRow, now: datetime) -> Iterator[str]:
    began = row.began_at
    for name in ("deployed_at", "completed_at"):
        ended: datetime | None = getattr(row, name)
        if ended is not None and began is not None and ended < began - TOLERANCE:
            looks_utc = began - ended <= _UTC_TAKEN_FOR_KOREAN
            why = " It may have been written in UTC, by hand." if looks_utc else ""
            yield f"Its {name} is before its beginning.{why}"
    for name in TIMES:
        time: datetime | None = getattr(row, name)
        if time is not None and time > now + TOLERANCE:
            yield f"Its {name} is in the future."
    if row.completed_at and row.started_at and row.total_duration_s is not None:
        took_s = (row.completed_at - row.started_at).total_seconds()
        if abs(took_s - row.total_duration_s) > TOLERANCE.total_seconds():
            yield f"It took {took_s:g} s by its times and {row.total_duration_s:g} s by its total_duration."


def _unreadable_words(row: OldRow) -> Iterator[str]:
    if row.status is OldStatus.UNREADABLE:
        yield f"Its status is no word of the older system: {str(row.original.get('status'))[:40]!r}."


def _no_commit(row: OldRow) -> Iterator[str]:
    if len(row.commit_sha) != 40 or not all(digit in "0123456789abcdef" for digit in row.commit_sha):
        yield f"Its commit is no full SHA: {row.commit_sha[:40]!r}."
