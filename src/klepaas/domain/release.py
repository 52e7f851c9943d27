"""A release: what should run. Immutable; a rollback runs an earlier one again."""

from dataclasses import dataclass
from datetime import datetime

from klepaas.domain.project import ProjectSettings


@dataclass(frozen=True, kw_only=True)
class Release:
    """An image by digest with the settings it runs with.

    `number` counts the releases of an app from 1 and is the generation a target may compare.
    `environment_digest` tells releases with different variables apart without showing them."""

    id: str
    project_id: str
    environment: str
    number: int
    deployment_id: str
    commit_sha: str
    image_digest: str
    """`sha256:…`; what every container of this release is made from."""
    image_ref: str
    """Human-readable name of the image with its tag; never used to run it."""
    settings: ProjectSettings
    container_port: int
    variable_names: tuple[str, ...]
    environment_digest: str
    created_at: datetime
