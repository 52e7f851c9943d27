"""A deployment: one attempt to make one release live in one environment of a project.

The aggregate decides: its methods refuse or return events; they never save, call out or read a clock. Its state
is what its events add up to (`replay`), and the row in the database is that state written down."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from klepaas.domain.events import (
    CancellationRequested,
    CommitResolved,
    DeploymentCancelled,
    DeploymentClaimed,
    DeploymentFailed,
    DeploymentQueued,
    DeploymentRolledBack,
    DeploymentSucceeded,
    DeploymentSuperseded,
    Event,
    ImagePinned,
    OutcomeUnknown,
    ProjectFileRead,
    Recorded,
    ReleaseCommandFinished,
    ReleaseCreated,
    StageFailed,
    StageFinished,
    StageStarted,
    SwitchCertified,
    TrafficShiftDecided,
    TrafficShifted,
)
from klepaas.domain.status import NEXT, Stage, Status
from klepaas.errors import Conflict

ABANDON = "abandon"
"""The step after a failed or cancelled stage: undo what was started, then end."""
SETTLE = "settle"
"""The step of a deployment whose outcome is unknown: look again until the outside can be asked."""
DONE = ""
"""No step is left."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a deployment did not make it, for people (`message`, `hint`) and programs (`code`, `evidence`)."""

    stage: str
    code: str
    message: str
    hint: str
    evidence: dict[str, Any]
    ends_as: Status


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    stage: Stage
    started_at: datetime
    finished_at: datetime | None = None
    took_s: float | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The state after `seq` events. `step` names what runs next: a stage, ABANDON, SETTLE or DONE."""

    id: str
    project_id: str
    environment: str
    status: Status
    branch: str
    trigger: str
    actor: str
    created_at: datetime
    step: str
    seq: int = 0
    fence: int = 0
    number: int = 0
    """The integer old clients know this deployment by; 0 until stored."""
    commit_asked: str | None = None
    commit_sha: str | None = None
    commit_message: str = ""
    commit_author: str = ""
    rebuild: bool = False
    rollback_of: str | None = None
    release_id: str | None = None
    image_digest: str | None = None
    image_ref: str | None = None
    exposed_ports: tuple[int, ...] = ()
    settings_of: str | None = None
    file_settings: dict[str, Any] = field(default_factory=dict)
    """What the commit's project file asks for."""
    note: str = ""
    pull_request: int | None = None
    delivery_id: str | None = None
    started_at: datetime | None = None
    has_run_command: bool = False
    """The release's command ended well."""
    previous_release_id: str | None = None
    """The release that was live when this one was decided to be."""
    live_at: datetime | None = None
    """When the new release was first seen answering through the front door."""
    finished_at: datetime | None = None
    cancelled_by: str | None = None
    failure: Failure | None = None
    superseded_by: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    stages: tuple[StageTimes, ...] = ()
    urls: tuple[str, ...] = ()

    @property
    def app_key(self) -> str:
        return f"{self.project_id}/{self.environment}"

    @property
    def is_rollback(self) -> bool:
        return self.rollback_of is not None

    @property
    def deployed_at(self) -> datetime | None:
        """When it was first live, if it succeeded."""
        return (self.live_at or self.finished_at) if self.status is Status.SUCCEEDED else None

    @property
    def stage(self) -> Stage | None:
        """The stage being worked on, or the last one reached."""
        return self.stages[-1].stage if self.stages else None

    # Decisions: they refuse or return events.

    def claim(self, *, node: str, fence: int) -> list[Event]:
        """Take it on at its next step: as its first owner, or over from one that is gone."""
        self._require(Status.QUEUED, Status.RUNNING, Status.UNKNOWN)
        claimed = DeploymentClaimed(node=node, fence=fence)
        if self.step not in set(Stage):
            return [claimed]
        return [claimed, StageStarted(stage=Stage(self.step), fence=fence)]

    def cancel(self, *, actor: str) -> list[Event]:
        """Ask for the end of this deployment. A queued one ends at once; a live one is refused."""
        if self.status is Status.QUEUED:
            return [CancellationRequested(actor=actor), DeploymentCancelled(actor=actor)]
        if self.status is not Status.RUNNING:
            raise Conflict(
                f"Deployment {self.id} is {self.status}; there is nothing left to cancel.",
                hint="To go back to an earlier release, roll back.",
            )
        if self.live_at is not None:
            raise Conflict(
                f"Deployment {self.id} is live already; cancelling would change nothing.",
                hint="To take it back, roll back.",
            )
        if self.cancelled_by is not None:
            return []
        return [CancellationRequested(actor=actor)]

    def supersede(self, *, by: str, reason: str) -> list[Event]:
        self._require(Status.QUEUED)
        return [DeploymentSuperseded(by=by, reason=reason)]

    def give_up(self, stage: Stage, failure: Failure) -> list[Event]:
        """Leave the way forward: undo what was started, then end as the failure says.

        Errors: Conflict when it cannot end so: nobody can say of an unknown outcome that it was cancelled."""
        self._require(Status.RUNNING, Status.UNKNOWN)
        if failure.ends_as not in NEXT[self.status]:
            raise Conflict(f"Deployment {self.id} is {self.status} and cannot end {failure.ends_as}.")
        return [
            StageFailed(
                stage=stage,
                ends_as=failure.ends_as,
                code=failure.code,
                message=failure.message,
                hint=failure.hint,
                evidence=failure.evidence,
                next_step=ABANDON,
            )
        ]

    def lose_sight(self, stage: Stage, *, code: str, message: str) -> list[Event]:
        """Say that the outcome cannot be known now."""
        self._require(Status.RUNNING)
        return [OutcomeUnknown(stage=stage, code=code, message=message, next_step=SETTLE)]

    def succeed(self) -> list[Event]:
        """End well. Needs the record (`TrafficShifted`) that the new release was seen answering."""
        self._require(Status.RUNNING, Status.UNKNOWN)
        if self.live_at is None or self.release_id is None or self.image_digest is None:
            raise Conflict(f"Deployment {self.id} was not seen answering; it cannot have succeeded.")
        return [
            DeploymentSucceeded(
                release_id=self.release_id, image_digest=self.image_digest, evidence=dict(self.evidence)
            )
        ]

    def end_abandoned(self) -> list[Event]:
        """The terminal event after everything was undone."""
        self._require(Status.RUNNING, Status.UNKNOWN)
        failure = self.failure
        if failure is None or failure.ends_as is Status.CANCELLED:
            return [DeploymentCancelled(actor=self.cancelled_by or "klepaas")]
        ending = DeploymentRolledBack if failure.ends_as is Status.ROLLED_BACK else DeploymentFailed
        return [
            ending(
                stage=failure.stage,
                code=failure.code,
                message=failure.message,
                hint=failure.hint,
                evidence={**self.evidence, **failure.evidence},
            )
        ]

    def _require(self, *allowed: Status) -> None:
        if self.status not in allowed:
            raise Conflict(f"Deployment {self.id} is {self.status}.")

    # Replay.

    def after(self, event: Event, at: datetime) -> "Deployment":
        """The state once this event has happened. Refuses a status that may not follow (a bug, never input)."""
        changes: dict[str, Any] = {"seq": self.seq + 1}
        target = event.leads_to
        if isinstance(event, DeploymentClaimed) and self.status is Status.UNKNOWN:
            target = None  # claiming an unknown outcome means looking again, not knowing it
        if target is not None and target is not self.status:
            if target not in NEXT[self.status]:
                raise Conflict(f"Deployment {self.id} is {self.status} and cannot become {target}.")
            changes["status"] = target
            if target.is_terminal:
                changes |= {"finished_at": at, "step": DONE}
        return replace(self, **changes, **_effects(self, event, at))


def queued(deployment_id: str, event: DeploymentQueued, at: datetime) -> Deployment:
    """The state after the first event."""
    return Deployment(
        id=deployment_id,
        project_id=event.project_id,
        environment=event.environment,
        status=Status.QUEUED,
        branch=event.branch,
        trigger=event.trigger,
        actor=event.actor,
        created_at=at,
        step=event.first_step,
        seq=1,
        commit_asked=event.commit_sha,
        commit_sha=event.commit_sha if event.commit_sha and len(event.commit_sha) == 40 else None,
        commit_message=event.commit_message,
        commit_author=event.commit_author,
        rebuild=event.rebuild,
        rollback_of=event.rollback_of,
        release_id=event.release_id,
        image_digest=event.image_digest,
        settings_of=event.settings_of,
        note=event.note,
        pull_request=event.pull_request,
        delivery_id=event.delivery_id,
    )


def replay(history: Iterable[Recorded]) -> Deployment:
    """The deployment these events add up to. The first one must be DeploymentQueued."""
    recorded = iter(history)
    first = next(recorded)
    assert isinstance(first.event, DeploymentQueued)
    state = queued(first.deployment_id, first.event, first.at)
    for each in recorded:
        state = state.after(each.event, each.at)
    return state


def _effects(state: Deployment, event: Event, at: datetime) -> dict[str, Any]:
    match event:
        case DeploymentClaimed():
            return {"fence": event.fence, "started_at": state.started_at or at}
        case StageStarted():
            return {"stages": _begin(state.stages, StageTimes(stage=event.stage, started_at=at))}
        case StageFinished():
            return {"stages": _end(state.stages, event, at), "step": event.next_step}
        case CommitResolved():
            return {
                "commit_sha": event.commit_sha,
                "commit_message": event.message,
                "commit_author": event.author,
            }
        case ProjectFileRead():
            return {"file_settings": event.settings}
        case ImagePinned():
            return {
                "image_digest": event.image_digest,
                "image_ref": event.image_ref,
                "exposed_ports": event.exposed_ports,
            }
        case ReleaseCreated():
            return {"release_id": event.release_id}
        case ReleaseCommandFinished():
            return {"has_run_command": True}
        case TrafficShiftDecided():
            return {"previous_release_id": event.previous_release_id}
        case TrafficShifted():
            return {
                "live_at": state.live_at or at,
                "urls": event.urls,
                "evidence": {**state.evidence, "answer": event.evidence},
            }
        case SwitchCertified():
            return {"evidence": {**state.evidence, "certificate": event.certificate}}
        case CancellationRequested():
            return {"cancelled_by": event.actor}
        case StageFailed():
            failure = Failure(
                stage=event.stage,
                code=event.code,
                message=event.message,
                hint=event.hint,
                evidence=event.evidence,
                ends_as=event.ends_as,
            )
            return {"failure": failure, "step": event.next_step}
        case OutcomeUnknown():
            failure = Failure(
                stage=event.stage, code=event.code, message=event.message, hint="", evidence={}, ends_as=Status.FAILED
            )
            return {"failure": failure, "step": event.next_step}
        case DeploymentSuperseded():
            return {"superseded_by": event.by}
        case _:
            return {}


def _begin(stages: tuple[StageTimes, ...], new: StageTimes) -> tuple[StageTimes, ...]:
    """A stage begun again after a take-over keeps the time it first began."""
    if any(each.stage is new.stage for each in stages):
        return stages
    return (*stages, new)


def _end(stages: tuple[StageTimes, ...], event: StageFinished, at: datetime) -> tuple[StageTimes, ...]:
    return tuple(
        replace(each, finished_at=at, took_s=event.took_s, detail=event.detail) if each.stage is event.stage else each
        for each in stages
    )
