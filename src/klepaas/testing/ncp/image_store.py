"""An own small registry: manifests in memory, blobs in a folder; what `docker push` and `docker pull` need of it.

Source: the distribution specification's HTTP API v2."""

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from klepaas.testing.ncp.images import MANIFEST, SmallImage, digest_of

_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_UPLOADS = re.compile(r"/v2/(.+)/blobs/uploads/([0-9a-f-]*)")
_TAGS = re.compile(r"/v2/(.+)/tags/list")


class ImageStore:
    def __init__(self, folder: Path) -> None:
        self._blobs, self._uploads = folder / "blobs", folder / "uploads"
        self._manifests: dict[str, dict[str, tuple[str, bytes]]] = {}
        """Image name → digest → media type and content."""
        self._tags: dict[str, dict[str, str]] = {}

    async def start(self) -> None:
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._uploads.mkdir(exist_ok=True)

    async def stop(self) -> None:
        """It has nothing that runs."""

    async def put(self, name: str, tags: Sequence[str], image: SmallImage) -> None:
        for blob in (image.layer, image.config):
            (self._blobs / digest_of(blob)).write_bytes(blob)
        for tag in tags:
            self._keep(name, tag, MANIFEST, image.manifest)

    async def digest(self, name: str, reference: str) -> str | None:
        digest = self._tags.get(name, {}).get(reference, reference)
        return digest if digest in self._manifests.get(name, {}) else None

    async def delete(self, name: str, reference: str) -> None:
        digest = await self.digest(name, reference)
        if digest is None:
            raise LookupError(f"there is no {name}:{reference}")
        tags = self._tags[name]
        if reference in tags:
            del tags[reference]
        if reference == digest or digest not in tags.values():
            del self._manifests[name][digest]
            self._tags[name] = {tag: of for tag, of in tags.items() if of != digest}

    async def tags(self) -> dict[str, list[str]]:
        return {name: sorted(tags) for name, tags in self._tags.items() if tags}

    async def respond(self, request: Request) -> Response:
        path, method = request.scope["path"], request.method
        if path == "/v2/":
            return _said({})
        if path == "/v2/_catalog":
            return _said({"repositories": sorted(self._tags)})
        if match := _TAGS.fullmatch(path):
            return self._list(match[1])
        if match := _MANIFEST.fullmatch(path):
            return await self._manifest(request, match[1], match[2])
        if match := _UPLOADS.fullmatch(path):
            return await self._upload(request, match[1], match[2])
        if (match := _BLOB.fullmatch(path)) and method in ("GET", "HEAD"):
            return self._blob(match[2])
        return refused(404, "NAME_UNKNOWN")

    def _keep(self, name: str, reference: str, kind: str, content: bytes) -> str:
        digest = digest_of(content)
        self._manifests.setdefault(name, {})[digest] = (kind, content)
        tags = self._tags.setdefault(name, {})
        if reference != digest:
            tags[reference] = digest
        return digest

    def _list(self, name: str) -> Response:
        if name not in self._tags:
            return refused(404, "NAME_UNKNOWN")
        return _said({"name": name, "tags": sorted(self._tags[name]) or None})

    def _blob(self, digest: str) -> Response:
        path = self._blobs / digest
        if not path.exists():
            return refused(404, "BLOB_UNKNOWN")
        return FileResponse(path, headers={"docker-content-digest": digest}, media_type="application/octet-stream")

    async def _manifest(self, request: Request, name: str, reference: str) -> Response:
        if request.method == "PUT":
            return await self._put_manifest(request, name, reference)
        digest = await self.digest(name, reference)
        if digest is None:
            return refused(404, "MANIFEST_UNKNOWN")
        if request.method == "DELETE":
            await self.delete(name, reference)
            return Response(status_code=202)
        kind, content = self._manifests[name][digest]
        return Response(content, 200, {"docker-content-digest": digest, "etag": f'"{digest}"'}, media_type=kind)

    async def _put_manifest(self, request: Request, name: str, reference: str) -> Response:
        content = await request.body()
        try:
            parts = json.loads(content)
            needed = [parts["config"]["digest"], *(layer["digest"] for layer in parts["layers"])]
        except (ValueError, KeyError, TypeError):
            return refused(400, "MANIFEST_INVALID")
        if not all(isinstance(one, str) and (self._blobs / one).exists() for one in needed):
            return refused(404, "MANIFEST_BLOB_UNKNOWN")
        digest = self._keep(name, reference, request.headers.get("content-type", MANIFEST), content)
        headers = {"docker-content-digest": digest, "location": f"/v2/{name}/manifests/{digest}"}
        return Response(status_code=201, headers=headers)

    async def _upload(self, request: Request, name: str, number: str) -> Response:
        if not number:
            return await self._begin(request, name)
        path = self._uploads / number
        if not path.exists():
            return refused(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "DELETE":
            path.unlink()
            return Response(status_code=204)
        with path.open("ab") as file:
            async for chunk in request.stream():
                file.write(chunk)
        if request.method == "PUT":
            return self._finish(name, path, request.query_params.get("digest", ""))
        return _going_on(name, path, 202 if request.method == "PATCH" else 204)

    async def _begin(self, request: Request, name: str) -> Response:
        asked = request.query_params
        if (mounted := asked.get("mount", "")) and (self._blobs / mounted).exists():
            return _created(name, mounted)
        path = self._uploads / str(uuid.uuid4())
        path.write_bytes(await request.body())
        return self._finish(name, path, asked["digest"]) if "digest" in asked else _going_on(name, path, 202)

    def _finish(self, name: str, path: Path, digest: str) -> Response:
        with path.open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != digest:
            return refused(400, "DIGEST_INVALID")
        path.rename(self._blobs / digest)
        return _created(name, digest)


def refused(status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> Response:
    errors = [{"code": code, "message": message or code.replace("_", " ").lower(), "detail": None}]
    return Response(json.dumps({"errors": errors}), status, headers, media_type="application/json")


def _said(body: Any) -> Response:
    return Response(json.dumps(body), 200, media_type="application/json")


def _created(name: str, digest: str) -> Response:
    headers = {"location": f"/v2/{name}/blobs/{digest}", "docker-content-digest": digest}
    return Response(status_code=201, headers=headers)


def _going_on(name: str, path: Path, status: int) -> Response:
    headers = {
        "location": f"/v2/{name}/blobs/uploads/{path.name}",
        "range": f"0-{max(0, path.stat().st_size - 1)}",
        "docker-upload-uuid": path.name,
    }
    return Response(status_code=status, headers=headers)
