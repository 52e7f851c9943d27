"""A deployment as JSON and back: the row's `state` is the aggregate written down."""

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from klepaas.domain.deployment import Deployment, Failure, StageTimes
from klepaas.domain.status import Stage, Status

_TIMES = ("created_at", "started_at", "live_at", "finished_at")
_FIELDS = {field.name for field in fields(Deployment)} - {"number"}


def to_json(deployment: Deployment) -> dict[str, Any]:
    """Every field but `number`, which the database gives."""
    state = asdict(deployment)
    del state["number"]
    for name in _TIMES:
        state[name] = _iso(state[name])
    for stage in state["stages"]:
        stage["started_at"], stage["finished_at"] = _iso(stage["started_at"]), _iso(stage["finished_at"])
    return state


def from_json(state: dict[str, Any], *, number: int) -> Deployment:
    """The aggregate of a stored row. Unknown fields (of a newer version) are left out."""
    values = {name: value for name, value in state.items() if name in _FIELDS}
    values["status"] = Status(values["status"])
    for name in _TIMES:
        values[name] = _time(values[name])
    values["exposed_ports"] = tuple(values["exposed_ports"])
    values["urls"] = tuple(values["urls"])
    values["stages"] = tuple(
        StageTimes(
            **{
                **stage,
                "stage": Stage(stage["stage"]),
                "started_at": _time(stage["started_at"]),
                "finished_at": _time(stage["finished_at"]),
            }
        )
        for stage in values["stages"]
    )
    if values["failure"] is not None:
        values["failure"] = Failure(**{**values["failure"], "ends_as": Status(values["failure"]["ends_as"])})
    return Deployment(**values, number=number)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
