"""A source and a builder in memory: commits are names, images are digests made of them."""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from klepaas.builders.protocol import BuildRequest, Image, OnLine
from klepaas.domain.connection import Credential
from klepaas.domain.project import App
from klepaas.domain.repository import Repository
from klepaas.errors import BranchNotFound, CommitNotFound
from klepaas.sources.protocol import Commit


def sha_of(name: str) -> str:
    """A full commit SHA for a short name, the same every time."""
    return hashlib.sha1(name.encode()).hexdigest()


@dataclass
class FakeSource:
    """`branches` maps a branch to its commits, oldest first."""

    branches: dict[str, list[str]] = field(default_factory=lambda: {"main": [sha_of("one")]})
    gone: set[str] = field(default_factory=set)
    fetches: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """What every checkout holds: path → text."""

    async def fetch(
        self, repository: Repository, *, branch: str, commit: str | None, into: Path, credential: Credential | None
    ) -> Commit:
        sha = self._find(branch, commit)
        self.fetches.append(sha)
        await asyncio.to_thread(into.mkdir, parents=True)
        for path, text in self.files.items():
            await asyncio.to_thread((into / path).write_text, text)
        return Commit(sha=sha, message=f"Commit {sha[:7]}", author="Kim", committed_at=datetime(2026, 1, 1, tzinfo=UTC))

    async def head(self, repository: Repository, *, branch: str, credential: Credential | None) -> str:
        return self._find(branch, None)

    async def has(self, repository: Repository, *, branch: str, commit: str, credential: Credential | None) -> bool:
        return commit not in self.gone and any(commit in commits for commits in self.branches.values())

    def _find(self, branch: str, commit: str | None) -> str:
        commits = self.branches.get(branch)
        if commits is None:
            raise BranchNotFound(f"There is no branch {branch}.")
        if commit is None:
            return commits[-1]
        for sha in commits:
            if sha.startswith(commit) and sha not in self.gone:
                return sha
        raise CommitNotFound(f"There is no commit {commit}.")


@dataclass
class FakeBuilder:
    """`failures` are raised by the next builds, one each; `gate` holds builds until it is set."""

    images: dict[str, Image] = field(default_factory=dict)
    builds: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None
    building: asyncio.Event = field(default_factory=asyncio.Event)

    async def find(self, app: App, commit_sha: str, *, dockerfile: str | None, context: str | None) -> Image | None:
        return next((i for i in self.images.values() if i.commit_sha == commit_sha and app.name in i.ref), None)

    async def build(self, request: BuildRequest, on_line: OnLine) -> Image:
        self.builds.append(request.commit_sha)
        self.building.set()
        await on_line(f"building {request.commit_sha}")
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        digest = "sha256:" + hashlib.sha256(f"{request.app.name}{request.commit_sha}".encode()).hexdigest()
        image = Image(
            digest=digest,
            ref=f"klepaas/{request.app.name}:{request.commit_sha}",
            commit_sha=request.commit_sha,
            exposed_ports=(8080,),
        )
        self.images[digest] = image
        return image

    async def inspect(self, digest: str, *, ref: str = "") -> Image | None:
        return self.images.get(digest)

    async def collectable(self, app: App) -> Mapping[str, str]:
        return {digest: image.ref for digest, image in self.images.items() if app.name in image.ref}

    async def collect(self, app: App, keep: Collection[str]) -> Sequence[str]:
        gone = [digest for digest in await self.collectable(app) if digest not in keep]
        for digest in gone:
            del self.images[digest]
        return gone
