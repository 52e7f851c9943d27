"""Commits by the git program: one commit without its history, looked up in its branch when that is needed."""

import asyncio
import contextlib
import errno
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository, parse_branch, parse_commit
from klepaas.errors import BranchNotFound, DiskFull, Invalid, KlepaasError, NetworkTimeout, Rejected, Unavailable
from klepaas.processes import Finished, stream
from klepaas.sources import git_errors
from klepaas.sources.checkout import Limits, Watch, make, remove, size_of
from klepaas.sources.git_errors import Asked
from klepaas.sources.git_program import GitProgram
from klepaas.sources.protocol import Commit

_KEPT_LINES = 200
_SUBJECT_LIMIT = 500
_DEPTHS = (50, 2000)
"""How much of a branch is fetched to find a commit that the server does not give by itself; then all of it."""
_FULL_SHA = 40


class GitSource:
    """Fetches from https, http and ssh servers, and from this machine when the operator allows it.

    A full SHA is fetched as the server gives it, whatever the branch: some servers also give commits that only a
    fork or a deleted branch holds. `environment` is the process's; git sees its PATH, proxies and CA files."""

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
        with _disk_errors(asked):
            make(into)
            try:
                call = _Call(self._git, asked, into, self._limits)
                found = await self._fetch(call)
                call.watch.check_size(await asyncio.to_thread(_forget_git, into))
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
                except _NotAdvertised:
                    await call.fetch_commits_of_branch()
                return await call.knows(commit)
        except Rejected:
            return False

    async def _fetch(self, call: "_Call") -> Commit:
        if call.asked.commit is None:
            return await self._fetch_head(call)
        sha = call.asked.commit
        if len(sha) < _FULL_SHA:
            sha = await self._complete(call.asked)
        return await self._fetch_commit(call, sha)

    async def _fetch_head(self, call: "_Call") -> Commit:
        branch = call.asked.branch
        quick = ("--depth=1", "--single-branch", "--no-tags", "--template=", f"--branch={branch}")
        try:
            await call.transfer("clone", *quick, "--", call.url, str(call.folder))
            # By its full name: git also clones a tag of this name, and then there is no such branch.
            return await call.commit_at(f"refs/heads/{branch}")
        except BranchNotFound as reason:
            raise await self._branch_not_found(call.asked, reason) from reason

    async def _fetch_commit(self, call: "_Call", sha: str) -> Commit:
        await call.tell("init", "--quiet", "--template=")
        try:
            await call.transfer("fetch", "--depth=1", "--no-tags", "--", call.url, sha)
        except _NotAdvertised:
            await self._find_in_branch(call, sha)
        await call.transfer("checkout", "--detach", sha, "--")
        found = await call.commit_at(sha)
        if found.sha != sha:  # the id of a tag
            raise git_errors.commit_not_found(call.asked)
        return found

    async def _find_in_branch(self, call: "_Call", sha: str) -> None:
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

    @contextlib.asynccontextmanager
    async def _scratch_repository(self, asked: Asked) -> AsyncIterator["_Call"]:
        with _disk_errors(asked):
            self._scratch.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="lookup-", dir=self._scratch))
            try:
                call = _Call(self._git, asked, folder, self._limits)
                await call.tell("init", "--quiet", "--bare", "--template=")
                yield call
            finally:
                await remove(folder)


class _NotAdvertised(Rejected):
    """The server gives only what its branches and tags show."""


class _Call:
    """One errand of git, in a folder of its own."""

    def __init__(self, git: GitProgram, asked: Asked, folder: Path, limits: Limits) -> None:
        self.asked, self.folder = asked, folder
        self.url = git.url(asked.repository)
        self.watch = Watch(folder, limits, asked)
        self._git = git
        self._env = git.environment(asked.repository, asked.credential)

    async def transfer(self, command: str, *args: str) -> None:
        """Run a command that may take long, under the eyes of the watch. Errors: git's, as ours."""
        self.watch.check_room()
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        reading = asyncio.create_task(self._read([command, "--progress", *args], lines))
        watching = asyncio.create_task(self.watch.until_trouble())
        try:
            await asyncio.wait({reading, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            if not reading.done():
                reading.cancel()
            await asyncio.wait({reading, watching})
        if not watching.cancelled():
            watching.result()
        if reading.result():
            if git_errors.refuses_unadvertised(lines):
                raise _NotAdvertised("not advertised")
            raise git_errors.explain(lines, self.asked)

    async def tell(self, *args: str, stdin: bytes | None = None) -> Finished:
        """Run a command that only looks at the folder. Errors: git's, as ours."""
        done = await self._git.tell(args, env=self._env, cwd=self.folder, stdin=stdin)
        if done.exit_code:
            raise git_errors.explain(done.stderr.splitlines(), self.asked)
        return done

    async def commit_at(self, revision: str) -> Commit:
        done = await self.tell("log", "-1", "--format=%H%x00%an%x00%ct%x00%s", revision, "--")
        sha, author, seconds, subject = done.stdout.rstrip("\n").split("\0", 3)
        return Commit(
            sha=sha,
            author=_printable(author),
            message=_printable(subject),
            committed_at=datetime.fromtimestamp(int(seconds), UTC),
        )

    async def fetch_commits_of_branch(self) -> None:
        """The whole history of the branch, of each commit only its message where the server can do that."""
        ref = f"refs/heads/{self.asked.branch}"
        await self.transfer("fetch", "--filter=tree:0", "--no-tags", "--", self.url, ref)

    async def commits_beginning_with(self, prefix: str) -> list[str]:
        named = await self.tell("rev-parse", f"--disambiguate={prefix}")
        kinds = await self.tell("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=named.stdout.encode())
        pairs = (line.split(" ") for line in kinds.stdout.splitlines())
        return sorted(name for name, kind in pairs if kind == "commit")

    async def knows(self, sha: str) -> bool:
        return sha in await self.commits_beginning_with(sha)

    async def _read(self, args: Sequence[str], kept: deque[str]) -> int:
        async with stream(["git", *args], env=self._env, cwd=self.folder) as (lines, child):
            async for line in lines:
                self.watch.heard()
                kept.append(line)
            return await child.wait()


def _asked(repository: Repository, branch: str, commit: str | None, credential: Credential | None) -> Asked:
    # Checked again here, where a program is about to see them.
    return Asked(
        repository=repository,
        branch=parse_branch(branch),
        commit=None if commit is None else parse_commit(commit),
        credential=credential,
    )


def _forget_git(folder: Path) -> int:
    """Leave only the tree, and return its size in bytes."""
    shutil.rmtree(folder / ".git")
    return size_of(folder)


def _printable(text: str) -> str:
    """One line without control characters, which a terminal or a log would obey."""
    return "".join(c if c.isprintable() else " " for c in text[:_SUBJECT_LIMIT])


@contextlib.contextmanager
def _disk_errors(asked: Asked) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if error.filename == "git":
            raise Unavailable("The program git is not installed here.", hint="Install it: apt install git.") from error
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(
                f"The disk is too full to check {asked.repository.display} out.",
                hint="Free some space where klepaas keeps its state, then deploy again.",
            ) from error
        raise
