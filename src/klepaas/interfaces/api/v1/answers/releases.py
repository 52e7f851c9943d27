"""Releases, as callers get them."""

from datetime import datetime
from typing import Any

from klepaas.domain.release import Release
from klepaas.interfaces.api.v1.answers.answer import Answer


class ReleaseAnswer(Answer):
    id: str
    number: int
    deployment_id: str
    commit_sha: str
    image_digest: str
    image_ref: str
    container_port: int
    variable_names: list[str]
    settings: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, release: Release) -> "ReleaseAnswer":
        return cls(
            id=release.id,
            number=release.number,
            deployment_id=release.deployment_id,
            commit_sha=release.commit_sha,
            image_digest=release.image_digest,
            image_ref=release.image_ref,
            container_port=release.container_port,
            variable_names=list(release.variable_names),
            settings=release.settings.model_dump(mode="json"),
            created_at=release.created_at,
        )
