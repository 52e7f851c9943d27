"""The mirror of a project's repository at SourceCommit, and the manifest on top of it.

The branch there only moves forward, whatever becomes of the one it mirrors: every commit is in it under its own SHA,
and its line of first parents is what klepaas did, in order. What is deployed is its tip: the files of one commit, and
the manifest that names the image made of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository, parse_branch, parse_commit, parse_repository
from klepaas.errors import (
    AuthenticationFailed,
    Conflict,
    DiskFull,
    KlepaasError,
    RepositoryNotFound,
    Unavailable,
)
from klepaas.sources.checkout import Limits, remove
from klepaas.sources.git_errand import Errand, disk_errors
from klepaas.sources.git_errors import Asked
from klepaas.sources.git_program import GitProgram
from klepaas.targets.ncp.manifest import Manifest
from klepaas.targets.ncp.manifest_made import Wanted
from klepaas.targets.ncp.mirror_folder import MirrorFolder, Moved, NotThere
from klepaas.targets.protocol import Reached, nothing_reached

TRIES_REST_S = (0.5, 1.0, 2.0, 4.0)
"""Between tries to push: somebody else was quicker, the connection broke, or the repository is so new that git does
not find it yet (seen to take some seconds)."""
SILENCE = timedelta(minutes=10)
"""How long a push may take to be digested at the other end without a word. Source: the contract's limit of a push."""
_BROKEN = ("corrupt", "bad object", "unable to read", "missing blob", "missing tree", "File exists", "is empty")
"""What git says of a folder that a power cut or a kill left half written."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the commits come from. `credential` opens the project's connection at the moment of use."""

    repository: Repository
    branch: str
    credential: Callable[[], Awaitable[Credential | None]]


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """`name` is safe as a folder's and the app's own: only its one running deployment comes here."""

    name: str
    git_url: str
    branch: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """`head` is the commit at the tip of the mirror, whose manifest this is."""

    head: str
    commit_sha: str
    manifest: Manifest


class Mirrors:
    """`folder` holds what was fetched, so that only what is new is transferred; it may be removed at any time."""

    def __init__(
        self,
        folder: Path,
        git: GitProgram,
        credential: Callable[[Repository], Credential],
        *,
        reached: Reached = nothing_reached,
        rests_s: Sequence[float] = TRIES_REST_S,
        max_bytes: int = 4 * 2**30,
        min_free_bytes: int = 2**28,
    ) -> None:
        """`credential` is SourceCommit's, for the repository there."""
        self._folder, self._git, self._credential = folder, git, credential
        self._reached, self._rests_s = reached, tuple(rests_s)
        self._limits = Limits(max_bytes=max_bytes, min_free_bytes=min_free_bytes, silence=SILENCE)
        self._locks: dict[str, asyncio.Lock] = {}

    async def bring(self, origin: Origin, mirror: Mirror, commit: str) -> str:
        """Have exactly the files of this commit at the tip of the mirror, for a build. Returns the tip.

        Errors: those of fetching, AuthenticationFailed and RepositoryNotFound for the mirror, Conflict when somebody
        else keeps pushing to it."""

        async def make(work: MirrorFolder, head: str | None) -> str | None:
            return await work.as_it_is(commit, head)

        return await self._advance(origin, mirror, commit, make, point="mirrored")

    async def publish(self, origin: Origin, mirror: Mirror, commit: str, wanted: Wanted) -> Published:
        """Have the files of this commit at the tip of the mirror, with the manifest that says what is wanted.

        Errors: as for `bring`; ManifestUnusable."""
        written: list[Manifest] = []

        async def make(work: MirrorFolder, head: str | None) -> str | None:
            manifest, kind = await work.manifest(commit, head, wanted)
            written.append(manifest)
            return await work.with_manifest(commit, head, manifest, kind)

        head = await self._advance(origin, mirror, commit, make, point="manifest.pushed")
        return Published(head=head, commit_sha=commit, manifest=written[-1])

    async def dockerfile(self, origin: Origin, mirror: Mirror, commit: str, named: str | None) -> bytes | None:
        """That of a commit: the one that is named, else the root's, else the only one there is. Fetched where it is
        not here yet; the mirror is not asked. Errors: those of fetching."""
        async with self._opened(origin, mirror) as work:
            await work.have(parse_commit(commit))
            return await work.dockerfile(commit, named)

    async def current(self, origin: Origin, mirror: Mirror) -> bytes | None:
        """The manifest at the tip of the mirror. Errors: as for `bring`."""
        async with self._opened(origin, mirror) as work:
            head = await work.head()
            return None if head is None else await work.file(head)

    async def _advance(
        self,
        origin: Origin,
        mirror: Mirror,
        commit: str,
        make: Callable[[MirrorFolder, str | None], Awaitable[str | None]],
        *,
        point: str,
    ) -> str:
        """Move the tip to what `make` makes of it; None: it is as it should be. Looks again before each try, so that a
        push whose answer was lost is found done."""
        parse_commit(commit)
        for rest_s in (*self._rests_s, None):
            try:
                async with self._opened(origin, mirror) as work:
                    head = await work.head()
                    await work.have(commit)
                    new = await make(work, head)
                    if new is None:
                        assert head is not None
                        return head
                    await work.push(new, head)
                await self._reached(point)
                return new
            except DiskFull:
                raise
            except Unavailable:
                if rest_s is None:
                    raise
            except (Moved, NotThere) as fault:
                if rest_s is None:
                    raise _final(fault) from fault
            await asyncio.sleep(rest_s)
        raise AssertionError("the last try returns or raises")

    @contextlib.asynccontextmanager
    async def _opened(self, origin: Origin, mirror: Mirror) -> AsyncIterator[MirrorFolder]:
        folder = self._folder / mirror.name
        async with self._locks.setdefault(mirror.name, asyncio.Lock()):
            work = await self._work(origin, mirror, folder)
            try:
                with disk_errors(work.there.asked):
                    await work.prepare()
                    yield work
            except Unavailable as fault:
                if any(sign in str(fault.evidence.get("git", "")) for sign in _BROKEN):
                    await remove(folder)
                raise

    async def _work(self, origin: Origin, mirror: Mirror, folder: Path) -> MirrorFolder:
        place = parse_repository(mirror.git_url)
        there = Asked(
            repository=place,
            branch=parse_branch(mirror.branch),
            commit=None,
            credential=self._credential(place),
        )

        async def fetching(commit: str) -> Errand:
            credential = await origin.credential()
            asked = Asked(
                repository=origin.repository, branch=parse_branch(origin.branch), commit=commit, credential=credential
            )
            return Errand(self._git, asked, folder, self._limits)

        return MirrorFolder(Errand(self._git, there, folder, self._limits), fetching)


def _final(fault: Moved | NotThere) -> KlepaasError:
    """The error to end with after the last try."""
    if isinstance(fault, Moved):
        return Conflict(fault.message, hint=fault.hint, evidence=fault.evidence)
    if isinstance(fault.__cause__, AuthenticationFailed):
        return AuthenticationFailed(
            "SourceCommit does not accept the user name and git password of klepaas.",
            hint="Look at KLEPAAS_NCP_SOURCECOMMIT_USERNAME (a sub account) and KLEPAAS_NCP_SOURCECOMMIT_PASSWORD (its "
            "git password, set in the console), and whether it may push to the repository.",
            evidence=fault.evidence,
        )
    return RepositoryNotFound(
        f"The mirror is not at SourceCommit any more: {fault.message}",
        hint="Create the chain again: what is missing is made.",
        evidence=fault.evidence,
    )
