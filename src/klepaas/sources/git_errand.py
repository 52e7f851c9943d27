"""One errand of the git program: a command in a folder of its own, watched while it transfers."""

import asyncio
import contextlib
import errno
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from klepaas.errors import DiskFull, Rejected, Unavailable
from klepaas.processes import Finished, stream
from klepaas.sources import git_errors
from klepaas.sources.checkout import Limits, Watch
from klepaas.sources.git_errors import Asked
from klepaas.sources.git_program import GitProgram
from klepaas.sources.protocol import Commit

_KEPT_LINES = 200
_SUBJECT_LIMIT = 500


class NotAdvertised(Rejected):
    """The server gives only what its branches and tags show."""


class Errand:
    """What is asked for is fetched into `folder`, or sent from there."""

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
                raise NotAdvertised("not advertised")
            raise git_errors.explain(lines, self.asked)

    async def tell(
        self, *args: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
    ) -> Finished:
        """Run a command that speaks to nobody. `environment` is added to what git sees. Errors: git's, as ours."""
        env = {**self._env, **(environment or {})}
        done = await self._git.tell(args, env=env, cwd=self.folder, stdin=stdin)
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


def _printable(text: str) -> str:
    """One line without control characters, which a terminal or a log would obey."""
    return "".join(c if c.isprintable() else " " for c in text[:_SUBJECT_LIMIT])


@contextlib.contextmanager
def disk_errors(asked: Asked) -> Iterator[None]:
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
