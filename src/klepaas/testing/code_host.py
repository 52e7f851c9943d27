"""A GitHub in memory, for tests of what is decided and reported: one repository, its commits, and what it was told."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from klepaas.domain.connection import Connection, Credential
from klepaas.domain.github import (
    ZERO_SHA,
    Checks,
    DeploymentState,
    Head,
    Lineage,
    PullRequest,
    Push,
    RepositoryName,
    SentDelivery,
    StatusState,
)
from klepaas.domain.github_app import GitHubApp, Installation
from klepaas.errors import AuthenticationFailed, BranchNotFound, CommitNotFound, KlepaasError
from klepaas.operations.code_host import Comparison, Place

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class _Commit:
    parent: str | None
    message: str
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ToldStatus:
    sha: str
    context: str
    state: StatusState
    description: str
    url: str | None


@dataclass(kw_only=True)
class ToldDeployment:
    number: int
    sha: str
    environment: str
    key: str
    production: bool
    states: list[tuple[DeploymentState, str]] = field(default_factory=list)
    log_url: str | None = None
    environment_url: str | None = None

    @property
    def state(self) -> DeploymentState | None:
        return self.states[-1][0] if self.states else None


@dataclass
class MemoryCodeHost:
    """`fault` is raised by every question and every report while it is set; `asked` notes what was asked."""

    owner: str = "acme"
    name: str = "shop"
    repository_id: int = 42
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    checked: dict[str, Checks] = field(default_factory=dict)
    fault: KlepaasError | None = None
    asked: list[str] = field(default_factory=list)
    statuses: list[ToldStatus] = field(default_factory=list)
    told: list[ToldDeployment] = field(default_factory=list)
    comments: dict[tuple[int, str], str] = field(default_factory=dict)
    sent: list[SentDelivery] = field(default_factory=list)
    asked_again: list[int] = field(default_factory=list)
    _commits: dict[str, _Commit] = field(default_factory=dict)
    _pulls: dict[str, list[PullRequest]] = field(default_factory=dict)

    # What people do there.

    def push(
        self,
        message: str = "A change",
        *,
        branch: str = "main",
        paths: Sequence[str] = ("app.py",),
        pull_request: int | None = None,
        after: str | None = None,
        pusher: str = "kim",
    ) -> Push:
        """A new commit on top of the branch, or on `after`: then the branch is rewritten. Returns what GitHub says."""
        before = self.branches.get(branch)
        parent = after or before
        sha = hashlib.sha1(f"{branch} {len(self._commits)} {message}".encode()).hexdigest()
        self._commits[sha] = _Commit(parent=parent, message=message, paths=tuple(paths))
        if pull_request is not None:
            self.merged(sha, pull_request, into=branch)
        return self.move(sha, branch=branch, pusher=pusher)

    def move(self, sha: str, *, branch: str = "main", pusher: str = "kim") -> Push:
        """The branch goes to a commit that is there already."""
        before = self.branches.get(branch)
        self.branches[branch] = sha
        forced = before is not None and before not in self._line(sha)
        new = [each for each in self._line(sha) if before is None or each not in self._line(before)]
        return Push(
            repository=self.repository_name,
            ref=f"refs/heads/{branch}",
            before=before or ZERO_SHA,
            after=sha,
            deleted=False,
            forced=forced,
            message=self._commits[sha].message,
            pusher=pusher,
            commits=None if forced else [_as_listed(self._commits[each].paths) for each in new],
        )

    def merged(self, sha: str, number: int, *, into: str = "main", at: datetime | None = LONG_AGO) -> None:
        request = PullRequest(
            number=number, title=f"Change {number}", merged_at=at, base_branch=into, merge_commit_sha=sha
        )
        self._pulls.setdefault(sha, []).append(request)

    @property
    def repository_name(self) -> RepositoryName:
        return RepositoryName(owner=self.owner, name=self.name, repository_id=self.repository_id)

    # What klepaas asks and tells.

    async def repository(self, place: Place) -> RepositoryName:
        self._ask("repository")
        return self.repository_name

    async def head(self, place: Place, branch: str, *, etag: str | None = None) -> Head | None:
        self._ask("head" if etag is None else "head?")
        if branch not in self.branches:
            raise BranchNotFound(f"There is no branch {branch}.")
        sha = self.branches[branch]
        if etag == f'"{sha}"':
            return None
        return Head(sha=sha, message=self._commits[sha].message, etag=f'"{sha}"')

    async def tag(self, place: Place, name: str) -> str:
        self._ask("tag")
        if name not in self.tags:
            raise BranchNotFound(f"There is no tag {name}.")
        return self.tags[name]

    async def pull_requests(self, place: Place, sha: str) -> Sequence[PullRequest]:
        self._ask("pull_requests")
        return self._pulls.get(sha, [])

    async def compare(self, place: Place, base: str, head: str) -> Comparison:
        self._ask("compare")
        if base not in self._commits or head not in self._commits:
            raise CommitNotFound("There is no such commit.")
        there, here = self._line(head), self._line(base)
        if base == head:
            lineage = Lineage.IDENTICAL
        elif base in there:
            lineage = Lineage.AHEAD
        else:
            lineage = Lineage.BEHIND if head in here else Lineage.DIVERGED
        new = [each for each in there if each not in here]
        return Comparison(lineage=lineage, paths=tuple({path for each in new for path in self._commits[each].paths}))

    async def checks(self, place: Place, sha: str, *, without: str) -> Checks:
        self._ask("checks")
        return self.checked.get(sha, Checks.PASSED)

    async def set_status(
        self, place: Place, sha: str, *, context: str, state: StatusState, description: str, url: str | None
    ) -> None:
        self._ask("set_status")
        self.statuses.append(ToldStatus(sha=sha, context=context, state=state, description=description, url=url))

    async def deployments(self, place: Place, *, sha: str, environment: str) -> Mapping[str, int]:
        self._ask("deployments")
        return {each.key: each.number for each in self.told if (each.sha, each.environment) == (sha, environment)}

    async def create_deployment(
        self, place: Place, *, sha: str, environment: str, key: str, description: str, production: bool
    ) -> int:
        self._ask("create_deployment")
        number = len(self.told) + 1
        self.told.append(
            ToldDeployment(number=number, sha=sha, environment=environment, key=key, production=production)
        )
        return number

    async def set_deployment_status(
        self,
        place: Place,
        number: int,
        *,
        state: DeploymentState,
        description: str,
        log_url: str | None,
        environment_url: str | None,
    ) -> None:
        self._ask("set_deployment_status")
        deployment = self.told[number - 1]
        deployment.states.append((state, description))
        deployment.log_url, deployment.environment_url = log_url, environment_url

    async def comment(self, place: Place, pull_request: int, *, marker: str, text: str) -> None:
        self._ask("comment")
        assert marker in text
        self.comments[pull_request, marker] = text

    async def sent_deliveries(self, *, after: int | None = None) -> Sequence[SentDelivery]:
        self._ask("sent_deliveries")
        return sorted((each for each in self.sent if after is None or each.id > after), key=lambda each: -each.id)

    async def redeliver(self, delivery: int) -> None:
        self._ask("redeliver")
        self.asked_again.append(delivery)

    async def git_credential(self, connection: Connection, place: Place) -> Credential:
        raise AuthenticationFailed("This GitHub gives no tokens.")

    async def identify(self, connection: Connection, credential: Credential | None = None) -> str:
        return self.owner

    async def installations(self) -> Sequence[Installation]:
        return ()

    async def create_app(self, code: str) -> GitHubApp:
        raise AuthenticationFailed("This GitHub makes no Apps.")

    # What it looks like there.

    def state_of(self, key: str) -> DeploymentState | None:
        """How the deployment with this key of ours is shown. Fails when it was created twice."""
        found = [each for each in self.told if each.key == key]
        assert len(found) <= 1, f"{key} was created {len(found)} times"
        return found[0].state if found else None

    def status_of(self, sha: str, context: str) -> ToldStatus | None:
        """The newest one counts, as on GitHub."""
        found = [each for each in self.statuses if (each.sha, each.context) == (sha, context)]
        return found[-1] if found else None

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.fault is not None:
            raise self.fault

    def _line(self, sha: str) -> list[str]:
        """The commit and all before it."""
        found: list[str] = []
        here: str | None = sha
        while here is not None:
            found.append(here)
            here = self._commits[here].parent
        return found


def _as_listed(paths: Iterable[str]) -> dict[str, list[str]]:
    return {"added": [], "modified": list(paths), "removed": []}
