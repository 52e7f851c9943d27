"""When a push or a published release deploys a project, as its owner chose it; `operations.pushes` decides by it."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

LONGEST_PATTERN = 255


class PushPolicy(StrEnum):
    MERGES = "merges"
    """Only commits that came by a merged pull request, whether merged, squashed or rebased."""
    EVERY_PUSH = "every_push"


class AfterRollback(StrEnum):
    DEPLOY = "deploy"
    """A push after a rollback deploys, and its history says that it undoes the rollback."""
    HOLD = "hold"
    """Pushes are recorded and not deployed until somebody deploys by hand."""


class TriggerRule(BaseModel):
    """Counts only while the project's `auto_deploy` is on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pushes: PushPolicy = PushPolicy.MERGES
    paths: Annotated[tuple[str, ...], Field(max_length=50)] = ()
    """Deploy only when one of these changed: `services/shop/**`, `*.toml`; `!docs/**` takes away. Empty: any change."""
    releases: bool = True
    """Whether a published release deploys to `production`."""
    wait_for_checks: bool = False
    """Deploy a commit only once everything others check about it has passed."""
    after_rollback: AfterRollback = AfterRollback.DEPLOY

    @field_validator("paths")
    @classmethod
    def _inside(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            path = pattern.removeprefix("!")
            parts = path.split("/")
            if not path or path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable():
                raise ValueError(f"{pattern[:80]!r} is not a pattern inside the repository; give e.g. services/shop/**")
            if len(pattern) > LONGEST_PATTERN:
                raise ValueError(f"a pattern has at most {LONGEST_PATTERN} characters")
        return value
