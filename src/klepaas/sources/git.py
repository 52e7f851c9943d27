"""Commits by the git program: one commit without its history, looked up in its branch when that is needed."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository, parse_branch, parse_commit
from klepaas.errors import BranchNotFound, Invalid, KlepaasError, NetworkTimeout, Rejected
from klepaas.sources import git_errors
from klepaas.sources.checkout import Limits, make, remove, size_of
from klepaas.sources.git_errand import Errand, NotAdvertised, disk_errors
from klepaas.sources.git_errors import Asked
from klepaas.sources.git_program import GitProgram
from klepaas.sources.protocol import Commit

_DEPTHS = (50, 2000)
"""How much of a branch is fetched to find a commit that the server does not give by itself; then all of it."""
_FULL_SHA = 40


class GitSource:
    """Fetches from https, http and ssh servers, and from this machine when the operator allows it.

    A full SHA is fetched as the server gives it, whatever the branch: some servers also give commits that only a
    fork or a deleted branch holds. `environment` is the process's; git sees its PATH, proxies and CA files.
    `scratch` is on the file system of the checkouts."""

    def __init__(
        self,
        *,
        allow_local: bool,
        network_timeout: timedelta,
        environment: Mapping[str, str],
        scratch: Path,
        max_checkout_bytes: int = 4 * 2**30,
        min_free_bytes: int = 2**28,
    ) -> None:
        self._git = GitProgram(allow_local=allow_local, network_timeout=network_timeout, environment=environment)
        self._network_timeout = network_timeout
        self._scratch = scratch
        self._limits = Limits(max_bytes=max_checkout_bytes, min_free_bytes=min_free_bytes, silence=network_timeout)
        self._removing: set[asyncio.Task[None]] = set()

    async def fetch(
        self,
        repository: Repository,
        *,
        branch: str,
        commit: str | None,
        into: Path,
        credential: Credential | None,
    ) -> Commit:
        """Check out one commit into the new folder `into`, without `.git`; a failure leaves no folder.

        Shape:  `into` holds the tree as git stores it: links as links, submodules as empty folders, LFS files as
                pointers.
        Errors: as `Source.fetch`, and RepositoryTooLarge, NotAllowed (a repository of this machine) and Invalid (a
                prefix that fits several commits)."""
        asked = _asked(repository, branch, commit, credential)
        with disk_errors(asked):
            make(into)
            try:
                call = Errand(self._git, asked, into, self._limits)
                found = await self._fetch(call)
                self._set_aside(into / ".git")
                call.watch.check_size(await asyncio.to_thread(size_of, into))
            except BaseException:
                await remove(into)
                raise
        return found

    async def head(self, repository: Repository, *, branch: str, credential: Credential | None) -> str:
        asked = _asked(repository, branch, None, credential)
        ref = f"refs/heads/{asked.branch}"
        refs = await self._refs(asked, ref)
        if ref not in refs:
            raise await self._branch_not_found(asked)
        return refs[ref]

    async def has(self, repository: Repository, *, branch: str, commit: str, credential: Credential | None) -> bool:
        asked = _asked(repository, branch, commit, credential)
        try:
            async with self._scratch_repository(asked) as call:
                try:
                    await call.transfer("fetch", "--depth=1", "--filter=tree:0", "--no-tags", "--", call.url, commit)
                except NotAdvertised:
                    await call.fetch_commits_of_branch()
                return await call.knows(commit)
        except Rejected:
            return False

    async def _fetch(self, call: Errand) -> Commit:
        if call.asked.commit is None:
            return await self._fetch_head(call)
        sha = call.asked.commit
        if len(sha) < _FULL_SHA:
            sha = await self._complete(call.asked)
        return await self._fetch_commit(call, sha)

    async def _fetch_head(self, call: Errand) -> Commit:
        branch = call.asked.branch
        quick = ("--depth=1", "--single-branch", "--no-tags", "--template=", f"--branch={branch}")
        try:
            await call.transfer("clone", *quick, "--", call.url, str(call.folder))
            # By its full name: git also clones a tag of this name, and then there is no such branch.
            return await call.commit_at(f"refs/heads/{branch}")
        except BranchNotFound as reason:
            raise await self._branch_not_found(call.asked, reason) from reason

    async def _fetch_commit(self, call: Errand, sha: str) -> Commit:
        await call.tell("init", "--quiet", "--template=")
        try:
            await call.transfer("fetch", "--depth=1", "--no-tags", "--", call.url, sha)
        except NotAdvertised:
            await self._find_in_branch(call, sha)
        await call.transfer("checkout", "--detach", sha, "--")
        found = await call.commit_at(sha)
        if found.sha != sha:  # the id of a tag
            raise git_errors.commit_not_found(call.asked)
        return found

    async def _find_in_branch(self, call: Errand, sha: str) -> None:
        try:
            for deepen in (*(f"--depth={depth}" for depth in _DEPTHS), "--unshallow"):
                await call.transfer("fetch", deepen, "--no-tags", "--", call.url, f"refs/heads/{call.asked.branch}")
                if await call.knows(sha):
                    return
                if not (call.folder / ".git" / "shallow").exists():
                    break
        except BranchNotFound as reason:
            raise await self._branch_not_found(call.asked, reason) from reason
        raise git_errors.commit_not_found(call.asked, in_branch=True)

    async def _complete(self, asked: Asked) -> str:
        """The full SHA of the commit of the branch that begins with what was asked for."""
        prefix = asked.commit or ""
        try:
            async with self._scratch_repository(asked) as call:
                await call.fetch_commits_of_branch()
                matches = await call.commits_beginning_with(prefix)
        except BranchNotFound as reason:
            raise await self._branch_not_found(asked, reason) from reason
        if not matches:
            raise git_errors.commit_not_found(asked, in_branch=True)
        if len(matches) > 1:
            raise Invalid(
                f"{prefix} fits {len(matches)} commits of branch '{asked.branch}' of {asked.repository.display}.",
                hint=f"Give more digits: {', '.join(matches[:5])}.",
                evidence={"matches": matches},
            )
        return matches[0]

    async def _branch_not_found(self, asked: Asked, reason: KlepaasError | None = None) -> BranchNotFound:
        branches: Sequence[str] = ()
        with contextlib.suppress(KlepaasError):
            refs = await self._refs(asked, "--heads")
            branches = [ref.removeprefix("refs/heads/") for ref in refs]
        return git_errors.branch_not_found(asked, branches, reason)

    async def _refs(self, asked: Asked, which: str) -> dict[str, str]:
        """Refs of the server and the SHAs they show: all branches (`--heads`) or one full name."""
        env = self._git.environment(asked.repository, asked.credential)
        url = self._git.url(asked.repository)
        args = ["--heads", "--", url] if which == "--heads" else ["--", url, which]
        try:
            async with asyncio.timeout(self._network_timeout.total_seconds()):
                done = await self._git.tell(["ls-remote", "--quiet", *args], env=env)
        except TimeoutError as error:
            raise NetworkTimeout(
                f"The server of {asked.repository.display} took too long to answer.", hint="Try again."
            ) from error
        if done.exit_code:
            raise git_errors.explain(done.stderr.splitlines(), asked)
        pairs = (line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
        return {ref: sha for sha, ref in pairs}

    def _set_aside(self, git: Path) -> None:
        """Out of the tree at once. Nobody waits until it is removed: that takes as long as a small checkout."""
        aside = self._scratch_folder("aside-")
        git.rename(aside / git.name)
        task = asyncio.create_task(remove(aside))
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    def _scratch_folder(self, prefix: str) -> Path:
        self._scratch.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self._scratch))

    @contextlib.asynccontextmanager
    async def _scratch_repository(self, asked: Asked) -> AsyncIterator[Errand]:
        with disk_errors(asked):
            folder = self._scratch_folder("lookup-")
            try:
                call = Errand(self._git, asked, folder, self._limits)
                await call.tell("init", "--quiet", "--bare", "--template=")
                yield call
            finally:
                await remove(folder)


def _asked(repository: Repository, branch: str, commit: str | None, credential: Credential | None) -> Asked:
    # Checked again here, where a program is about to see them.
    return Asked(
        repository=repository,
        branch=parse_branch(branch),
        commit=None if commit is None else parse_commit(commit),
        credential=credential,
    )
