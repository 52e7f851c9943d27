"""How our images are named and labelled, so that they are found again and told from everybody else's."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from klepaas.builders.protocol import Image
from klepaas.domain.project import App

MANAGED = "klepaas.managed"
INSTANCE = "klepaas.instance"
APP = "klepaas.app"
COMMIT = "klepaas.commit"
BUILD = "klepaas.build"

_PORT = re.compile(r"^(\d+)(?:/tcp)?$")


@dataclass(frozen=True, kw_only=True)
class ImageName:
    """The image of one commit of an app, built with one pair of settings, by one klepaas."""

    instance: str
    app: App
    commit_sha: str
    dockerfile: str | None
    context: str | None

    @property
    def build(self) -> str:
        """Tells apart the images of one commit that were built with different settings."""
        settings = json.dumps([self.dockerfile, self.context]).encode()
        return hashlib.sha256(settings).hexdigest()[:12]

    @property
    def ref(self) -> str:
        """`klepaas/APP:COMMIT`; builds with settings of their own add those to the tag."""
        usual = self.dockerfile is None and self.context is None
        return f"{repository(self.app)}:{self.commit_sha}{'' if usual else f'-{self.build}'}"

    @property
    def labels(self) -> Mapping[str, str]:
        return {
            MANAGED: "1",
            INSTANCE: self.instance,
            APP: self.app.name,
            COMMIT: self.commit_sha,
            BUILD: self.build,
        }


def repository(app: App) -> str:
    return f"klepaas/{app.name}"


def image_of(found: Mapping[str, Any], *, ref: str | None = None) -> Image:
    """The engine's answer to an inspection as an Image.

    Source: Docker Engine API reference, ImageInspect."""
    names = found.get("RepoTags") or ()
    ports = (_PORT.match(port) for port in (found.get("Config") or {}).get("ExposedPorts") or ())
    return Image(
        digest=str(found["Id"]),
        ref=ref or next(iter(names), str(found["Id"])),
        commit_sha=labels_of(found).get(COMMIT, ""),
        exposed_ports=tuple(sorted({int(port[1]) for port in ports if port})),
    )


def labels_of(found: Mapping[str, Any]) -> Mapping[str, str]:
    return dict((found.get("Config") or {}).get("Labels") or {})
