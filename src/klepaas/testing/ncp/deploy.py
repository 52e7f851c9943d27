"""SourceDeploy's nouns: projects with stages and scenarios, and a deployment as one history entry."""

# ruff: noqa: N815 - fields are named as they are on the wire

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from klepaas.testing.ncp.bodies import Body, Description, Name100, Text
from klepaas.testing.ncp.clock import milliseconds
from klepaas.testing.ncp.faults import RunFault


class CreateDeployProject(Body):
    name: Name100


class StageConfig(Body):
    """Of a Kubernetes stage; empty is taken, as the real service does, and useless."""

    clusterNo: int | None = None
    clusterUuid: Text | None = None


StageType = Literal["KubernetesService", "Server", "AutoScalingGroup", "ObjectStorage"]


class CreateStage(Body):
    name: Name100
    type: StageType
    config: dict[str, Any]


class ChangeStage(Body):
    name: Name100 | None = None
    type: StageType | None = None
    config: dict[str, Any] | None = None


class Manifest(Body):
    type: Literal["SourceCommit"]
    repository: Text
    branch: Text
    path: Annotated[list[Text], Field(min_length=1)]


class Canary(Body):
    analysisType: Literal["manual", "auto"]
    canaryCount: Annotated[int, Field(ge=1, le=10)]
    timeout: Annotated[int, Field(ge=1, le=360)] | None = None
    prometheus: Text | None = None
    env: dict[str, str] | None = None
    metrics: list[dict[str, Any]] | None = None
    analysisConfig: dict[str, int] | None = None
    passScore: Annotated[int, Field(ge=1, le=100)] | None = None


class ScenarioConfig(Body):
    """Of a scenario on a Kubernetes stage."""

    strategy: Literal["rolling", "blueGreen", "canary"]
    manifest: Manifest
    canaryConfig: Canary | None = None
    rollback: bool | None = None

    @model_validator(mode="after")
    def _has_its_canary(self) -> "ScenarioConfig":
        if self.strategy == "canary" and self.canaryConfig is None:
            raise ValueError("canaryConfig is required for canary")
        return self


class CreateScenario(Body):
    name: Name100
    description: Description = ""
    config: ScenarioConfig


class ChangeScenario(Body):
    description: Description | None = None
    config: ScenarioConfig


@dataclass
class Scenario:
    id: int
    name: str
    description: str
    config: ScenarioConfig
    made_at: datetime


@dataclass
class Stage:
    id: int
    name: str
    type: str
    config: dict[str, Any]
    made_at: datetime
    scenarios: dict[int, Scenario] = field(default_factory=dict)


@dataclass
class DeployProject:
    id: int
    name: str
    made_at: datetime
    usable: bool = True
    """False for one made with keys the service does not know: it never shows up."""
    stages: dict[int, Stage] = field(default_factory=dict)
    deploys: list["Deploy"] = field(default_factory=list)


@dataclass
class Deploy:
    """One run. `images` is what its manifests asked for; `trouble` says why it failed."""

    id: int
    project_id: int
    project: str
    stage_id: int
    stage: str
    scenario_id: int
    scenario: str
    config: ScenarioConfig
    made_at: datetime
    user: str
    status: str = "waiting"
    ended_at: datetime | None = None
    commit_sha: str = ""
    images: list[str] = field(default_factory=list)
    trouble: str = ""
    fault: RunFault | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    decision: asyncio.Future[bool] | None = field(default=None, repr=False)
    """Open while it waits for an approval or for the word on a canary."""
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    def brief(self) -> dict[str, Any]:
        return {**self._about(), "id": str(self.id), "startTime": milliseconds(self.made_at), "status": self.status}

    def json(self) -> dict[str, Any]:
        return {
            **self._about(),
            "id": self.id,
            "status": self.status,
            "executor": self.user,
            "startTime": milliseconds(self.made_at),
            "endTime": milliseconds(self.ended_at) if self.ended_at else None,
            "type": "KubernetesService",
            "config": self.config.model_dump(mode="json", exclude_none=True),
        }

    def _about(self) -> dict[str, Any]:
        return {
            "project": {"id": self.project_id, "name": self.project},
            "stage": {"id": self.stage_id, "name": self.stage},
            "scenario": {"id": self.scenario_id, "name": self.scenario},
        }
