"""Everything that can have happened to a deployment, in the past tense.

An event's fields are JSON-ready values: they are stored, streamed and replayed as they are. Its number in the
deployment's history, its time and the node that wrote it belong to `Recorded`, not to the event."""

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, ClassVar

from klepaas.domain.status import Stage, Status


@dataclass(frozen=True, kw_only=True)
class Event:
    kind: ClassVar[str]
    leads_to: ClassVar[Status | None] = None

    def data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An event in its place: `seq` counts from 1 within the deployment and is the id in the event stream."""

    deployment_id: str
    seq: int
    at: datetime
    node: str
    event: Event


@dataclass(frozen=True, kw_only=True)
class DeploymentQueued(Event):
    kind = "deployment.queued"
    leads_to = Status.QUEUED
    project_id: str
    environment: str
    branch: str
    trigger: str
    actor: str
    first_step: str
    commit_sha: str | None = None
    """What was asked for: a full SHA, a prefix, or None for the head of the branch."""
    commit_message: str = ""
    commit_author: str = ""
    """Known already when an earlier release is run again."""
    rebuild: bool = False
    rollback_of: str | None = None
    """The deployment this one undoes."""
    release_id: str | None = None
    """The earlier release to run again; None when an image has to be built."""
    image_digest: str | None = None
    settings_of: str | None = None
    """The earlier release whose settings and variables a rebuilt image runs with; None takes the project's."""
    note: str = ""
    pull_request: int | None = None
    """Of GitHub: what was merged, when that led to this deployment."""
    delivery_id: str | None = None
    """`X-GitHub-Delivery` of the webhook that led to it."""


@dataclass(frozen=True, kw_only=True)
class DeploymentClaimed(Event):
    """A node took the deployment: for the first time, or over from a node that died."""

    kind = "deployment.claimed"
    leads_to = Status.RUNNING
    node: str
    fence: int


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    kind = "stage.started"
    stage: Stage
    fence: int


@dataclass(frozen=True, kw_only=True)
class StageFinished(Event):
    """`detail` is a clause for people (`image reused`); `next_step` is the checkpoint to go on from."""

    kind = "stage.finished"
    stage: Stage
    took_s: float
    next_step: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RetryScheduled(Event):
    """A step met an outside fault that may pass; it is repeated after `wait_s` seconds."""

    kind = "stage.retry_scheduled"
    stage: Stage
    attempt: int
    wait_s: float
    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class CommitResolved(Event):
    kind = "commit.resolved"
    commit_sha: str
    message: str
    author: str
    committed_at: str


@dataclass(frozen=True, kw_only=True)
class ProjectFileRead(Event):
    """What `klepaas.toml` of the commit asks for. Settings of the project itself win over it."""

    kind = "project_file.read"
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ImagePinned(Event):
    """The image to run is known by digest: built now, or built earlier from the same commit."""

    kind = "image.pinned"
    image_digest: str
    image_ref: str
    reused: bool
    exposed_ports: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReleaseCreated(Event):
    kind = "release.created"
    release_id: str
    number: int
    image_digest: str
    commit_sha: str


@dataclass(frozen=True, kw_only=True)
class ReleaseCommandFinished(Event):
    """The release's command ended well. It is not run again for this deployment."""

    kind = "release.command_finished"
    release_id: str
    command: tuple[str, ...]
    took_s: float


@dataclass(frozen=True, kw_only=True)
class ReleaseStarted(Event):
    """The new release runs beside the old one, without traffic. `warm` when it was thawed."""

    kind = "release.started"
    release_id: str
    warm: bool = False


@dataclass(frozen=True, kw_only=True)
class ReleaseHealthy(Event):
    kind = "release.healthy"
    release_id: str
    observation: dict[str, Any]
    probes: int


@dataclass(frozen=True, kw_only=True)
class TrafficShiftDecided(Event):
    """From here on the record says the new release is to be live; the front door follows the record."""

    kind = "traffic.shift_decided"
    release_id: str
    previous_release_id: str | None
    previous_deployment_id: str | None


@dataclass(frozen=True, kw_only=True)
class TrafficShifted(Event):
    """The new release was seen answering through the front door."""

    kind = "traffic.shifted"
    release_id: str
    evidence: dict[str, Any]
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrafficReturned(Event):
    """The switch is taken back: the record says again that the previous release is to be live."""

    kind = "traffic.returned"
    release_id: str
    previous_release_id: str | None
    previous_deployment_id: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class SwitchCertified(Event):
    """What a bounded prober saw around the switch: the zero-downtime certificate."""

    kind = "traffic.certified"
    certificate: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReleaseRetired(Event):
    """The old release has no traffic any more. `kept_warm` when it is frozen for a rollback."""

    kind = "release.retired"
    release_id: str
    kept_warm: bool
    drained: bool
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class CancellationRequested(Event):
    kind = "deployment.cancellation_requested"
    actor: str


@dataclass(frozen=True, kw_only=True)
class StageFailed(Event):
    """A stage gave up. What was started is undone next; the terminal event follows.

    `ends_as` is the state the deployment will end in when everything is undone."""

    kind = "stage.failed"
    stage: Stage
    ends_as: Status
    code: str
    message: str
    hint: str = ""
    evidence: dict[str, Any]
    next_step: str


@dataclass(frozen=True, kw_only=True)
class DeploymentSucceeded(Event):
    kind = "deployment.succeeded"
    leads_to = Status.SUCCEEDED
    release_id: str
    image_digest: str
    evidence: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DeploymentFailed(Event):
    kind = "deployment.failed"
    leads_to = Status.FAILED
    stage: str
    code: str
    message: str
    hint: str = ""
    evidence: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DeploymentRolledBack(Event):
    """The new release had traffic and lost it again: the previous one serves."""

    kind = "deployment.rolled_back_automatically"
    leads_to = Status.ROLLED_BACK
    stage: str
    code: str
    message: str
    hint: str = ""
    evidence: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DeploymentCancelled(Event):
    kind = "deployment.cancelled"
    leads_to = Status.CANCELLED
    actor: str


@dataclass(frozen=True, kw_only=True)
class DeploymentSuperseded(Event):
    kind = "deployment.superseded"
    leads_to = Status.SUPERSEDED
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class OutcomeUnknown(Event):
    """A deadline passed and the outside cannot be asked. A watcher settles it."""

    kind = "deployment.outcome_unknown"
    leads_to = Status.UNKNOWN
    stage: Stage
    code: str
    message: str
    next_step: str


KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        DeploymentQueued,
        DeploymentClaimed,
        StageStarted,
        StageFinished,
        RetryScheduled,
        CommitResolved,
        ProjectFileRead,
        ImagePinned,
        ReleaseCreated,
        ReleaseCommandFinished,
        ReleaseStarted,
        ReleaseHealthy,
        TrafficShiftDecided,
        TrafficShifted,
        TrafficReturned,
        SwitchCertified,
        ReleaseRetired,
        CancellationRequested,
        StageFailed,
        DeploymentSucceeded,
        DeploymentFailed,
        DeploymentRolledBack,
        DeploymentCancelled,
        DeploymentSuperseded,
        OutcomeUnknown,
    )
}


def event_from(kind: str, data: dict[str, Any]) -> Event:
    """The event a stored row stands for. Fields added later keep their defaults, removed ones are left out."""
    cls = KINDS[kind]
    known = {field.name for field in fields(cls)}
    values = {name: _typed(name, value) for name, value in data.items() if name in known}
    return cls(**values)


def _typed(name: str, value: Any) -> Any:
    match name:
        case "stage" if value in set(Stage):
            return Stage(value)
        case "ends_as":
            return Status(value)
        case _ if isinstance(value, list):
            return tuple(value)
        case _:
            return value
