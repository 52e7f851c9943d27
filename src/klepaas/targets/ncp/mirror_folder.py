"""One folder that knows a mirror and what it mirrors: looking at commits, making those of klepaas, pushing them."""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from klepaas.errors import (
    AuthenticationFailed,
    BranchNotFound,
    Conflict,
    ManifestUnusable,
    RepositoryNotFound,
    Unavailable,
)
from klepaas.sources.git_errand import Errand, NotAdvertised
from klepaas.sources.git_errors import commit_not_found
from klepaas.targets.ncp.manifest import KUSTOMIZATIONS, MANIFEST_PATH, Manifest, manifest_for
from klepaas.targets.ncp.manifest_made import Wanted

_MIRROR, _ORIGIN = "refs/klepaas/mirror", "refs/klepaas/origin"
_TRAILER = "Klepaas-Manifest"
_MADE, _OF_THE_REPOSITORY, _KEPT = "made", "of the repository", "kept"
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "klepaas"), ("EMAIL", "klepaas@localhost"))
}
_MOVED_ON = ("[rejected]", "[remote rejected]", "stale info", "non-fast-forward", "fetch first", "cannot lock ref")


class Moved(Conflict):
    """Somebody else pushed since we looked."""


class NotThere(RepositoryNotFound):
    """The mirror does not let us in, or is not found; its cause says which."""


class MirrorFolder:
    """A bare repository of our own."""

    def __init__(self, there: Errand, fetching: Callable[[str], Awaitable[Errand]]) -> None:
        self.there, self._fetching = there, fetching
        self._branch = f"refs/heads/{there.asked.branch}"

    async def prepare(self) -> None:
        if (self.there.folder / "HEAD").exists():
            return
        self.there.folder.mkdir(parents=True, exist_ok=True)
        await self.there.tell("init", "--quiet", "--bare", "--template=")
        # Packs are moved into place whole; loose objects of a fetch that was killed would pass for a history.
        await self.there.tell("config", "fetch.unpackLimit", "1")

    async def head(self) -> str | None:
        """The tip of the mirror; None while it is empty."""
        try:
            with _at_the_mirror():
                await self.there.transfer("fetch", "--no-tags", "--", self.there.url, f"+{self._branch}:{_MIRROR}")
        except BranchNotFound:
            return None
        return await self._id(_MIRROR)

    async def have(self, commit: str) -> None:
        """With its whole history, which the mirror needs; only what is not here yet is fetched."""
        if await self.there.knows(commit):
            return
        here = await self._fetching(commit)
        try:
            await here.transfer("fetch", "--no-tags", "--", here.url, f"+{commit}:{_ORIGIN}")
        except NotAdvertised:
            await here.transfer("fetch", "--no-tags", "--", here.url, f"+refs/heads/{here.asked.branch}:{_ORIGIN}")
        if not await self.there.knows(commit):
            raise commit_not_found(here.asked)

    async def as_it_is(self, commit: str, head: str | None) -> str | None:
        tree = await self._id(f"{commit}^{{tree}}")
        subject = (await self.there.commit_at(commit)).message
        message = f"Mirror {commit[:7]}: {subject}"
        return await self._on_top(commit, head, tree, message, can_be_itself=True)

    async def with_manifest(self, commit: str, head: str | None, manifest: Manifest, kind: str) -> str | None:
        tree = await self._tree_with(commit, manifest.content)
        message = (
            f"Update image to {manifest.new_image_tag}, replicas to {manifest.new_replicas}\n\n{_TRAILER}: {kind}\n"
            f"Klepaas-Commit: {commit}"
        )
        return await self._on_top(commit, head, tree, message, can_be_itself=False)

    async def manifest(self, commit: str, head: str | None, wanted: Wanted) -> tuple[Manifest, str]:
        """What the repository has is edited; else what somebody wrote at SourceCommit; else one is made."""
        found, kind = await self.file(commit), _OF_THE_REPOSITORY
        if found is None and head is not None and (writer := await self._written_there(commit, head)) is not None:
            found, kind = await self.file(writer), _KEPT
        kustomizations = await self._kustomizations(commit)
        made = await asyncio.to_thread(manifest_for, found, wanted, kustomizations=kustomizations)
        return made, _MADE if found is None else kind

    async def dockerfile(self, commit: str, named: str | None) -> bytes | None:
        if named is not None:
            return await self.file(commit, named)
        done = await self.there.tell("ls-tree", "-rz", "--full-tree", "--name-only", commit)
        found = [path for path in done.stdout.split("\0") if path.rpartition("/")[2] == "Dockerfile"]
        only = "Dockerfile" if "Dockerfile" in found else found[0] if len(found) == 1 else None
        return None if only is None else await self.file(commit, only)

    async def push(self, new: str, head: str | None) -> None:
        """Errors: Moved when the tip is not `head` any more."""
        lease = f"--force-with-lease={self._branch}:{head or ''}"
        try:
            with _at_the_mirror():
                await self.there.transfer("push", "--no-verify", lease, "--", self.there.url, f"{new}:{self._branch}")
        except Unavailable as fault:
            if any(sign in str(fault.evidence.get("git", "")) for sign in _MOVED_ON):
                raise Moved(
                    "Somebody else pushes to the mirror at SourceCommit at the same time.",
                    hint="Push to the repository that is mirrored instead, then deploy again.",
                    evidence=fault.evidence,
                ) from fault
            raise

    async def _on_top(
        self, commit: str, head: str | None, tree: str, message: str, *, can_be_itself: bool
    ) -> str | None:
        """A commit with this tree whose history holds both; None when the tip is one already."""
        holds = head is not None and await self._holds(head, commit)
        if head is not None and holds and await self._id(f"{head}^{{tree}}") == tree:
            return None
        is_ahead = head is None or await self._holds(commit, head)
        if is_ahead and can_be_itself:
            return commit
        parents = [commit] if is_ahead or head is None else [head] if holds else [head, commit]
        flags = [flag for parent in parents for flag in ("-p", parent)]
        done = await self.there.tell(
            "commit-tree", *flags, "-F", "-", tree, stdin=message.encode(), environment=_IDENTITY
        )
        return done.stdout.strip()

    async def _tree_with(self, commit: str, content: bytes) -> str:
        index = {"GIT_INDEX_FILE": str(self.there.folder / f"index-{secrets.token_hex(6)}")}
        blob = (await self.there.tell("hash-object", "-w", "--stdin", stdin=content)).stdout.strip()
        try:
            await self.there.tell("read-tree", commit, environment=index)
            entry = f"100644,{blob},{MANIFEST_PATH}"
            await self.there.tell("update-index", "--add", "--replace", "--cacheinfo", entry, environment=index)
            return (await self.there.tell("write-tree", environment=index)).stdout.strip()
        finally:
            await asyncio.to_thread(Path(index["GIT_INDEX_FILE"]).unlink, missing_ok=True)

    async def _written_there(self, commit: str, head: str) -> str | None:
        """The commit at SourceCommit that wrote the newest manifest, when that was somebody else than klepaas."""
        form = f"%H%x00%(trailers:key={_TRAILER},valueonly)"
        only = ("--first-parent", "-m", "--diff-filter=AM", "-1")
        # What the mirrored commit brings along does not count: there the file was removed again.
        done = await self.there.tell("log", *only, f"--format={form}", head, f"^{commit}", "--", MANIFEST_PATH)
        writer, _, kind = done.stdout.strip().partition("\0")
        return writer if writer and kind.strip() not in {_MADE, _OF_THE_REPOSITORY} else None

    async def file(self, commit: str, path: str = MANIFEST_PATH) -> bytes | None:
        """The file; None when there is none. Errors: ManifestUnusable when it is no plain one, or no text."""
        done = await self.there.tell("ls-tree", "-z", "--full-tree", commit, "--", path)
        about = done.stdout.partition("\t")[0].split(" ")
        if len(about) != 3:
            await self._require_folder(commit, path)
            return None
        mode, kind, blob = about
        if kind != "blob" or mode == "120000":
            raise ManifestUnusable(
                f"{path} is no plain file.", hint="Make it one, or remove it: a missing one is made."
            )
        content = (await self.there.tell("cat-file", "blob", blob)).stdout.encode()
        if hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() != blob:
            raise ManifestUnusable(f"{path} is too large, or not written in UTF-8.", hint="Save it as UTF-8.")
        return content

    async def _require_folder(self, commit: str, path: str) -> None:
        folder = path.partition("/")[0]
        done = await self.there.tell("ls-tree", "-z", "--full-tree", commit, "--", folder)
        if done.stdout and " tree " not in done.stdout:
            raise ManifestUnusable(f"{folder} is no folder, but {path} has its place there.", hint="Rename it.")

    async def _kustomizations(self, commit: str) -> dict[str, bytes]:
        done = await self.there.tell("ls-tree", "-rz", "--full-tree", "--name-only", commit, "--", "k8s/")
        paths = [path for path in done.stdout.split("\0") if path.rpartition("/")[2] in KUSTOMIZATIONS]
        return {path: found for path in paths if (found := await self.file(commit, path)) is not None}

    async def _holds(self, commit: str, other: str) -> bool:
        """Whether the history of `commit` holds the other."""
        done = await self.there.tell("rev-list", "-1", other, f"^{commit}", "--")
        return not done.stdout.strip()

    async def _id(self, revision: str) -> str:
        return (await self.there.tell("rev-parse", "--verify", "--end-of-options", revision)).stdout.strip()


@contextlib.contextmanager
def _at_the_mirror() -> Iterator[None]:
    try:
        yield
    except (AuthenticationFailed, RepositoryNotFound) as refused:
        raise NotThere(refused.message, hint=refused.hint, evidence=refused.evidence) from refused
