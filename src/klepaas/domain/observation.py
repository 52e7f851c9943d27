"""What was seen to run. Only observations justify a status; what could not be seen is unknown."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Health(StrEnum):
    HEALTHY = "healthy"
    """Running and its probe answers as agreed."""
    STARTING = "starting"
    """Running, the probe has not yet answered as agreed."""
    UNHEALTHY = "unhealthy"
    """Running (or restarting again and again) and its probe does not answer as agreed."""
    STOPPED = "stopped"
    """Exists and does not run."""
    PARKED = "parked"
    """Frozen, kept for a warm rollback."""
    ABSENT = "absent"
    UNKNOWN = "unknown"
    """The target cannot be asked."""


@dataclass(frozen=True, kw_only=True)
class ProbeAnswer:
    """One answer to a health request. `status` is None when nothing that speaks HTTP answered."""

    at: datetime
    took_ms: float
    ready: bool
    status: int | None = None
    detail: str = ""
    """One clause for people: `HTTP 503`, `connection refused`, `no answer within 2 s`, …"""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One look at one release on its target.

    `detail` is a sentence for people; `listening` holds the addresses the app listens on inside its container
    (`127.0.0.1:3000`) when they could be seen; `exit_code` and `out_of_memory` speak of the last end."""

    at: datetime
    health: Health
    detail: str = ""
    image_digest: str | None = None
    workload_id: str | None = None
    ready_replicas: int = 0
    restarts: int = 0
    exit_code: int | None = None
    out_of_memory: bool = False
    listening: tuple[str, ...] = ()
    probe: ProbeAnswer | None = None

    def as_dict(self) -> dict[str, Any]:
        return as_json(self)


@dataclass(frozen=True, kw_only=True)
class TrafficAnswer:
    """One request through the front door: which release answered, proven by what the proxy dialled.

    `release_id` is None when nothing answered or the answerer is not a release we know."""

    at: datetime
    took_ms: float
    url: str
    status: int | None
    release_id: str | None
    upstream: str | None = None
    detail: str = ""

    def is_served_by(self, release_id: str | None) -> bool:
        """Whether this release answered, and not with an error of its own: the proof that it is live."""
        return (
            release_id is not None and self.release_id == release_id and self.status is not None and self.status < 500
        )

    def as_dict(self) -> dict[str, Any]:
        return as_json(self)


@dataclass(frozen=True, kw_only=True)
class SwitchCertificate:
    """What a bounded prober saw around one switch of traffic. Durations in milliseconds."""

    requests: int
    failed: int
    p99_ms: float
    switched_at: datetime
    began_at: datetime
    ended_at: datetime
    failures: tuple[str, ...] = field(default=())
    """The first few failures in words."""

    def as_dict(self) -> dict[str, Any]:
        return as_json(self)


def as_json(thing: "DataclassInstance") -> dict[str, Any]:
    """The fields of a dataclass, JSON-ready: times as ISO 8601 in UTC, enums as their words."""
    return {key: _plain(value) for key, value in asdict(thing).items()}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case StrEnum():
            return value.value
        case _:
            return value
