"""A deployment as JSON and back: the row's `state` is the aggregate written down."""

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from klepaas.domain.deployment import Deployment, Failure, StageTimes
from klepaas.domain.status import Stage, Status

_TIMES = ("created_at", "started_at", "live_at", "finished_at")
_FIELDS = tuple(field.name for field in fields(Deployment) if field.name != "number")


def to_json(deployment: Deployment) -> dict[str, Any]:
    """Every field but `number`, which the database gives."""
    # Not `asdict` for all of it: that copies everything, one value after the other, for each event that is written.
    state: dict[str, Any] = {name: getattr(deployment, name) for name in _FIELDS}
    for name in _TIMES:
        state[name] = _iso(state[name])
    state["stages"] = [_stage(each) for each in deployment.stages]
    state["failure"] = None if deployment.failure is None else asdict(deployment.failure)
    return state


def _stage(times: StageTimes) -> dict[str, Any]:
    return {**vars(times), "started_at": _iso(times.started_at), "finished_at": _iso(times.finished_at)}


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
