"""SourcePipeline's nouns: a project of tasks that follow each other, and its runs."""

# ruff: noqa: N815 - fields are named as they are on the wire

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from klepaas.testing.ncp.bodies import Body, Description, Name30, Name50, Text
from klepaas.testing.ncp.clock import milliseconds
from klepaas.testing.ncp.faults import RunFault


class BranchInfo(Body):
    branch: Text


class Target(Body):
    info: BranchInfo


class TaskConfig(Body):
    projectId: int
    stageId: int | None = None
    scenarioId: int | None = None
    target: Target | None = None


class TaskBody(Body):
    name: Name50
    type: Literal["SourceBuild", "SourceDeploy"]
    config: TaskConfig
    linkedTasks: list[Text]

    @model_validator(mode="after")
    def _is_whole(self) -> "TaskBody":
        deploys = self.type == "SourceDeploy"
        if deploys and (self.config.stageId is None or self.config.scenarioId is None):
            raise ValueError("stageId and scenarioId are required for SourceDeploy")
        if deploys and self.config.target is not None:
            raise ValueError("target is for SourceBuild")
        return self


class TriggerRepository(Body):
    type: Literal["sourcecommit"]
    name: Text
    branch: Text


class TriggerPipeline(Body):
    id: int


class TriggerSchedule(Body):
    day: Annotated[list[Literal["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]], Field(min_length=1)]
    time: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    timeZone: Literal["Asia/Seoul (UTC+09:00)", "UTC (UTC+00:00)"]
    scheduleOnlyWithChange: bool


class Trigger(Body):
    repository: list[TriggerRepository] = Field(default_factory=list)
    sourcepipeline: list[TriggerPipeline] = Field(default_factory=list)
    schedule: list[TriggerSchedule] = Field(default_factory=list)


class ChangePipeline(Body):
    description: Description | None = None
    tasks: Annotated[list[TaskBody], Field(min_length=1)]
    trigger: Trigger

    @model_validator(mode="after")
    def _follow_each_other(self) -> "ChangePipeline":
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError("names of tasks are unique")
        in_order(self.tasks)
        return self


class CreatePipeline(ChangePipeline):
    name: Name30
    trigger: Trigger = Trigger()


def in_order(tasks: list[TaskBody]) -> list[TaskBody]:
    """So that each comes after those it is linked to. Errors: ValueError."""
    left, ordered = list(tasks), list[TaskBody]()
    while left:
        done = {task.name for task in ordered}
        ready = [task for task in left if set(task.linkedTasks) <= done]
        if not ready:
            raise ValueError("linkedTasks name tasks that do not exist or wait for each other")
        ordered += ready
        left = [task for task in left if task not in ready]
    return ordered


@dataclass
class PipelineProject:
    """`task_ids` are those of `tasks`, by name."""

    id: int
    name: str
    description: str
    tasks: list[TaskBody]
    task_ids: dict[str, int]
    trigger: Trigger
    made_at: datetime
    runs: list["PipelineRun"] = field(default_factory=list)


@dataclass
class TaskRun:
    task: TaskBody
    id: int
    status: str | None = None
    """None before it is its turn."""
    result_id: str | None = None


@dataclass
class PipelineRun:
    id: int
    project_id: int
    project: str
    request_type: Literal["console", "trigger"]
    user: str
    made_at: datetime
    tasks: list[TaskRun]
    status: str = "inprogress"
    ended_at: datetime | None = None
    fault: RunFault | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    def brief(self) -> dict[str, Any]:
        return {
            "projectId": self.project_id,
            "id": self.id,
            "requestType": self.request_type,
            "requestId": self.user,
            "begin": milliseconds(self.made_at),
            "end": milliseconds(self.ended_at) if self.ended_at else None,
            "status": self.status,
        }
