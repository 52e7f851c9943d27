"""What operations and workflows need from memory and from each other. Storage and the engine provide it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from klepaas.domain.actor import Scope
from klepaas.domain.connection import Connection, Credential
from klepaas.domain.deployment import Deployment
from klepaas.domain.events import DeploymentQueued, Event, Recorded
from klepaas.domain.github import Received, RepositoryName
from klepaas.domain.github_app import GitHubApp
from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import App, Project
from klepaas.domain.release import Release
from klepaas.domain.status import Status
from klepaas.domain.verdict import Verdict


class Lost(Exception):
    """The deployment belongs to another node now; whoever gets this writes nothing more about it."""


class Overtaken(Exception):
    """Another deployment of the app was requested since the caller looked; what it decided may not hold any more."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time, aware UTC."""


@dataclass(frozen=True, kw_only=True)
class AppState:
    """What the record says about an app: which release is to be live, and what was last seen of it."""

    app: App
    live_release_id: str | None
    live_deployment_id: str | None
    previous_release_id: str | None
    warm_release_id: str | None
    warm_until: datetime | None
    health: Health
    health_detail: str
    observed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Token:
    id: str
    owner_id: str
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Owner:
    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a submission led to. `is_new` is False when the same request had been accepted before."""

    deployment: Deployment
    is_new: bool
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What was asked for of one app. `last_number` is that of its newest deployment, however it ended; 0: none yet."""

    last_number: int = 0
    active: Deployment | None = None
    """The newest one that is queued, running or unknown."""
    live: Deployment | None = None

    @property
    def newest(self) -> Deployment | None:
        """What runs once everything asked for has gone well."""
        return self.active or self.live


@dataclass(frozen=True, kw_only=True)
class DecidedHead:
    """The newest commit of a branch that was decided about for a project."""

    project_id: str
    branch: str
    sha: str
    is_settled: bool
    """False: to be decided again, because GitHub could not be asked or checks still run."""
    seen_at: datetime
    etag: str | None = None
    """GitHub's, of the branch while `sha` was its head."""


@dataclass(frozen=True, kw_only=True)
class WatchedChange:
    """A difference a watcher saw in an app, and what it did about it."""

    number: int
    app_key: str
    release_id: str | None
    at: datetime
    health: Health
    detail: str
    action: str


class Deployments(Protocol):
    """The deployments and their event log."""

    async def submit(
        self, request: DeploymentQueued, *, request_key: str | None, after_number: int | None = None
    ) -> Submission:
        """Record one deployment, superseding the app's queued one. The same key again is the same deployment.
        Errors: Overtaken when the app's newest deployment is not `after_number`."""

    async def get(self, deployment_id: str) -> Deployment | None: ...

    async def by_request(self, request_key: str) -> Deployment | None: ...

    async def of_commits(
        self, app_keys: Collection[str], shas: Collection[str]
    ) -> Mapping[tuple[str, str], Deployment]:
        """By app key and commit: its newest deployment that is not a rollback."""

    async def standings(self, app_keys: Collection[str]) -> Mapping[str, Standing]:
        """By app key; an app nothing was ever asked for may be missing."""

    async def of_project(
        self,
        project_id: str,
        *,
        environment: str | None = None,
        status: Collection[Status] = (),
        before_number: int | None = None,
        limit: int = 50,
        without_rollbacks: bool = False,
    ) -> Sequence[Deployment]:
        """Newest first."""

    async def events(self, deployment_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Recorded]: ...

    async def decide(self, deployment: Deployment, events: Sequence[Event]) -> Deployment:
        """Append events decided on this state by somebody who does not own the deployment (a cancellation).
        Errors: Conflict when the deployment went on in the meantime."""

    async def counts(self) -> Mapping[Status, int]: ...

    async def counts_of(self, project_id: str, environment: str) -> Mapping[Status, int]:
        """Of the deployments of one app that are no rollbacks."""


class Queue(Protocol):
    """The engine's side of the same rows: leases, claims and fenced writes."""

    async def join(self, node: str, lease_s: float) -> None: ...

    async def renew(self, node: str, lease_s: float) -> bool:
        """False when the node's own lease had run out: then it owns nothing any more."""

    async def leave(self, node: str) -> None: ...

    async def leads(self, node: str) -> bool:
        """Whether this node is the one that watches; exactly one node with a running lease is."""

    async def claim(self, node: str, room: int) -> Sequence[Deployment]:
        """Take deployments that may run: queued ones of idle apps, and those whose owner is gone."""

    async def owned(self, node: str) -> Mapping[str, bool]:
        """Ids of the running deployments of the node, with whether their cancellation was requested."""

    async def let_go(self, deployment_id: str, node: str, look_again_in_s: float = 0.0) -> None:
        """Have a row claimed again, by whichever node comes first, after that time."""

    async def advance(self, deployment: Deployment, node: str, events: Sequence[Event]) -> Deployment:
        """Append events and write the new state in one transaction, if the deployment is still the node's.
        Repeating it after a lost answer changes nothing. Errors: Lost."""


class AsOf(Protocol):
    """A state of the store that something was decided on. Whoever writes it down hands this in, and the store looks
    whether the state still is."""


@dataclass(frozen=True)
class Recalled:
    """`as_of` is None when nothing can have changed."""

    projects: Sequence[Project]
    as_of: AsOf | None


class Projects(Protocol):
    async def add(self, project: Project) -> Project: ...

    async def get(self, project_id: str) -> Project | None: ...

    async def named(self, name: str, owner_id: str | None) -> Sequence[Project]:
        """Projects with this name, of one owner or (None) of all."""

    async def list(self, owner_id: str | None) -> Sequence[Project]: ...

    async def of_repository(self, repository: RepositoryName) -> Sequence[Project]:
        """Projects of this GitHub repository: by its id, else by its name in any case; and never those of another
        installation."""

    async def recall(self, repository: RepositoryName) -> "Recalled":
        """The same, perhaps from memory: for those whose write says `as_of` when it was."""

    async def learn(self, projects: Sequence[Project]) -> None:
        """Write down what GitHub said of their repositories (ids, names), unless somebody changed them meanwhile."""

    async def change(self, project: Project, *, unchanged_since: datetime) -> Project:
        """Errors: Conflict when somebody changed it in the meantime."""

    async def retire(self, project_id: str, at: datetime) -> None: ...

    async def set_variables(
        self, project_id: str, environment: str, values: Mapping[str, str | None], at: datetime
    ) -> None:
        """Seal and store; None removes."""

    async def variable_names(self, project_id: str, environment: str) -> Mapping[str, datetime]: ...


Tell = Callable[[str], Awaitable[None]]
"""Receives a sentence for each thing that was changed, right after it was."""


class ChainBook(Protocol):
    """What is known of the projects' chains at their provider: the ids on the project, and the rest in `chain`."""

    async def claim_names(
        self, project: Project, candidates: Sequence[Mapping[str, str]], *, keep: Mapping[str, str]
    ) -> Mapping[str, str]:
        """By what they name: those the project has already, else the first of these that no other project holds,
        with `keep` in them whoever holds it. Errors: Conflict when all are held."""

    async def note(self, project_id: str, known: Mapping[str, Any]) -> None:
        """Write down what is known now and keep the rest. None takes something away."""

    async def forget(self, project_id: str) -> None:
        """The chain is gone, and its names are free."""


@dataclass(frozen=True, kw_only=True)
class ProviderRun:
    """A build, a deployment or a pipeline at the provider: ours, or started there by hand (no `deployment_id`).

    `known` are the ids its history held before ours was started; `run_id` is None until we know it, `word` is the
    provider's own for its state, `by` who started it there."""

    number: int
    app_key: str
    kind: str
    provider_project_id: str
    noted_at: datetime
    deployment_id: str | None = None
    commit_sha: str | None = None
    release_id: str | None = None
    known: tuple[str, ...] = ()
    run_id: str | None = None
    word: str | None = None
    by: str = ""
    ended_at: datetime | None = None


class ProviderRuns(Protocol):
    """Every start of a run is written down before it happens, so that neither a crash nor a lost answer makes two."""

    async def of(self, deployment_id: str, kind: str) -> ProviderRun | None: ...

    async def newest(self, app_key: str, kind: str) -> ProviderRun | None:
        """The newest one of ours."""

    async def intend(
        self,
        app: App,
        kind: str,
        provider_project_id: str,
        *,
        deployment_id: str,
        known: Collection[str],
        commit_sha: str | None = None,
        release_id: str | None = None,
    ) -> ProviderRun | None:
        """Write down that it is about to be started; what was written down before, when this deployment did so
        already. None while another deployment has one open in the same project at the provider."""

    async def began(self, run: ProviderRun, run_id: str) -> ProviderRun:
        """Errors: Conflict when that run is another deployment's."""

    async def ended(self, run: ProviderRun, word: str) -> None: ...

    async def forget(self, run: ProviderRun) -> None:
        """It was certainly not started. One that has begun is kept."""

    async def ids(self, kind: str, provider_project_id: str) -> Collection[str]:
        """Of all runs written down."""

    async def by_hand(self, app: App, kind: str, provider_project_id: str, run_id: str, *, word: str, by: str) -> bool:
        """Write down a run that somebody started at the provider. False when it is known already."""

    async def list(self, app_key: str, *, limit: int = 50) -> Sequence[ProviderRun]:
        """Newest first."""


class PipelineIds(Protocol):
    """Of a chain that stands, at its provider. `image_repo` is where its images are, without a tag."""

    @property
    def build_project_id(self) -> int: ...

    @property
    def deploy_project_id(self) -> int: ...

    @property
    def pipeline_id(self) -> int: ...

    @property
    def image_repo(self) -> str: ...


class Pipelines(Protocol):
    """Chains at one provider: what builds and deploys a project there."""

    async def ensure(
        self, project: Project, tell: Tell | None = None, *, mirror: str | None = None
    ) -> tuple[PipelineIds, tuple[str, ...]]:
        """Have the chain of a project, with a sentence for each thing that was changed. Idempotent.

        `mirror` is the name of the repository it is to be mirrored to; None leaves it to the provider's adapter.
        Errors: Conflict, Unavailable, Rejected; what was made until then stays and is known."""

    async def expect(self, project: Project, *, mirror: str | None, place: str | None) -> None:
        """Write down, before there is a chain, which repository the project is to be mirrored to, and the id of the
        place of such repositories. Errors: Invalid; Conflict when it is mirrored to another one already."""

    async def remove(self, project: Project, tell: Tell | None = None) -> tuple[str, ...]:
        """Take it down. What is gone already is no error."""


class Branches(Protocol):
    """What is known of the branches of projects. The newest decision counts; writing it again changes nothing."""

    async def heads(self, project_ids: Collection[str], branch: str) -> Mapping[str, DecidedHead]:
        """By project id."""

    async def decided(self, heads: Sequence[DecidedHead]) -> None: ...

    async def saw(self, project_ids: Collection[str], branch: str, sha: str, etag: str | None) -> None:
        """Remember the etag that came with this head."""

    async def move(self, repository: str, ref: str, before: str, after: str) -> None:
        """Remember that a ref went from one commit to another, as its push said."""

    async def moves(self, repository: str, ref: str) -> Mapping[str, set[str]]:
        """From which commits the ref came to each."""

    async def forget_old_moves(self) -> None: ...

    async def known(self) -> Sequence[DecidedHead]:
        """Of all projects that deploy by themselves."""


@dataclass(frozen=True, kw_only=True)
class DueReport:
    """A deployment that GitHub should show differently from what it was told last."""

    deployment: Deployment
    project: Project
    is_live: bool
    live: Deployment | None
    """What is live in its app; while a switch to another one may still be taken back, the one before."""
    together: Sequence[Deployment]
    """All deployments of the same commit in the same app, this one among them."""
    sent: Mapping[str, Any]
    attempts: int


class Reports(Protocol):
    """How far GitHub was told of each deployment."""

    async def notice(self) -> None:
        """Begin to tell of deployments that are new and whose project has a connection to GitHub."""

    async def take_back(self) -> None:
        """Have what was claimed due again. Only for a process that knows of no other: whoever claimed it has died."""

    async def is_retrying(self) -> bool:
        """Whether something waits to be told again."""

    async def claim(self, *, limit: int, lease: timedelta) -> Sequence[DueReport]:
        """Those that are due, oldest first. They are nobody else's until the lease ends."""

    async def told(self, due: DueReport, sent: Mapping[str, Any]) -> None:
        """Remember what was told, in the middle of telling."""

    async def agreed(self, due: DueReport) -> None:
        """GitHub shows this state of the deployment."""

    async def retry(self, due: DueReport, *, after: timedelta, error: str) -> None: ...

    async def give_up(self, due: DueReport, *, error: str) -> None: ...


class Releases(Protocol):
    async def create(
        self,
        deployment: Deployment,
        project: Project,
        *,
        image_digest: str,
        image_ref: str,
        container_port: int,
    ) -> Release:
        """The release of this deployment, with the project's settings and variables of now, or with those of
        the earlier release it names in `settings_of`. Idempotent."""

    async def get(self, release_id: str) -> Release | None: ...

    async def of_app(self, project_id: str, environment: str, *, limit: int = 100) -> Sequence[Release]:
        """Releases that were proven live at least once, newest first."""

    async def variables(self, release_id: str) -> Mapping[str, str]:
        """Opened. Errors: Refused when the key cannot open them; never an empty environment instead."""


class Apps(Protocol):
    async def ensure(self, project: Project, environment: str) -> AppState: ...

    async def get(self, project_id: str, environment: str) -> AppState | None: ...

    async def all(self) -> Sequence[AppState]: ...

    async def observed(self, state: AppState, observation: Observation, *, action: str = "") -> None:
        """Write what was seen; a history entry when it differs from before or something was done."""

    async def warm(self, app: App, release_id: str | None, until: datetime | None) -> None: ...

    async def hold(self, app: App, for_s: float) -> float | None:
        """Keep deployments of the app from being started, for at most that long. Returns what `let_go` wants; None
        when one is under way, or somebody else holds the app."""

    async def let_go(self, app: App, hold: float) -> None:
        """Have deployments of the app start again. A hold that ran out meanwhile is nobody's."""

    async def changes(self, app_key: str, *, limit: int = 50) -> Sequence[WatchedChange]: ...


class Owners(Protocol):
    async def list(self) -> Sequence[Owner]: ...

    async def add(self, owner: Owner) -> None: ...

    async def named(self, name: str) -> Owner | None: ...


class Tokens(Protocol):
    async def add(self, token: Token, secret_hash: str) -> None: ...

    async def by_id(self, token_id: str) -> tuple[Token, str] | None:
        """The token and the hash of its secret."""

    async def list(self, owner_id: str | None) -> Sequence[Token]: ...

    async def revoke(self, token_id: str, at: datetime) -> bool: ...

    async def any(self) -> bool: ...


class Connections(Protocol):
    async def get(self, connection_id: str) -> Connection | None: ...

    async def open(self, connection_id: str) -> Credential:
        """Errors: NotFound; WrongKey."""

    async def add(self, connection: Connection, credential: Credential) -> None:
        """Errors: Conflict for a name the owner has used already."""

    async def list(self, owner_id: str | None) -> Sequence[Connection]: ...

    async def remove(self, connection_id: str, at: datetime) -> Sequence[str]:
        """Ids of the projects that used it and now have none."""


class StoredApp(Protocol):
    """The GitHub App made for this klepaas, if any."""

    async def get(self) -> GitHubApp | None:
        """Errors: WrongKey."""

    async def put(self, app: GitHubApp, at: datetime) -> None:
        """Errors: Conflict when there is one already."""

    async def remove(self) -> bool:
        """Whether there was one."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """`position` is opaque, rises within the log and resumes reading right after the line."""

    position: str
    at: datetime | None
    text: str


class BuildLogs(Protocol):
    """The full build logs, on disk, one file per attempt."""

    def writer(self, deployment_id: str, fence: int) -> "BuildLogWriter": ...

    async def page(self, deployment_id: str, *, after: str | None, limit: int) -> Sequence[LogLine]: ...

    async def tail(self, deployment_id: str, lines: int) -> Sequence[LogLine]: ...

    async def remove(self, deployment_id: str) -> None: ...


class BuildLogWriter(Protocol):
    async def write(self, line: str) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class StoredDelivery:
    """A webhook in the inbox, without its body. `answer` is what its sender was or would have been answered."""

    number: int
    id: str
    event: str
    headers: Mapping[str, str]
    repository: str | None
    received_at: datetime
    decided_at: datetime | None
    answer: Mapping[str, Any] | None
    decisions: Sequence["Decision"] = ()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a delivery meant for one project. `owner_id` is the project's."""

    verdict: Verdict
    project_name: str
    owner_id: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Known:
    """A delivery that came before. `answer` is None while it is not decided."""

    answer: Mapping[str, Any] | None


class Deliveries(Protocol):
    """The inbox of webhooks. What it has taken survives a power cut."""

    async def add(
        self,
        received: Received,
        *,
        repository: str | None,
        answer: Mapping[str, Any] | None,
        verdicts: Sequence[Verdict] = (),
        as_of: AsOf | None = None,
    ) -> Known | None:
        """Returns once it is on disk; None when it is new. A known id changes nothing.

        With an `answer`, and the `verdicts` it stands for, nothing is left to be decided; unless the state they were
        decided on is no more: then it is as if it were known, and undecided."""

    async def decided(
        self, delivery_id: str, *, answer: Mapping[str, Any], verdicts: Sequence[Verdict], at: datetime
    ) -> None:
        """Record what it meant. Again, it is what it means now."""

    async def get(self, delivery_id: str) -> StoredDelivery | None: ...

    async def body(self, delivery_id: str) -> bytes | None: ...

    async def undecided(self, *, received_before: datetime, after: int, limit: int) -> Sequence[StoredDelivery]:
        """In the order they came, from the number `after` on; without their decisions."""

    async def list(
        self, owner_id: str | None, *, project_id: str | None = None, before_number: int | None = None, limit: int = 50
    ) -> Sequence[StoredDelivery]:
        """Newest first; with an owner only those that meant something for one of their projects, and only that."""

    async def known(self, delivery_ids: Collection[str]) -> Collection[str]:
        """Which of these ids are in the inbox."""

    async def waiting(self) -> Sequence[StoredDelivery]:
        """What waits for something (the commit's checks) for one project at least, in the order it came; some hundred
        at most."""

    async def prune(self, *, received_before: datetime) -> int:
        """Forget what was decided and is older, at most some thousand at once. Returns how many."""


class Feed(Protocol):
    """News for those who watch. A missed bell costs time, never an event."""

    def tell(self, deployment_id: str) -> None:
        """Ring: something was written about this deployment."""

    def events(self, deployment_id: str, *, after: int) -> AsyncIterator[Recorded]:
        """Every event with a number above `after`, once and in order; ends after the terminal one."""

    def news(self, deployment_id: str) -> AsyncIterator[None]:
        """Yields at once and then whenever something may have happened."""

    async def stirred(self, *, within_s: float) -> None:
        """Returns when this process told of any deployment since the last return, at the latest after so long. For
        one listener."""


class Runner(Protocol):
    def wake(self) -> None:
        """Look for work now."""

    def interrupt(self, deployment_id: str) -> None:
        """Obey a cancellation now, if the deployment runs in this process."""
