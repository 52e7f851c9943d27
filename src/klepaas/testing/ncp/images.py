"""Where the images of the container registry are, and images small enough to be made without an engine."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Images(Protocol):
    """A registry that asks nobody for a token; the front before it does."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def respond(self, request: Request) -> Response:
        """Answer one request below `/v2/`."""
        ...

    async def put(self, name: str, tags: Sequence[str], image: "SmallImage") -> None: ...

    async def digest(self, name: str, reference: str) -> str | None:
        """Of the manifest a tag or digest names; None when there is none."""
        ...

    async def delete(self, name: str, reference: str) -> None:
        """Remove a tag, or a manifest with all its tags. Errors: LookupError."""
        ...

    async def tags(self) -> dict[str, list[str]]:
        """Image name → its tags, sorted."""
        ...


@dataclass(frozen=True)
class SmallImage:
    """An image of one file. Equal labels and text make equal digests."""

    layer: bytes
    config: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def small_image(labels: Mapping[str, str], text: str) -> SmallImage:
    """An image that engines can pull: `text` in the file `/built`, these labels, nothing to run."""
    tarred = _tar(text.encode())
    layer = gzip.compress(tarred, mtime=0)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": dict(labels), "Cmd": ["/built"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tarred)]},
            "history": [{"created_by": "a stand-in of SourceBuild"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(config), "digest": digest_of(config)},
            "layers": [{"mediaType": LAYER, "size": len(layer), "digest": digest_of(layer)}],
        }
    )
    return SmallImage(layer, config, manifest)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        entry = tarfile.TarInfo("built")
        entry.size, entry.mode = len(content), 0o644
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
