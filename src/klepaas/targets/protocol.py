"""What klepaas asks of a place where releases run.

A target plans (pure), applies (idempotent, prompt) and observes. Waiting, deadlines, retries and events belong
to the workflow, so that all targets behave alike. Optional powers are small protocols of their own.

Every method may be called again after a crash, and by a new owner while a paused one wakes up: it looks before
it creates, adopts what is there, and says `Unavailable` when the place cannot be asked now (the workflow tries
again) or `Rejected` when it says no."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol, runtime_checkable

from klepaas.domain.observation import Observation, TrafficAnswer
from klepaas.domain.project import App
from klepaas.domain.release import Release

Reached = Callable[[str], Awaitable[None]]
"""Told the name of each outside effect right after it happened and before anything else: the place where the
fault harness kills, stops or hangs this process. Does nothing in production."""


async def nothing_reached(point: str) -> None:
    """The `Reached` of production."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What apply will make, as data for people and for dry runs. Holds names of variables, never values."""

    target: str
    summary: str
    steps: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where people reach an app: the first URL is the one to show."""

    urls: tuple[str, ...]


class Target(Protocol):
    name: str

    async def check(self) -> None:
        """Refuse to work with a place that is unreachable (Unavailable) or too old (EngineTooOld)."""

    def plan(self, app: App, release: Release) -> Plan:
        """Say what `apply` makes. Pure."""

    async def apply(
        self, app: App, release: Release, variables: Mapping[str, str], *, deployment_id: str | None = None
    ) -> None:
        """Have the release running beside what runs already, without any traffic. Idempotent, does not wait
        for readiness. `variables` are the opened environment variables of the release.

        `deployment_id` says for which deployment: a rollback applies an earlier one's release again, which a target
        that carries releases out in runs of its own has to tell apart. None: outside of any."""

    async def observe(self, app: App, release: Release, *, deployment_id: str | None = None) -> Observation:
        """Look once, its probe included. An absent release is an observation, not an error; a place that
        cannot be asked is Health.UNKNOWN with the reason in `detail`."""

    async def remove(self, app: App, release: Release) -> None:
        """Have nothing of this release running or parked. Idempotent; saves the runtime log first."""

    async def running(self, app: App) -> Sequence[str]:
        """Ids of the releases of this app that exist on the target in any state (also unknown to us)."""

    async def tail(self, app: App, release: Release, lines: int) -> Sequence[str]:
        """The last lines the release wrote, oldest first, also after it ended. Empty when there is none."""


@runtime_checkable
class ShiftsTraffic(Protocol):
    """A target with a front door whose traffic klepaas itself moves from one release to another."""

    async def open(self, app: App, hosts: Sequence[str]) -> Address:
        """Have a front door for the app (before its first release there is nothing behind it). Idempotent."""

    async def address(self, app: App, hosts: Sequence[str]) -> Address:
        """Where people reach the app, as far as the record knows. Changes nothing, asks nobody outside."""

    async def shift(self, app: App, release: Release) -> None:
        """Send every new request to this release, atomically. Idempotent."""

    async def answering(self, app: App, path: str) -> TrafficAnswer:
        """Send one request through the front door and say which release answered it."""

    async def open_connections(self, app: App, release: Release) -> int | None:
        """How many connections the release still serves; None when that cannot be seen here."""

    async def close(self, app: App) -> None:
        """Take the front door away. Idempotent."""


@dataclass(frozen=True, kw_only=True)
class CommandSeen:
    """One look at a release's command. `exit_code` is None while it runs; `lines` are those it wrote since the position
    that was asked for, and `position` is the one to ask for next."""

    exit_code: int | None
    out_of_memory: bool = False
    lines: tuple[str, ...] = ()
    position: str = ""


@runtime_checkable
class RunsCommands(Protocol):
    """A target that can run a release's command once, from its image and with its variables, beside everything else."""

    async def begin_command(self, app: App, release: Release, variables: Mapping[str, str]) -> None:
        """Have the command running, or ended: one that was begun before is not begun again. Does not wait for it."""

    async def look_at_command(self, app: App, release: Release, *, after: str) -> CommandSeen:
        """How it stands. `after` is the position of an earlier look; empty: from the beginning."""

    async def end_command(self, app: App, release: Release) -> None:
        """Have nothing of it there, whether it ended or not. `remove` does the same. Idempotent."""


@runtime_checkable
class KeepsWarm(Protocol):
    """A target that can freeze a release and thaw it in milliseconds. `apply` thaws."""

    async def park(self, app: App, release: Release) -> bool:
        """Freeze the release; False when there is no room to keep it (then the caller removes it)."""

    def thaw_ahead(self, app: App, release: Release) -> None:
        """Begin to thaw the release and return at once. A head start for `apply`, which is about to come: nothing is
        promised, and whoever finds the release thawed without a deployment freezes it again."""


@runtime_checkable
class KeepsRunning(Protocol):
    """A target that moves traffic and keeps what was applied running by itself: klepaas only looks at it.

    Such a target needs no front door of ours. What it was told may be carried out also after our deadline."""

    look_every: timedelta
    """A watcher looks at one app no more often: each look costs calls that somebody counts."""

    async def watch(self, app: App, release: Release, *, deployment_id: str) -> tuple[Observation, Sequence[str]]:
        """Look at a release that is live since this deployment, with a sentence for each thing that somebody did there
        without klepaas. May wait long for its turn."""

    def urls(self, app: App, hosts: Sequence[str]) -> tuple[str, ...]:
        """Where people reach the app, as far as klepaas knows."""

    async def restore(self, app: App, live: Release | None, *, deployment_id: str) -> None:
        """Have it told to run `live` again, when this deployment, which was given up, told it something else.
        Idempotent, does not wait. The variables of `live` are there still."""

    async def settle(self, app: App, release: Release, *, deployment_id: str) -> Observation:
        """What became of a deployment whose outcome is unknown. HEALTHY: the release is live. STARTING and UNKNOWN:
        nobody can say yet. Anything else: it is not, and will not be, by this deployment."""


@runtime_checkable
class WatchesItself(Protocol):
    """A target that tells when something happened, so that a watcher looks at once instead of at its next turn."""

    def changes(self) -> AsyncIterator[str]:
        """Names of apps (`App.name`) whose workloads changed; an empty name means that anything may have changed
        (the front door did, or the target was out of reach). Never ends, never raises when the target is away."""


@runtime_checkable
class RepairsFront(Protocol):
    """A target whose front door klepaas keeps in repair. Cheap when there is nothing to do."""

    async def repair(self, app: App, hosts: Sequence[str], live: Release | None) -> Sequence[str]:
        """Have the front door of an app stand, with its host names. Where it leads is not touched: a deployment may
        be moving traffic. Returns what was wrong and was put right, one sentence each."""

    async def is_misled(self, app: App, live: Release | None) -> bool:
        """Whether the front door leads elsewhere than to `live` (to anything, when None). Touches nothing."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A workload of ours that exists on a target, whether or not the record knows it. `app` is an `App.name`."""

    app: str
    release_id: str
    workload_id: str
    state: Literal["running", "parked", "stopped"]


@runtime_checkable
class ShowsEverything(Protocol):
    """A target that can list all that this klepaas ever made on it, so that nothing is left behind."""

    async def everything(self) -> Sequence[Found]:
        """Every workload that carries the mark of this klepaas. Never shows anybody else's."""

    async def discard(self, found: Found) -> None:
        """Take away a workload the record does not know; its log is saved first. Idempotent."""
