"""A repository of SourceCommit in the hands of a test."""

from collections.abc import Callable, Mapping
from typing import Any

from klepaas.testing.git.objects import Person
from klepaas.testing.ncp.git import Pushed, moved
from klepaas.testing.ncp.world import Repository, World

SOMEBODY = Person("Dana", "dana@example.org")


class StandInRepository:
    """Its calls come from any thread but the server's own."""

    def __init__(self, world: World, repository: Repository, do: Callable[..., Any], pushed: Pushed) -> None:
        self._world, self._repository, self._do, self._pushed = world, repository, do, pushed

    @property
    def id(self) -> int:
        return self._repository.id

    @property
    def name(self) -> str:
        return self._repository.name

    @property
    def clone_url(self) -> str:
        return f"{self._world.git_url}/{self._world.account}/{self.name}.git"

    @property
    def default(self) -> str:
        return self._repository.default

    @property
    def refs(self) -> dict[str, str]:
        """`refs/heads/…` and `refs/tags/…` → SHA."""
        return dict(self._repository.git.refs)

    def head(self, branch: str = "main") -> str:
        """Errors: LookupError."""
        found = self._repository.git.refs.get(f"refs/heads/{branch}")
        if found is None:
            raise LookupError(f"there is no branch {branch} in {self.name}")
        return found

    def file(self, path: str, branch: str = "main") -> str:
        """Errors: LookupError."""

        async def content() -> str:
            git, sha = self._repository.git, self.head(branch)
            files = await git.files(sha)
            if path not in files:
                raise LookupError(f"there is no {path} at {sha}")
            return await git.git("cat-file", "blob", files[path][1])

        return str(self._do(content()))

    def messages(self, branch: str = "main") -> list[str]:
        """The first lines of its commits, newest first."""

        async def lines() -> list[str]:
            return (await self._repository.git.git("log", "--format=%s", self.head(branch))).splitlines()

        return list(self._do(lines()))

    def commit(self, files: Mapping[str, str | bytes | None], *, message: str = "Change", branch: str = "main") -> str:
        """Push a commit as somebody else would; triggers start their pipelines."""

        async def committed() -> str:
            repository, git = self._repository, self._repository.git
            async with repository.writing:
                before, ref = dict(git.refs), f"refs/heads/{branch}"
                parents = [git.refs[ref]] if ref in git.refs else []
                who, at = SOMEBODY, self._world.clock.now()
                made = await git.write(files, parents=parents, message=message, author=who, committer=who, at=at)
                await git.set_ref(ref, made.sha)
                await moved(repository, before, self._pushed)
            return made.sha

        return str(self._do(committed()))
