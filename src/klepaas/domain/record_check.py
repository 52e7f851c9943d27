"""Whether klepaas' own record of a deployment contradicts itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from klepaas.domain.events import KINDS
from klepaas.domain.status import Status

STUCK_AFTER = timedelta(hours=3)
"""Beyond every deadline of a deployment together, undoing included."""


@dataclass(frozen=True, kw_only=True)
class Complaint:
    """`number` as in `klepaas history`; `is_past` when it is about how an older system kept its record, which nothing
    can change any more."""

    deployment_id: str
    number: int
    repository: str
    problem: Literal["duplicate", "contradiction", "stuck", "unknown"]
    text: str
    is_past: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordedDeployment:
    """A row with what its event log says. `last_kind` is None when the event its `seq` names is not there."""

    id: str
    number: int
    repository: str
    status: Status
    seq: int
    events: int
    last_kind: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    has_release: bool
    error_message: str | None
    delivery_id: str | None
    shares_delivery_with: str | None = None
    """Another deployment of the same app that the same delivery led to."""


def complaints_of(row: RecordedDeployment, now: datetime) -> Iterator[Complaint]:
    if row.shares_delivery_with is not None:
        both = f"The delivery {row.delivery_id} led to it and to {row.shares_delivery_with}"
        yield _about(row, "duplicate", f"{both}: one accepted request is one row.")
    for text in (*_log(row), *_end(row), *_times(row)):
        yield _about(row, "contradiction", text)
    if row.status is Status.RUNNING and row.started_at is not None and now - row.started_at > STUCK_AFTER:
        yield _about(row, "stuck", f"It has been running since {row.started_at:%Y-%m-%d %H:%M} UTC.")


def _log(row: RecordedDeployment) -> Iterator[str]:
    if row.events != row.seq:
        yield f"{row.seq} events happened to it and {row.events} are kept."
    if row.last_kind is None:
        return
    leads_to = KINDS[row.last_kind].leads_to if row.last_kind in KINDS else None
    ended_as = leads_to if leads_to is not None and leads_to.is_terminal else None
    if row.status.is_terminal and ended_as is not row.status:
        yield f"Its row says {row.status} and its last event is {row.last_kind}."
    if not row.status.is_terminal and ended_as is not None:
        yield f"Its row says {row.status} and it ended with {row.last_kind}."


def _end(row: RecordedDeployment) -> Iterator[str]:
    if row.status.is_terminal and row.finished_at is None:
        yield f"It ended as {row.status}, and nothing says when."
    if not row.status.is_terminal and row.finished_at is not None:
        yield f"It is {row.status}, and something says when it ended."
    if row.status is Status.SUCCEEDED and not row.has_release:
        yield "It succeeded, and its release is not there."
    if row.status is Status.FAILED and not row.error_message:
        yield "It failed, and nothing says why."


def _times(row: RecordedDeployment) -> Iterator[str]:
    began = row.started_at or row.created_at
    if row.started_at is not None and row.started_at < row.created_at:
        yield "It began before it was asked for."
    if row.finished_at is not None and row.finished_at < began:
        yield "It ended before it began."


def _about(row: RecordedDeployment, problem: Literal["duplicate", "contradiction", "stuck"], text: str) -> Complaint:
    return Complaint(deployment_id=row.id, number=row.number, repository=row.repository, problem=problem, text=text)
