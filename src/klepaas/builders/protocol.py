"""What klepaas asks of a way to turn a commit into an image."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from klepaas.domain.project import App

OnLine = Callable[[str], Awaitable[None]]
"""Receives each line of the build log as it comes, without its line end."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One commit to build. The same request always means the same image name: `klepaas/{app}:{commit}`."""

    app: App
    deployment_id: str
    commit_sha: str
    source: Path
    """Folder with the checked-out commit."""
    dockerfile: str | None
    context: str | None


@dataclass(frozen=True, kw_only=True)
class Image:
    """A built image. `digest` pins it; `exposed_ports` are what its Dockerfile EXPOSEs, lowest first."""

    digest: str
    ref: str
    commit_sha: str
    exposed_ports: tuple[int, ...]


class Builder(Protocol):
    async def find(self, app: App, commit_sha: str, *, dockerfile: str | None, context: str | None) -> Image | None:
        """The image built earlier from this commit with these settings, if it still exists."""

    async def build(self, request: BuildRequest, on_line: OnLine) -> Image:
        """Build the image and return it. Cancelling ends the build and everything it started.

        Errors: DockerfileNotFound, DockerfileAmbiguous (lists the candidates), DockerfileEmpty, BuildFailed
        (with the failing step and the last lines as evidence), DiskFull, EngineUnavailable."""

    async def inspect(self, digest: str, *, ref: str = "") -> Image | None:
        """The image with this digest, if it exists. `ref` is its name with its tag: a registry is asked by it.

        Errors: Unavailable when nobody can say now; AuthenticationFailed or PermissionMissing when we may not look."""

    async def collectable(self, app: App) -> Mapping[str, str]:
        """What `collect` would delete if it kept nothing: digest → what people call it."""

    async def collect(self, app: App, keep: Collection[str]) -> Sequence[str]:
        """Delete our own images of this app whose digest is not kept and that nothing uses; return the deleted
        digests. Never touches an image without our label."""


@runtime_checkable
class BuildsElsewhere(Protocol):
    """A builder whose builds go on when this process ends: they are found again, or ended on purpose."""

    async def end(self, app: App, deployment_id: str) -> None:
        """End the build of a deployment that was given up, if it still goes on. Idempotent."""
