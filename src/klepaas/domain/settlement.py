"""How deployments of an older system ended: what its provider saw, else what its own record says without
contradicting itself, else unknown. Nothing is guessed, and nothing is a success because it is old.

The history of SourceDeploy names no commit. A run belongs to a row when it is the only one that began around it, and
the row the only one around the run; where two could be meant, none is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from klepaas.domain.old_findings import Problem, findings_of
from klepaas.domain.old_row import OldRow, OldStatus

BEFORE, AFTER = timedelta(minutes=2), timedelta(minutes=10)
"""The older system wrote its row next to the start of the run; a row with a `started_at` before its build is met
by the longer side. Rows further apart than both never compete for a run."""


class Outcome(StrEnum):
    """Of an imported deployment. All three are ends for klepaas: no workflow works on it and no watcher looks; only
    importing its row again asks about an unknown one once more."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """Who said how it ended."""

    PROVIDER = "provider"
    RECORD = "record"
    NOBODY = "nobody"


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A run in the provider's history. `outcome` is None while it goes on; `word` is the provider's own."""

    id: str
    what: str
    """For people: `SourceDeploy run 80123`."""
    outcome: Outcome | None
    word: str
    began_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class PastSeen:
    """What the provider says of one repository's past. `trouble` says why something could not be asked."""

    deploys: Sequence[PastRun] = ()
    builds: Sequence[PastRun] = ()
    digests: Mapping[str, str | None] = field(default_factory=dict)
    """Image reference → digest in the registry; None: the registry says that it is gone."""
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """`reason` is a sentence for people. Times only where they were seen or are the record's own."""

    outcome: Outcome
    by: Source
    reason: str
    started_at: datetime | None = None
    completed_at: datetime | None = None
    deployed_at: datetime | None = None
    run: PastRun | None = None


def settle(
    rows: Sequence[OldRow],
    seen: PastSeen,
    now: datetime,
    *,
    twins: Mapping[str, Sequence[OldRow]] | None = None,
) -> Mapping[str, Settlement]:
    """By old id. `rows` are those of one repository with all neighbours in time; `twins` the rows that tell of the
    same deployment as one of them, by its old id."""
    deploys, builds = _matched(rows, seen.deploys), _matched(rows, seen.builds)
    return {
        row.old_id: _by_run(row, deploys[row.old_id])
        or _by_failed_build(row, deploys[row.old_id], builds[row.old_id])
        or _by_records([row, *(twins or {}).get(row.old_id, ())], now)
        or _unknown(row, deploys[row.old_id], seen)
        for row in rows
    }


def own_runs(rows: Sequence[OldRow], runs: Sequence[PastRun]) -> Mapping[str, PastRun]:
    """By old id: those that belong to a row, beyond doubt."""
    return {old_id: match.run for old_id, match in _matched(rows, runs).items() if match.run is not None}


@dataclass(frozen=True)
class _Match:
    """`run` when exactly one is meant; `near` all that began around the row."""

    run: PastRun | None
    near: Sequence[PastRun]


def _matched(rows: Sequence[OldRow], runs: Iterable[PastRun]) -> Mapping[str, _Match]:
    near = {row.old_id: [run for run in runs if _is_near(row, run)] for row in rows}
    claims: dict[str, int] = {}
    for found in near.values():
        for run in found:
            claims[run.what] = claims.get(run.what, 0) + 1
    return {
        old_id: _Match(found[0] if len(found) == 1 and claims[found[0].what] == 1 else None, found)
        for old_id, found in near.items()
    }


def _is_near(row: OldRow, run: PastRun) -> bool:
    if row.began_at is None or run.began_at is None:
        return False
    return row.began_at - BEFORE <= run.began_at <= row.began_at + AFTER


def _by_run(row: OldRow, match: _Match) -> Settlement | None:
    run = match.run
    if run is None or run.outcome is None or run.ended_at is None:
        return None
    succeeded = run.outcome is Outcome.SUCCEEDED
    started = row.started_at if row.started_at and row.started_at <= run.ended_at else run.began_at
    return Settlement(
        outcome=run.outcome,
        by=Source.PROVIDER,
        reason=f"{run.what}, the only one that began around it, ended with {run.word!r}.",
        started_at=started,
        completed_at=run.ended_at,
        deployed_at=run.ended_at if succeeded else None,
        run=run,
    )


def _by_failed_build(row: OldRow, deploys: _Match, builds: _Match) -> Settlement | None:
    """A build that failed is never deployed: no run of SourceDeploy began around it."""
    run = builds.run
    if deploys.near or run is None or run.outcome is not Outcome.FAILED:
        return None
    return Settlement(
        outcome=Outcome.FAILED,
        by=Source.PROVIDER,
        reason=f"{run.what}, the only one that began around it, ended with {run.word!r}; nothing was deployed then.",
        started_at=row.started_at or run.began_at,
        completed_at=run.ended_at,
        run=run,
    )


def _by_records(rows: Sequence[OldRow], now: datetime) -> Settlement | None:
    """Of rows about one deployment; None where they speak against each other."""
    found = [settled for row in rows if (settled := _by_record(row, now)) is not None]
    return found[0] if len({settled.outcome for settled in found}) == 1 else None


def _by_record(row: OldRow, now: datetime) -> Settlement | None:
    """An end that was written down whole, as the older system did once it looked: never a bare word."""
    wrong = {finding.problem for finding in findings_of(row, now)}
    if wrong & {Problem.CONTRADICTION, Problem.UNREADABLE_TIME, Problem.UNREADABLE_STATUS}:
        return None
    if row.status is OldStatus.SUCCESS and row.deployed_at is not None and row.began_at is not None:
        return Settlement(
            outcome=Outcome.SUCCEEDED,
            by=Source.RECORD,
            reason="The older system recorded when it was live, and nothing speaks against it.",
            started_at=row.started_at,
            completed_at=row.completed_at or row.deployed_at,
            deployed_at=row.deployed_at,
        )
    if row.status is OldStatus.FAILED:
        return Settlement(
            outcome=Outcome.FAILED,
            by=Source.RECORD,
            reason="The older system recorded that it failed, and nothing speaks against it.",
            started_at=row.started_at,
            completed_at=row.completed_at,
        )
    return None


def _unknown(row: OldRow, match: _Match, seen: PastSeen) -> Settlement:
    return Settlement(
        outcome=Outcome.UNKNOWN, by=Source.NOBODY, reason=_why(row, match, seen), started_at=row.started_at
    )


def _why(row: OldRow, match: _Match, seen: PastSeen) -> str:
    if seen.trouble:
        return seen.trouble
    if row.began_at is None:
        return "Nothing says when it began, so no run at the provider can be told to be its own."
    if match.run is not None:
        missing = "and not when it ended" if match.run.outcome is not None else "which is no end"
        return f"{match.run.what} says {match.run.word!r}, {missing}."
    if match.near:
        names = ", ".join(run.what for run in match.near[:5])
        return f"More than one deployment and run began around it, and none says whose it was: {names}."
    return "SourceDeploy has no run that began around it, and the record by itself proves nothing."
