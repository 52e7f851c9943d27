"""A run of a build, a deployment or a pipeline, as its history tells it; and starting one exactly once."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from klepaas.errors import AnswerLost, Conflict, Rejected
from klepaas.targets.ncp.refusal import is_running_already
from klepaas.targets.ncp.states import RunState, state_of


@dataclass(frozen=True, kw_only=True)
class Run:
    """`word` is the provider's own for its state. Times are aware UTC."""

    id: str
    state: RunState
    word: str | None
    began_at: datetime | None = None
    ended_at: datetime | None = None
    failed_phase: str | None = None
    by: str | None = None
    """The provider's user, or what else started it."""
    stage_id: int | None = None
    scenario_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Started:
    id: str
    was_adopted: bool = False
    """Its start was answered with nothing, and it was found in the history."""


async def start_once(
    start: Callable[[], Awaitable[str]],
    runs: Callable[[], Awaitable[Sequence[Run]]],
    *,
    known: Collection[str],
    looks_s: Sequence[float],
    what: str,
) -> Started:
    """Start a run; when the answer is lost, find the one that came of it.

    `known` are the ids in the history before the first try, written down by the caller before it: a crash between
    start and record is settled by calling this again with the same ones.
    Errors: Conflict when several could be it, or another one is in the way; AnswerLost when none appeared."""
    if (found := _one(await runs(), known, what)) is not None:
        return Started(id=found.id, was_adopted=True)
    try:
        return Started(id=await start())
    except AnswerLost as lost:
        failure: AnswerLost | Rejected = lost
    except Rejected as refused:
        if not is_running_already(refused):
            raise
        failure = refused
    for rest_s in looks_s:
        await asyncio.sleep(rest_s)
        seen = await runs()
        if (found := _one(seen, known, what)) is not None:
            return Started(id=found.id, was_adopted=True)
        if isinstance(failure, Rejected) and any(run.id in known and not run.state.is_final for run in seen):
            break
    if isinstance(failure, Rejected):
        raise Conflict(
            f"Another run of {what} is still going.",
            hint="Wait for its end, or cancel it in Naver Cloud's console.",
            evidence=failure.evidence,
        ) from failure
    raise failure


def when(number: Any) -> datetime | None:
    """Of a Unix time in milliseconds, or in seconds: the guides of two services do not say which."""
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number <= 0:
        return None
    seconds = number / 1000 if number > 1e11 else float(number)
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def build_run(data: Any) -> Run:
    word = _word(data.get("status"))
    return Run(
        id=str(data["buildId"]),
        state=state_of(word),
        word=word,
        began_at=when(data.get("begin")),
        ended_at=when(data.get("end")),
        failed_phase=_word(data.get("failedPhase")),
        by=_word(data.get("userId")),
    )


def deploy_run(data: Any) -> Run:
    word = _word(data.get("status"))
    stage, scenario = data.get("stage") or {}, data.get("scenario") or {}
    return Run(
        id=str(data["id"]),
        state=state_of(word),
        word=word,
        began_at=when(data.get("startTime")),
        ended_at=when(data.get("endTime")),
        by=_word(data.get("executor")),
        stage_id=stage.get("id"),
        scenario_id=scenario.get("id"),
    )


def pipeline_run(data: Any) -> Run:
    word = _word(data.get("status"))
    return Run(
        id=str(data["id"]),
        state=state_of(word),
        word=word,
        began_at=when(data.get("begin")),
        ended_at=when(data.get("end")),
        by=_word(data.get("requestId")),
    )


def _one(found: Sequence[Run], known: Collection[str], what: str) -> Run | None:
    new = [run for run in found if run.id not in known]
    if len(new) > 1:
        raise Conflict(
            f"{len(new)} runs of {what} began at the same time; which of them was asked for here is not known.",
            hint="Look at them in Naver Cloud's console, then deploy again.",
            evidence={"runs": [run.id for run in new[:20]]},
        )
    return new[0] if new else None


def _word(value: Any) -> str | None:
    return None if value is None else str(value)[:100]
