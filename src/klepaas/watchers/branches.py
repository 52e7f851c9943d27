"""Compare the head of every branch that deploys by itself with what was decided about it, and GitHub's list of the
webhooks it sent with the inbox: what was missed is made up for.

The webhook is only the quicker way. The watcher acts on where a branch is now, so a lost, late or refused delivery
costs time and nothing else."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from klepaas.domain.github import ZERO_SHA, Head, Push, RepositoryName
from klepaas.domain.project import Project
from klepaas.domain.verdict import Outcome
from klepaas.errors import AuthenticationFailed, BranchNotFound, KlepaasError, Outside, Rejected, Unavailable
from klepaas.operations import pushes
from klepaas.operations.automatic import BY_WATCHING
from klepaas.operations.code_host import Place
from klepaas.operations.context import Context
from klepaas.operations.intake import Intake
from klepaas.operations.places import place_of_project
from klepaas.operations.ports.branches import DecidedHead
from klepaas.watchers.redeliveries import Redeliveries

log = structlog.get_logger()

JITTER = 0.2
"""The rest between two looks differs by so much, so that many servers do not ask at the same moment."""
QUESTIONS_AT_ONCE = 4
QUESTIONS_A_LOOK = 200
"""Far below the 900 points a minute GitHub allows for one credential; the others have their turn at the next look."""
STRANGERS_EVERY = timedelta(minutes=3)
"""Without a credential GitHub answers 60 questions an hour for everybody behind one address. We ask a third of them."""
REFUSED_FOR = timedelta(minutes=10)
"""A repository GitHub says no about is left alone so long."""
AWAY_FOR = timedelta(minutes=1)
LONGEST_REST = timedelta(minutes=10)
"""For a head that is decided about again and again (checks that failed); it begins with the interval."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One branch of one repository, and the projects that deploy it by themselves."""

    key: tuple[str, str]
    branch: str
    projects: Sequence[Project]
    heads: Sequence[DecidedHead | None]

    @property
    def etag(self) -> str | None:
        """With what the head is asked for: only when all of them know the same one and nothing is left to decide."""
        known = {(head.sha, head.etag) if head is not None and head.is_settled else None for head in self.heads}
        if len(known) != 1 or (only := known.pop()) is None:
            return None
        return only[1]

    @property
    def credential(self) -> str:
        """Who asks: what GitHub counts questions by. Empty for a stranger."""
        return next((each.connection_id for each in self.projects if each.connection_id), "")

    def is_settled_at(self, sha: str) -> bool:
        return all(head is not None and head.sha == sha and head.is_settled for head in self.heads)

    def unsettled_since(self, sha: str) -> datetime | None:
        """When this head was first decided about, if it is to be decided about again."""
        found = [head.seen_at for head in self.heads if head is not None and head.sha == sha and not head.is_settled]
        return min(found) if len(found) == len(self.heads) else None


@dataclass(kw_only=True)
class Branches:
    context: Context
    intake: Intake
    interval: timedelta
    leads: Callable[[], Awaitable[bool]]
    """Whether this process is the one that watches."""
    _asked_at: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _rests: dict[str, datetime] = field(default_factory=dict)
    """Until when a credential, or one repository's branch, is left alone."""

    def __post_init__(self) -> None:
        self.redeliveries = Redeliveries(context=self.context)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                if await self.leads():
                    await self.look()
            except KlepaasError as fault:
                log.warning("branches_not_looked_at", reason=fault.message)
            except Exception:
                log.exception("branches_not_looked_at")
            await asyncio.sleep(self.interval.total_seconds() * random.uniform(1 - JITTER, 1 + JITTER))

    async def look(self) -> None:
        """Once: what waits, what GitHub could not deliver, and where the branches are."""
        await self._decide_waiting()
        projects = [each for each in await self.context.projects.list(None) if each.auto_deploy]
        if not projects:
            return
        await self._ask_for_missed(projects)
        await self._look_at_heads(projects)
        await self.context.branches.forget_old_moves()

    async def _decide_waiting(self) -> None:
        """What waits for checks, in the order it came."""
        for delivery in await self.context.deliveries.waiting():
            await self.intake.take_up(delivery)

    async def _ask_for_missed(self, projects: Sequence[Project]) -> None:
        try:
            await self.redeliveries.look({each.github_repository_id for each in projects})
        except AuthenticationFailed as refused:
            log.debug("sent_deliveries_not_listed", reason=refused.message)  # this klepaas has no App
        except Outside as fault:
            log.info("sent_deliveries_not_listed", reason=fault.message)

    async def _look_at_heads(self, projects: Sequence[Project]) -> None:
        known = {(head.project_id, head.branch): head for head in await self.context.branches.known()}
        places = asyncio.Semaphore(QUESTIONS_AT_ONCE)

        async def look(watched: Watched) -> None:
            async with places:
                await self._look_at(watched)

        await asyncio.gather(*(look(each) for each in self._chosen(_grouped(projects, known))))

    def _chosen(self, watched: Sequence[Watched]) -> Sequence[Watched]:
        """Those whose turn it is: the ones not asked about for longest first, so many as each credential may ask."""
        now = self.context.clock.now()
        long_ago = datetime.min.replace(tzinfo=now.tzinfo)
        count: dict[str, int] = {}
        chosen = []
        for each in sorted(watched, key=lambda one: self._asked_at.get(one.key, long_ago)):
            who = each.credential
            limit = QUESTIONS_A_LOOK if who else 1
            resting = max(self._rests.get(name, long_ago) for name in (who, "/".join(each.key)))
            if resting <= now and count.get(who, 0) < limit:
                count[who] = count.get(who, 0) + 1
                chosen.append(each)
        self._asked_at |= {each.key: now for each in chosen}
        if "" in count:
            self._rests[""] = now + STRANGERS_EVERY
        return chosen

    async def _look_at(self, watched: Watched) -> None:
        """Errors stay here: one branch is no reason to miss the others."""
        now = self.context.clock.now()
        try:
            await self._compare(watched)
        except BranchNotFound as gone:
            log.debug("branch_not_found", branch=watched.branch, reason=gone.message)
        except Rejected as refused:
            self._rests["/".join(watched.key)] = now + REFUSED_FOR
            log.warning("branch_not_looked_at", repository=watched.key[0], reason=refused.message)
        except Unavailable as away:
            self._rests[watched.credential] = now + (away.retry_after or AWAY_FOR)
            log.info("branch_not_looked_at", repository=watched.key[0], reason=away.message)
        except Exception:
            log.exception("branch_not_looked_at", repository=watched.key[0])

    async def _compare(self, watched: Watched) -> None:
        place = await self._place(watched.projects)
        if place is None:
            return
        head = await self.context.github.head(place, watched.branch, etag=watched.etag)
        if head is None:
            return
        ids = [each.id for each in watched.projects]
        if not watched.is_settled_at(head.sha):
            self._rest_longer(watched, head)
            await self._decide(await self._named(place, watched.projects), watched.branch, head)
        if head.etag is not None:
            await self.context.branches.saw(ids, watched.branch, head.sha, head.etag)

    async def _decide(self, repository: RepositoryName, branch: str, head: Head) -> None:
        push = Push(
            repository=repository,
            ref=f"refs/heads/{branch}",
            before=ZERO_SHA,
            after=head.sha,
            deleted=False,
            forced=False,
            message=head.message,
            pusher="",
        )
        for verdict in await pushes.decide_push(self.context, push, delivery_id="", trigger=BY_WATCHING):
            if verdict.outcome is Outcome.DEPLOYED:
                log.info("missed_push_found", project=verdict.project_id, deployment_id=verdict.deployment_id)

    async def _place(self, projects: Sequence[Project]) -> Place | None:
        """By the first project whose repository is at a GitHub; one with a connection before one without."""
        for project in sorted(projects, key=lambda each: each.connection_id is None):
            if (place := await place_of_project(self.context, project)) is not None:
                return place
        return None

    async def _named(self, place: Place, projects: Sequence[Project]) -> RepositoryName:
        """Its name and id of now. After a rename GitHub leads to it under the old name, until somebody takes that name
        for another repository. Errors: Rejected in that case."""
        found = await self.context.github.repository(place)
        known = {project.github_repository_id for project in projects} - {None}
        if known and found.repository_id not in known:
            raise Rejected(
                f"{place.owner}/{place.name} is another repository than it was.",
                hint="Name the repository of the project anew.",
            )
        return found

    def _rest_longer(self, watched: Watched, head: Head) -> None:
        """The longer a head could not be settled, the more seldom it is tried."""
        since = watched.unsettled_since(head.sha)
        if since is not None:
            now = self.context.clock.now()
            rest = min(max((now - since) / 10, self.interval / 2), LONGEST_REST)
            self._rests["/".join(watched.key)] = now + rest


def _grouped(projects: Iterable[Project], known: Mapping[tuple[str, str], DecidedHead]) -> Sequence[Watched]:
    groups: dict[tuple[str, str], list[Project]] = {}
    for project in projects:
        repository = str(project.github_repository_id or project.repository.location.lower())
        groups.setdefault((repository, project.branch), []).append(project)
    return [
        Watched(
            key=key,
            branch=key[1],
            projects=together,
            heads=[known.get((project.id, project.branch)) for project in together],
        )
        for key, together in groups.items()
    ]
