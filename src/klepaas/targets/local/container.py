"""What the engine says about one container, in our words."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from klepaas.errors import Rejected
from klepaas.targets.local.plan import INSTANCE


@dataclass(frozen=True, kw_only=True)
class Container:
    """One look. `exit_code` and `out_of_memory` speak of the last end, 0 and False while it runs."""

    id: str
    labels: Mapping[str, str]
    image_digest: str
    state: Literal["running", "restarting", "parked", "stopped"]
    status: str
    """The engine's own word: created, running, paused, restarting, exited, dead, …"""
    pid: int
    exit_code: int
    out_of_memory: bool
    restarts: int
    started_at: datetime
    restart_policy: str


def container_of(data: Mapping[str, Any]) -> Container:
    """Read the answer of ContainerInspect. Source: Docker Engine API reference."""
    state = data["State"]
    return Container(
        id=data["Id"],
        labels=data["Config"].get("Labels") or {},
        image_digest=data["Image"],
        state=_state_of(state),
        status=str(state.get("Status", "")),
        pid=int(state.get("Pid") or 0),
        exit_code=int(state.get("ExitCode") or 0),
        out_of_memory=bool(state.get("OOMKilled")),
        restarts=int(data.get("RestartCount") or 0),
        started_at=_time_of(str(state.get("StartedAt") or "")),
        restart_policy=str(data["HostConfig"].get("RestartPolicy", {}).get("Name", "")),
    )


def refuse_stranger(found: Container, name: str, instance_id: str) -> None:
    """Errors: Rejected when it is not a container of this klepaas."""
    if found.labels.get(INSTANCE) != instance_id:
        raise Rejected(f"A container named {name} exists that this klepaas did not make.", hint="Rename or remove it.")


def _state_of(state: Mapping[str, Any]) -> Literal["running", "restarting", "parked", "stopped"]:
    # A container that waits for its next restart says Running and Restarting at once.
    if state.get("Restarting"):
        return "restarting"
    if state.get("Paused"):
        return "parked"
    return "running" if state.get("Running") else "stopped"


def _time_of(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
