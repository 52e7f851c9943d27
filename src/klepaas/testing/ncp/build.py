"""SourceBuild's nouns: a project with its settings, and a build with the settings it began with."""

# ruff: noqa: N815 - fields are named as they are on the wire

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from klepaas.testing.ncp.bodies import Body, Description, Name80, Text
from klepaas.testing.ncp.clock import milliseconds
from klepaas.testing.ncp.faults import RunFault


class SourceConfig(Body):
    repository: Text
    branch: Text


class Source(Body):
    type: Literal["SourceCommit"]
    config: SourceConfig


class Compute(Body):
    id: int


class Version(Body):
    id: int


class Runtime(Body):
    id: int
    version: Version


class OfSourceBuild(Body):
    os: Version
    runtime: Runtime


class OfContainerRegistry(Body):
    registry: Text
    image: Text
    tag: Text


class OfPublicRegistry(Body):
    image: Text
    tag: Text


class Machine(Body):
    type: Literal["SourceBuild"]
    config: OfSourceBuild


class MachineFromOwnImage(Body):
    type: Literal["ContainerRegistry"]
    config: OfContainerRegistry


class MachineFromPublicImage(Body):
    type: Literal["PublicRegistry"]
    config: OfPublicRegistry


class Docker(Body):
    use: bool = False
    id: int | None = None

    @model_validator(mode="after")
    def _has_an_engine(self) -> "Docker":
        if self.use and self.id is None:
            raise ValueError("docker.id is required when docker is used")
        return self


class Variable(Body):
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")]
    value: str


class Environment(Body):
    compute: Compute
    platform: Annotated[Machine | MachineFromOwnImage | MachineFromPublicImage, Field(discriminator="type")]
    docker: Docker = Docker()
    timeout: Annotated[int, Field(ge=5, le=540)] = 60
    """Minutes."""
    envVars: list[Variable] = Field(default_factory=list)


IMAGE = r"^[a-z0-9]+(([._]|__|[-]*)[a-z0-9]+)*$"


class DockerBuild(Body):
    use: bool = False
    dockerfile: Text | None = None
    registry: Text | None = None
    image: Annotated[str, StringConstraints(pattern=IMAGE, max_length=200)] | None = None
    tag: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_#][A-Za-z0-9_#.-]{0,79}$")] | None = None
    latest: bool = False

    @model_validator(mode="after")
    def _is_whole(self) -> "DockerBuild":
        if self.use and None in (self.dockerfile, self.registry, self.image, self.tag):
            raise ValueError("dockerfile, registry, image and tag are required when dockerbuild is used")
        return self


class Commands(Body):
    pre: list[Text] = Field(default_factory=list)
    build: list[Text] = Field(default_factory=list)
    post: list[Text] = Field(default_factory=list)
    dockerbuild: DockerBuild = DockerBuild()


class Storage(Body):
    bucket: Text
    path: str
    filename: Text


class Artifact(Body):
    use: bool = False
    path: list[Text] = Field(default_factory=list)
    storage: Storage | None = None
    backup: bool = False


class Cache(Body):
    use: bool = False
    registry: str | None = None
    image: str | None = None
    tag: str | None = None
    latest: bool = False


class BuildLinked(Body):
    CloudLogAnalytics: bool = False
    FileSafer: bool = False


class Settings(Body):
    """What a PATCH may hold; every part it names is replaced as a whole."""

    description: Description = ""
    source: Source
    env: Environment
    cmd: Commands = Commands()
    artifact: Artifact = Artifact()
    cache: Cache = Cache()
    linked: BuildLinked = BuildLinked()

    @model_validator(mode="after")
    def _has_docker_for_images(self) -> "Settings":
        if self.cmd.dockerbuild.use and not self.env.docker.use:
            raise ValueError("cmd.dockerbuild needs env.docker.use")
        return self


class CreateProject(Settings):
    name: Name80


@dataclass
class BuildProject:
    id: int
    name: str
    settings: Settings
    made_at: datetime
    user: str
    builds: list["Build"] = field(default_factory=list)


@dataclass
class Build:
    """`image` and `digest` are what was really pushed, whatever `status` says; times are by the stand-in's clock."""

    id: str
    project_id: int
    project: str
    settings: Settings
    branch: str
    made_at: datetime
    user: str
    number: int
    """Of the project's builds, from 1."""
    takes: timedelta
    """At least, until its image is uploaded."""
    status: str = "prepare"
    failed_phase: str | None = None
    ended_at: datetime | None = None
    commit_sha: str = ""
    image: str = ""
    digest: str = ""
    log: list[str] = field(default_factory=list)
    fault: RunFault | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    def json(self) -> dict[str, Any]:
        return {
            "projectId": self.project_id,
            "buildId": self.id,
            "begin": milliseconds(self.made_at),
            "end": milliseconds(self.ended_at) if self.ended_at else None,
            "userId": self.user,
            "status": self.status,
            "failedPhase": self.failed_phase,
        }
