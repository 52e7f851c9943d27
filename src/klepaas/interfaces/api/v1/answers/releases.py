"""Releases, as callers get them."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from klepaas.domain.release import Release
from klepaas.interfaces.api.v1.answers.answer import EXAMPLE_DIGEST, EXAMPLE_SETTINGS, EXAMPLE_SHA, Answer


class ReleaseAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "rel_8899aabbccddeeff",
                    "number": 9,
                    "deployment_id": "dep_7c1e2d3b4a596877",
                    "commit_sha": EXAMPLE_SHA,
                    "image_digest": EXAMPLE_DIGEST,
                    "image_ref": f"klepaas/shop-production:{EXAMPLE_SHA}",
                    "container_port": 8080,
                    "variable_names": ["LOG_LEVEL"],
                    "settings": EXAMPLE_SETTINGS,
                    "created_at": "2026-01-05T09:00:06.100000Z",
                }
            ]
        }
    )
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
