"""Releases to try a target with."""

import hashlib
import os
from datetime import UTC, datetime

from klepaas.domain.project import App, ProjectSettings
from klepaas.domain.release import Release

NO_IMAGE = "sha256:" + "0" * 64


SHOP = f"shop-production-{os.getpid():x}"
"""Of this worker's own: another one uses the same engine, where a container's name is unique."""


def an_app(name: str = SHOP, project_id: str = "project-1") -> App:
    return App(project_id=project_id, environment="production", name=name)


def a_release(
    app: App, number: int, *, digest: str = NO_IMAGE, port: int = 8080, settings: ProjectSettings | None = None
) -> Release:
    """The same app and number give the same release."""
    mark = hashlib.sha256(f"{app.key}/{number}".encode()).hexdigest()
    return Release(
        id=f"release-{mark[:12]}",
        project_id=app.project_id,
        environment=app.environment,
        number=number,
        deployment_id=f"deployment-{mark[:12]}",
        commit_sha=mark[:40],
        image_digest=digest,
        image_ref=f"klepaas/{app.name}:{mark[:12]}",
        settings=settings or ProjectSettings(),
        container_port=port,
        variable_names=("GREETING",),
        environment_digest="e" * 16,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
