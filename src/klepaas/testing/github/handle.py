"""One repository of the stand-in in the hands of a test: plain calls, carried out on the server's loop."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol, TypeVar

from klepaas.testing.git.objects import Person
from klepaas.testing.git.repository import ENV
from klepaas.testing.github import merging, publishing, pushes
from klepaas.testing.github.comments import Comment
from klepaas.testing.github.deployments import Deployment
from klepaas.testing.github.hooks import Hook
from klepaas.testing.github.pull_requests import PullRequest
from klepaas.testing.github.releases import Release
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.shapes import Account
from klepaas.testing.github.statuses import CheckRun, Status
from klepaas.testing.github.world import World

T = TypeVar("T")


class Do(Protocol):
    """Carries something out on the server's loop and waits for it."""

    def __call__(self, work: Awaitable[T], /) -> T: ...


class StandInRepository:
    """Every change is made by the user `dana` unless `by` says otherwise."""

    def __init__(self, world: World, repository: Repository, do: Do) -> None:
        self._world, self._repository, self._do = world, repository, do

    @property
    def id(self) -> int:
        return self._repository.id

    @property
    def full_name(self) -> str:
        return self._repository.full_name

    @property
    def owner(self) -> str:
        return self._repository.owner.login

    @property
    def name(self) -> str:
        return self._repository.name

    @property
    def clone_url(self) -> str:
        return f"{self._repository.web(self._world.links)}.git"

    @property
    def default_branch(self) -> str:
        return self._repository.default_branch

    def head(self, branch: str = "main") -> str:
        """The SHA of a branch. Errors: KeyError when there is none."""
        return self._repository.git.refs[f"refs/heads/{branch}"]

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        *,
        message: str = "Change",
        branch: str = "main",
        quiet: bool = False,
        by: str = "dana",
    ) -> str:
        """Commit on a branch and fire its push, unless `quiet`. A new branch starts at the default branch; a file
        whose content is None is removed."""
        return self._do(self._commit([(files, message)], branch, quiet, by))

    def push(self, commits: Sequence[tuple[Mapping[str, str | bytes | None], str]], *, branch: str = "main") -> str:
        """Several commits (files, message) with one push."""
        return self._do(self._commit(commits, branch, False, "dana"))

    def open_pull(
        self, branch: str, title: str = "Change", *, base: str = "", body: str | None = None, by: str = "dana"
    ) -> int:
        async def opened() -> int:
            pull = await merging.open_pull(
                self._world,
                self._repository,
                head=branch,
                base=base or self.default_branch,
                title=title,
                body=body,
                by=self._user(by),
            )
            return pull.number

        return self._do(opened())

    def merge(self, number: int, how: merging.How = "merge", *, quiet: bool = False, by: str = "dana") -> str:
        """Merge as GitHub's button does; the SHA of the base branch then. Errors: CannotMerge."""
        pull = self._repository.pulls[number]
        return self._do(merging.merge(self._world, self._repository, pull, how, by=self._user(by), quiet=quiet))

    def delete_branch(self, branch: str) -> None:
        self._do(self._change_ref(f"refs/heads/{branch}", None))

    def force(self, branch: str, sha: str, *, quiet: bool = False) -> None:
        """Point a branch at any commit, as `git push --force` does."""
        self._do(self._change_ref(f"refs/heads/{branch}", sha, quiet=quiet))

    def tag(self, name: str, sha: str = "", *, annotated: bool = False) -> str:
        """Tag a commit (default: the head of the default branch); the SHA the tag's ref has then."""

        async def tagged() -> str:
            target = sha or self.head(self.default_branch)
            if annotated:
                who, at = merging.person(self._user("dana")), self._world.now()
                target = await self._repository.git.tag_object(name, target, message=name, tagger=who, at=at)
            await self._change_ref(f"refs/tags/{name}", target)
            return target

        return self._do(tagged())

    def publish_release(
        self, tag: str, *, prerelease: bool = False, draft: bool = False, target: str = "", body: str | None = None
    ) -> int:
        """The release's id. Its tag is made at `target` (default: the default branch) when there is none."""

        async def published() -> int:
            made = await publishing.create_release(
                self._world,
                self._repository,
                tag,
                target=target,
                name=tag,
                body=body,
                draft=draft,
                prerelease=prerelease,
                by=self._user("dana"),
            )
            return made.id

        return self._do(published())

    def rename(self, new: str) -> None:
        """`name`, or `owner/name` to move it. The old name redirects here."""

        async def renamed() -> None:
            self._world.rename(self._repository, new)

        self._do(renamed())

    def report(self, sha: str, context: str, state: str = "success") -> None:
        """A status from somebody else, e.g. a test run."""
        status = Status(
            id=self._world.next_id("status"),
            sha=sha,
            state=state,
            context=context,
            description=None,
            target_url=None,
            creator=self._user("ci"),
            created_at=self._world.now(),
        )
        self._repository.statuses.append(status)

    def check_run(self, sha: str, name: str, *, conclusion: str | None = None) -> None:
        """A check run from somebody else; without a conclusion it is still in progress."""
        now = self._world.now()
        number, done = self._world.next_id("check_run"), conclusion is not None
        status = "completed" if done else "in_progress"
        self._repository.check_runs.append(CheckRun(number, sha, name, status, conclusion, now, now if done else None))

    def add_hook(self, url: str, secret: str = "", *, events: Sequence[str] = ("push", "release")) -> int:
        """A webhook of the repository's own; it is pinged."""

        async def added() -> int:
            hook = Hook(
                id=self._world.next_id("hook"),
                target="repository",
                target_id=self.id,
                url=url,
                secret=secret,
                events=tuple(events),
                created_at=self._world.now(),
            )
            self._repository.hooks[hook.id] = hook
            self._world.ping(hook, self._repository)
            return hook.id

        return self._do(added())

    def statuses(self, sha: str) -> list[Status]:
        """Oldest first."""
        return [status for status in self._repository.statuses if status.sha == sha]

    def deployments(self) -> list[Deployment]:
        """Oldest first, each with its `states`, oldest first."""
        return list(self._repository.deployments.values())

    def comments(self, number: int) -> list[Comment]:
        return [comment for comment in self._repository.comments.values() if comment.number == number]

    def pull(self, number: int) -> PullRequest:
        return self._repository.pulls[number]

    def releases(self) -> list[Release]:
        return list(self._repository.releases.values())

    def log(self, branch: str = "main") -> list[str]:
        """The SHAs of a branch, newest first."""
        return self._do(self._repository.git.new_commits(self.head(branch), without=[]))[::-1]

    def file(self, path: str, branch: str = "main") -> str:
        """A file's text at the head of a branch."""
        return self._do(self._repository.git.git("show", f"{self.head(branch)}:{path}", env=ENV))

    async def _commit(
        self, commits: Sequence[tuple[Mapping[str, str | bytes | None], str]], branch: str, quiet: bool, by: str
    ) -> str:
        repository, author = self._repository, self._user(by)
        async with repository.writing:
            refs = repository.git.refs
            start = refs.get(f"refs/heads/{branch}") or refs.get(f"refs/heads/{repository.default_branch}")
            parents = [start] if start else []
            for files, message in commits:
                who: Person = merging.person(author)
                made = await repository.git.write(
                    files, parents=parents, message=message, author=who, committer=who, at=self._world.now()
                )
                parents = [made.sha]
            await pushes.change_ref(self._world, repository, f"refs/heads/{branch}", parents[0], by=author, quiet=quiet)
        return parents[0]

    async def _change_ref(self, ref: str, sha: str | None, *, quiet: bool = False) -> None:
        async with self._repository.writing:
            await pushes.change_ref(self._world, self._repository, ref, sha, by=self._user("dana"), quiet=quiet)

    def _user(self, login: str) -> Account:
        return self._world.account(login, "User")
