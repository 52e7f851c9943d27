"""A project: a repository bound to a target and an environment, with the settings of its app."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from klepaas.domain.repository import Repository, parse_path
from klepaas.domain.trigger_rule import TriggerRule
from klepaas.errors import Invalid

_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")
_HOST = re.compile(r"^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+$")
_HEALTH_PATH = re.compile(r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500}$")


class ProjectSettings(BaseModel):
    """What a project may choose. Every field has a default that suits an ordinary web app."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dockerfile: str | None = None
    """Path of the Dockerfile inside the repository. Unset: the root's, else the only one in the tree."""
    context: str | None = None
    """Build context inside the repository. Unset: the Dockerfile's folder when it was found, else the root."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port the app listens on inside its container. Unset: the image's only EXPOSE, else 8080. Given as PORT."""
    health_path: str = "/"
    """Path that answers 2xx or 3xx when the app is ready. With the default `/` any status below 500 counts."""
    health_timeout_s: Annotated[float, Field(gt=0, le=1800)] = 60.0
    """How long a new release may take until it is ready."""
    release_command: tuple[str, ...] = ()
    """A program and its words, run once from the new image before it is started, e.g. to migrate a database."""
    hosts: tuple[str, ...] = ()
    """Custom host names. A public one gets a TLS certificate by itself."""
    memory_bytes: Annotated[int, Field(ge=16 * 2**20)] = 512 * 2**20
    """Memory limit of one container; the app is ended when it takes more."""
    cpus: Annotated[float, Field(ge=0.05, le=256)] = 1.0
    """CPU limit of one container, in cores."""
    pids: Annotated[int, Field(ge=16, le=32768)] = 512
    """How many processes and threads the container may have."""
    replicas: Annotated[int, Field(ge=0, le=100)] = 1
    """How many copies run. Belongs to the project and outlives deployments and rollbacks."""
    drain_timeout_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """How long the old release may finish its open requests after the switch."""
    keep_releases: Annotated[int, Field(ge=1, le=100)] = 5
    """How many earlier releases keep their image for a rollback."""
    switch_failed_budget: Annotated[int, Field(ge=0)] | None = None
    """More failed probe requests than this during a switch revert it. Unset: recorded, never reverted."""
    switch_p99_budget_ms: Annotated[float, Field(gt=0)] | None = None
    """A slower 99th percentile of the probe requests during a switch reverts it. Unset: only recorded."""

    @field_validator("dockerfile", "context")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return parse_path(value)
        except Invalid as refused:
            raise ValueError(refused.message) from refused

    @field_validator("health_path")
    @classmethod
    def _health(cls, value: str) -> str:
        if not _HEALTH_PATH.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is not a health path; give e.g. /health")
        return value

    @field_validator("release_command", mode="before")
    @classmethod
    def _command(cls, value: Any) -> Any:
        """Also as one text; a shell has no part in it."""
        try:
            words = shlex.split(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"it cannot be split into words: {error}") from None
        if isinstance(words, list | tuple) and words and not words[0]:
            raise ValueError("it names no program")
        if isinstance(words, list | tuple) and any(isinstance(word, str) and "\0" in word for word in words):
            raise ValueError("it holds a zero byte")
        return words

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        hosts = tuple(host.lower().rstrip(".") for host in value)
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host[:80]!r} is not a host name; give e.g. shop.example.org")
        return tuple(dict.fromkeys(hosts))

    def chosen(self) -> dict[str, Any]:
        """Only what was set on purpose, JSON-ready: what is stored, and what wins over a project file."""
        return self.model_dump(mode="json", exclude_unset=True)

    def over(self, file_settings: Mapping[str, Any]) -> "ProjectSettings":
        """These settings, with those of a project file where nothing was chosen here."""
        return ProjectSettings.model_validate({**file_settings, **self.chosen()})


@dataclass(frozen=True, kw_only=True)
class Project:
    """A repository bound to a target and an environment. `number` is the integer old clients know it by."""

    id: str
    number: int
    owner_id: str
    name: str
    repository: Repository
    branch: str
    environment: str
    target: str
    settings: ProjectSettings
    auto_deploy: bool
    connection_id: str | None
    created_at: datetime
    updated_at: datetime
    rules: TriggerRule = field(default_factory=TriggerRule)
    github_repository_id: int | None = None
    """GitHub's own number of the repository, once it was learnt: it survives a rename."""
    github_installation_id: str | None = None
    sc_project_id: str | None = None
    """Of the place its mirror is kept in at the provider, where it has one; so for the next four."""
    sc_repo_name: str | None = None
    build_project_id: str | None = None
    deploy_project_id: str | None = None
    pipeline_id: str | None = None
    chain: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of its chain at the provider, by the target's own names."""


@dataclass(frozen=True, kw_only=True)
class App:
    """A project in one environment: what has one live release, one queue and one address."""

    project_id: str
    environment: str
    name: str
    """Unique on this klepaas and safe in file names, labels and container names: `shop-production-3fa2`."""

    @property
    def key(self) -> str:
        return f"{self.project_id}/{self.environment}"


def parse_name(text: str, what: str = "project") -> str:
    """A name of a project or environment: 1 to 40 lower-case letters, digits and hyphens. Errors: Invalid."""
    if not _NAME.fullmatch(text):
        raise Invalid(
            f"{text[:80]!r} is not a name for a {what}.",
            hint="Use 1 to 40 lower-case letters, digits and hyphens; begin and end with a letter or digit.",
        )
    return text


def parse_variable(name: str) -> str:
    """The name of an environment variable. Errors: Invalid."""
    if not _VARIABLE.fullmatch(name):
        raise Invalid(
            # Only what stands before a sign of equality: a value that slipped into the name is not repeated.
            f"{name.split('=')[0][:80]!r} is not the name of an environment variable.",
            hint="Use letters, digits and underscores; begin with a letter or underscore.",
        )
    return name
