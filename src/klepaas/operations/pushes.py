"""What a push or a published release means for each project of its repository.

Everything is decided on what is true now, never on the order in which messages came: a message may be late, repeated
or lost. What was decided without GitHub's word is marked (`is_settled`), and the branch watcher decides it again."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from klepaas.domain import push_rules
from klepaas.domain.actor import Actor, Scope
from klepaas.domain.connection import Connection, ConnectionKind
from klepaas.domain.deployment import Deployment
from klepaas.domain.github import ZERO_SHA, Checks, Lineage, PublishedRelease, PullRequest, Push, RepositoryName
from klepaas.domain.path_filter import any_counts
from klepaas.domain.project import Project
from klepaas.domain.push_rules import verdict
from klepaas.domain.repository import SourceKind
from klepaas.domain.trigger_rule import AfterRollback, PushPolicy
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.errors import BranchNotFound, KlepaasError, Unavailable
from klepaas.operations import deployments
from klepaas.operations.code_host import Place
from klepaas.operations.context import Context
from klepaas.operations.deployments import DeploymentRequest
from klepaas.operations.ports import DecidedHead, Overtaken, Standing
from klepaas.operations.questions import Questions

log = structlog.get_logger()

OUR_CONTEXTS = "klepaas/"
"""How the contexts of our own commit statuses begin."""

PATIENCE = timedelta(milliseconds=500)
"""For one question while the sender of a webhook waits for our answer; GitHub gives up after 10 s."""
WATCHERS_PATIENCE = timedelta(seconds=10)

CHECKS_APPEAR_WITHIN = timedelta(seconds=30)
"""Checks of a new commit take a moment to be there at all. A guess: GitHub's own start within seconds."""

WAYS_TO_ASK = 3
TRIES = 20
"""Racing deliveries of one app repeat until each was decided on what the others led to."""

BY_WATCHING = "branch watch"
OUR_TRIGGERS = frozenset({"push", "merge", BY_WATCHING})


async def decide_push(context: Context, push: Push, *, delivery_id: str, trigger: str = "push") -> Sequence[Verdict]:
    """One verdict for each project of the repository; none when nobody registered it.

    Errors: Unavailable when our own memory is away; never because GitHub is."""
    projects = await projects_of(context, push.repository)
    found = {
        project.id: verdict(project, project.environment, Outcome.IGNORED, push_rules.NOT_MAIN_BRANCH)
        for project in projects
    }
    about = [project for project in projects if push_rules.is_about(project, push)]
    if about:
        for each in await _PushDecision(context, push, delivery_id, trigger).decide(about):
            found[each.verdict.project_id] = each.verdict
    return list(found.values())


async def decide_release(context: Context, release: PublishedRelease, *, delivery_id: str) -> Sequence[Verdict]:
    """One verdict for each project of the repository: a published release goes to `production`.

    Errors: Unavailable when GitHub cannot say now which commit the tag names, or our own memory is away."""
    projects = await projects_of(context, release.repository)
    refused = {project.id: push_rules.refused_release(project, release) for project in projects}
    wanted = [project for project in projects if refused[project.id] is None]
    found = {
        project.id: verdict(project, push_rules.RELEASE_ENVIRONMENT, *reason)
        for project in projects
        if (reason := refused[project.id]) is not None
    }
    if wanted:
        for each in await _ReleaseDecision(context, release, delivery_id).decide(wanted):
            found[each.project_id] = each
    return [found[project.id] for project in projects]


async def projects_of(context: Context, repository: RepositoryName) -> Sequence[Project]:
    """The projects of this repository, as it is called now."""
    found = await context.projects.of_repository(repository)
    current = [_as_named(project, repository) for project in found]
    changed = [now for now, before in zip(current, found, strict=True) if now != before]
    if changed:
        await context.projects.learn(changed)
    return current


def _as_named(project: Project, repository: RepositoryName) -> Project:
    """The project with what the message says of its repository: its ids, and its name after a rename."""
    known = project.repository
    if known.kind is SourceKind.GITHUB and (known.owner, known.name) != (repository.owner, repository.name):
        before = f"{known.owner}/{known.name}.git"
        location = known.location.removesuffix(before) + f"{repository.full_name}.git"
        known = replace(known, owner=repository.owner, name=repository.name, location=location)
    return replace(
        project,
        repository=known,
        github_repository_id=project.github_repository_id or repository.repository_id,
        github_installation_id=project.github_installation_id or repository.installation_id,
    )


@dataclass(frozen=True, kw_only=True)
class _Merge:
    """Whether the commit came by a merged pull request."""

    is_merge: bool
    pull_request: PullRequest | None = None
    is_certain: bool = True


@dataclass(frozen=True)
class _Decided:
    verdict: Verdict
    is_settled: bool = True
    is_head: bool = True
    """False for a commit that is not the newest of its branch."""
    asked_at: datetime | None = None
    """When an earlier delivery or look led to the deployment."""


@dataclass
class _PushDecision:
    context: Context
    push: Push
    delivery_id: str
    trigger: str

    async def decide(self, about: Sequence[Project]) -> Sequence[_Decided]:
        push, self.began_at = self.push, self.context.clock.now()
        self.questions = Questions(
            self.context.github,
            await _places(self.context, push.repository, about),
            WATCHERS_PATIENCE if self.is_watching else PATIENCE,
        )
        if not self.is_watching and push.before not in {"", ZERO_SHA}:
            await self.context.branches.move(_key_of(push.repository), push.ref, push.before, push.after)
        self.merge = await self._merge(about)
        decided: list[_Decided] = []
        candidates = []
        for project in about:
            refusal = self._refusal(project)
            if refusal is None:
                candidates.append(project)
            else:
                decided.append(refusal)
        heads = await self.context.branches.heads([project.id for project in about], push.branch or "")
        if candidates:
            standings = await _standings(self.context, candidates, lambda project: project.environment)
            decided += [
                await self._consider(project, standings[project.id], heads.get(project.id)) for project in candidates
            ]
        await self._record(decided, heads)
        return decided

    @property
    def is_watching(self) -> bool:
        return self.trigger == BY_WATCHING

    async def _merge(self, about: Sequence[Project]) -> _Merge:
        if all(project.rules.pushes is PushPolicy.EVERY_PUSH for project in about):
            return _Merge(is_merge=push_rules.sounds_merged(self.push), is_certain=False)
        found = await self.questions.pull_requests(self.push.after)
        if found is None:
            return _Merge(is_merge=push_rules.sounds_merged(self.push), is_certain=False)
        merged = push_rules.merged_into(self.push.branch or "", found)
        # GitHub tells of a push a moment before it knows the pull request of the commit: a no is asked for again.
        return _Merge(
            is_merge=merged is not None, pull_request=merged, is_certain=merged is not None or self.is_watching
        )

    def _refusal(self, project: Project) -> _Decided | None:
        """In the order the older systems answered in."""
        if project.rules.pushes is PushPolicy.MERGES and not self.merge.is_merge:
            said = self._say(project, Outcome.IGNORED, push_rules.NOT_A_MERGE)
            return replace(said, is_settled=self.merge.is_certain)
        if not project.auto_deploy:
            return self._say(project, Outcome.SKIPPED, push_rules.AUTO_DEPLOY_OFF)
        if push_rules.asks_for_no_deployment(self.push.message):
            return self._say(project, Outcome.SKIPPED, push_rules.SKIP_ASKED)
        return None

    async def _consider(self, project: Project, standing: Standing, head: DecidedHead | None) -> _Decided:
        for _ in range(TRIES):
            try:
                return await self._decide(project, standing, head)
            except Overtaken:
                standing = (await _standings(self.context, [project], lambda p: p.environment))[project.id]
                self.questions.forget_heads()  # only one asked for after the standing was read can be trusted
            except Unavailable:
                raise
            except KlepaasError as refused:  # e.g. the project was retired in this moment; the others go on
                log.warning("push_not_decided", project=project.id, reason=refused.message)
                return replace(self._say(project, Outcome.IGNORED, refused.message), is_settled=False)
        return replace(self._say(project, Outcome.WAITING, "many deployments are requested now"), is_settled=False)

    async def _decide(self, project: Project, standing: Standing, head: DecidedHead | None) -> _Decided:
        sha, newest = self.push.after, standing.newest
        if newest is not None and newest.commit_sha == sha:
            return _Decided(_repeated(project, newest), asked_at=newest.created_at)
        earlier = await self.context.deployments.of_commit(project.id, project.environment, sha)
        if earlier is not None and self._led_to(earlier, head):
            return _Decided(_repeated(project, earlier), asked_at=earlier.created_at)
        bases = await self._asked_for(project, newest, head)
        place = await self._place_in_branch(bases, is_new=earlier is None)
        if place.newer is not None:
            if earlier is not None:
                return _Decided(_repeated(project, earlier), is_head=False)
            said = self._say(project, Outcome.IGNORED, f"superseded by {place.newer[:7]}")
            return replace(said, is_head=False)
        if not (touched := await self._touches(project, newest)).is_so:
            said = self._say(project, Outcome.IGNORED, push_rules.NO_PATH_CHANGED)
            return replace(said, is_settled=touched.is_certain)
        if project.rules.after_rollback is AfterRollback.HOLD and newest is not None and newest.is_rollback:
            return self._say(project, Outcome.SKIPPED, push_rules.HELD)
        if project.rules.wait_for_checks and (waiting := await self._checks(project, head)) is not None:
            return waiting
        started = await self._start(project, standing, earlier)
        return replace(started, is_settled=place.is_certain)

    def _led_to(self, earlier: Deployment, head: DecidedHead | None) -> bool:
        """Whether the commit was asked for since the branch came to the head we know of, and not an earlier time.

        That head may be another commit: somebody asked, and went away before it was written down."""
        if head is None:
            return earlier.trigger in OUR_TRIGGERS
        return earlier.created_at >= head.seen_at

    async def _asked_for(self, project: Project, newest: Deployment | None, head: DecidedHead | None) -> set[str]:
        """The newest other commits that were asked for: what runs or is about to, and the branch's head even when its
        deployment failed. A head that was not to be deployed is no reason to leave one before it out."""
        found = {newest.commit_sha} if newest is not None and newest.commit_sha is not None else set()
        if head is None or head.sha in {*found, self.push.after}:
            return found
        tried = await self.context.deployments.of_commit(project.id, project.environment, head.sha)
        return found if tried is None else {*found, head.sha}

    async def _place_in_branch(self, bases: Collection[str], *, is_new: bool) -> "_PlaceInBranch":
        """Whether something newer than the pushed commit was asked for already. `is_new`: the commit never was."""
        sha, push = self.push.after, self.push
        if not bases:
            return _PlaceInBranch()
        now = await self.questions.head(push.branch or "")
        if now is not None and now.sha == sha:
            return _PlaceInBranch()
        if now is not None and (not is_new or not await self._is_part_of(now.sha)):
            return _PlaceInBranch(newer=now.sha)
        if now is None and is_new and bases == {push.before}:
            return _PlaceInBranch(is_certain=False)
        for base in sorted(bases):
            if await self._is_newer(base, is_head_known=now is not None, is_new=is_new):
                return _PlaceInBranch(newer=base)
        return _PlaceInBranch(is_certain=now is not None)

    async def _is_part_of(self, head: str) -> bool:
        """Whether the branch still holds the pushed commit. In doubt it does."""
        compared = await self.questions.compare(self.push.after, head)
        return compared is None or compared.lineage is Lineage.AHEAD

    async def _is_newer(self, base: str, *, is_head_known: bool, is_new: bool) -> bool:
        compared = await self.questions.compare(base, self.push.after)
        if compared is not None and compared.lineage in {Lineage.AHEAD, Lineage.IDENTICAL}:
            return False
        if compared is not None and (compared.lineage is Lineage.BEHIND or is_head_known):
            # Diverged: somebody rewrote the branch. Only its head counts, and this commit is not the head.
            return is_head_known or not self.push.forced
        if is_head_known and not self.questions.is_away:
            return True  # one of the two is gone from GitHub
        moves = await self.context.branches.moves(_key_of(self.push.repository), self.push.ref)
        went_on = push_rules.happened_before(self.push.after, base, moves)
        came_from = push_rules.happened_before(base, self.push.after, moves)
        # A branch that went to and fro: a commit that comes back is left to the watcher, which sees where it ended.
        return went_on and not (came_from and is_new)

    async def _touches(self, project: Project, newest: Deployment | None) -> "_Answer":
        """Whether a file the project is about changed since what runs or is about to."""
        patterns = project.rules.paths
        if not patterns or newest is None or newest.commit_sha is None:
            return _Answer(True)
        paths = await self._changed(newest.commit_sha)
        if paths is None and self.questions.is_away and self.push.paths is not None:
            return _Answer(any_counts(patterns, self.push.paths), is_certain=False)
        return _Answer(paths is None or any_counts(patterns, paths))

    async def _changed(self, base: str) -> Collection[str] | None:
        there = await self.questions.compare(base, self.push.after)
        if there is None or there.paths is None or there.lineage is Lineage.AHEAD:
            return None if there is None else there.paths
        # GitHub compares with the common ancestor: what the base has beyond it goes away as well.
        back = await self.questions.compare(self.push.after, base)
        return None if back is None or back.paths is None else {*there.paths, *back.paths}

    async def _checks(self, project: Project, head: DecidedHead | None) -> _Decided | None:
        """Why the commit is not deployed yet; None when everything others check about it has passed."""
        seen_at = head.seen_at if head is not None and head.sha == self.push.after else self.began_at
        found = None
        if self.context.clock.now() - seen_at >= CHECKS_APPEAR_WITHIN:
            found = await self.questions.checks(self.push.after, without=OUR_CONTEXTS)
        if found is Checks.PASSED:
            return None
        if found is Checks.FAILED:  # they may be run again
            return replace(self._say(project, Outcome.IGNORED, push_rules.CHECKS_FAILED), is_settled=False)
        return replace(self._say(project, Outcome.WAITING, "waiting for the commit's checks"), is_settled=False)

    async def _start(self, project: Project, standing: Standing, earlier: Deployment | None) -> _Decided:
        is_merge, merged = self.merge.is_merge, self.merge.pull_request
        trigger = "merge" if is_merge and self.trigger == "push" else self.trigger
        undone = _rollback_in_effect(standing)
        # A commit that comes back (force push, or a push after a rollback) is asked for anew, once.
        again = f"after {standing.last_number}" if earlier is not None else ""
        request = DeploymentRequest(
            project=project.id,
            environment=project.environment,
            branch=project.branch,
            commit=self.push.after,
            request_key=request_key(self.push.ref, self.push.after, project.environment, again),
            trigger=trigger,
            note=f"Undoes the rollback {undone.id}." if undone is not None else "",
            pull_request=merged.number if merged is not None else None,
            delivery_id=self.delivery_id or None,
            after_number=standing.last_number,
        )
        return _Decided(await _started(self.context, project, request))

    def _say(self, project: Project, outcome: Outcome, reason: str) -> _Decided:
        return _Decided(verdict(project, project.environment, outcome, reason))

    async def _record(self, decided: Sequence[_Decided], before: Mapping[str, DecidedHead]) -> None:
        heads = []
        for each in decided:
            if not each.is_head:
                continue
            known = before.get(each.verdict.project_id)
            is_same = known is not None and known.sha == self.push.after
            head = DecidedHead(
                project_id=each.verdict.project_id,
                branch=self.push.branch or "",
                sha=self.push.after,
                is_settled=each.is_settled,
                seen_at=known.seen_at if known is not None and is_same else (each.asked_at or self.began_at),
                etag=known.etag if known is not None and is_same else None,
            )
            if head != known:
                heads.append(head)
        if heads:
            await self.context.branches.decided(heads)


@dataclass(frozen=True)
class _PlaceInBranch:
    newer: str | None = None
    """What was asked for already and comes after the pushed commit."""
    is_certain: bool = True


@dataclass(frozen=True)
class _Answer:
    is_so: bool
    is_certain: bool = True


@dataclass
class _ReleaseDecision:
    context: Context
    release: PublishedRelease
    delivery_id: str

    async def decide(self, wanted: Sequence[Project]) -> Sequence[Verdict]:
        place = push_rules.RELEASE_ENVIRONMENT
        self.questions = Questions(
            self.context.github, await _places(self.context, self.release.repository, wanted), PATIENCE
        )
        try:
            sha = await self.questions.tag(self.release.tag)
        except BranchNotFound:
            return [verdict(project, place, Outcome.IGNORED, "no_such_tag") for project in wanted]
        if sha is None:
            raise Unavailable(
                f"GitHub cannot be asked now which commit the tag {self.release.tag[:80]!r} names.",
                retry_after=timedelta(seconds=30),
            )
        standings = await _standings(self.context, wanted, lambda _: place)
        return [await self._consider(project, sha, standings[project.id]) for project in wanted]

    async def _consider(self, project: Project, sha: str, standing: Standing) -> Verdict:
        place = push_rules.RELEASE_ENVIRONMENT
        for _ in range(TRIES):
            try:
                return await self._decide(project, sha, standing)
            except Overtaken:
                standing = (await _standings(self.context, [project], lambda _: place))[project.id]
        return verdict(project, place, Outcome.WAITING, "many deployments are requested now")

    async def _decide(self, project: Project, sha: str, standing: Standing) -> Verdict:
        place, newest = push_rules.RELEASE_ENVIRONMENT, standing.newest
        if newest is not None and newest.commit_sha == sha:
            return _repeated(project, newest)
        key = request_key(f"refs/tags/{self.release.tag}", sha, place)
        earlier = await self.context.deployments.by_request(deployments.scoped_key(project.id, key) or "")
        if earlier is not None:
            return _repeated(project, earlier)
        if newest is not None and newest.commit_sha is not None:
            compared = await self.questions.compare(newest.commit_sha, sha)
            if compared is not None and compared.lineage is Lineage.BEHIND:
                return verdict(project, place, Outcome.IGNORED, f"superseded by {newest.commit_sha[:7]}")
        if project.rules.wait_for_checks:
            found = await self.questions.checks(sha, without=OUR_CONTEXTS)
            if found is Checks.FAILED:
                return verdict(project, place, Outcome.IGNORED, push_rules.CHECKS_FAILED)
            if found is not Checks.PASSED:
                return verdict(project, place, Outcome.WAITING, "waiting for the commit's checks")
        undone = _rollback_in_effect(standing)
        request = DeploymentRequest(
            project=project.id,
            environment=place,
            branch=project.branch,
            commit=sha,
            request_key=key,
            trigger="release",
            note=" ".join(
                [f"Release {self.release.tag}.", *([f"Undoes the rollback {undone.id}."] if undone is not None else [])]
            ),
            delivery_id=self.delivery_id or None,
            after_number=standing.last_number,
        )
        return await _started(self.context, project, request)


def request_key(ref: str, sha: str, environment: str, again: str = "") -> str:
    """Names what was asked for within a project, whoever brought the news. `again` tells a commit that came back
    from its first time."""
    return "push " + hashlib.sha256("\n".join((ref, sha, environment, again)).encode()).hexdigest()


async def _started(context: Context, project: Project, request: DeploymentRequest) -> Verdict:
    label = "klepaas" if request.trigger == BY_WATCHING else "webhook"
    actor = Actor(owner_id=project.owner_id, scope=Scope.DEPLOY, label=label)
    submission = await deployments.start(context, actor, request)
    made = submission.deployment
    if not submission.is_new:
        return _repeated(project, made)
    why = f"pull request #{request.pull_request} was merged" if request.pull_request else f"by {request.trigger}"
    return Verdict(
        project_id=project.id,
        environment=made.environment,
        outcome=Outcome.DEPLOYED,
        reason=f"{why}; {request.note}" if request.note else why,
        deployment_id=made.id,
        deployment_number=made.number,
    )


def _repeated(project: Project, deployment: Deployment) -> Verdict:
    return Verdict(
        project_id=project.id,
        environment=deployment.environment,
        outcome=Outcome.REPEATED,
        reason="this commit was asked for before",
        deployment_id=deployment.id,
        deployment_number=deployment.number,
    )


def _rollback_in_effect(standing: Standing) -> Deployment | None:
    """The rollback a deployment would undo now."""
    both = (standing.active, standing.live)
    return next((each for each in both if each is not None and each.is_rollback), None)


async def _standings(
    context: Context, projects: Sequence[Project], environment: Callable[[Project], str]
) -> Mapping[str, Standing]:
    keys = {project.id: f"{project.id}/{environment(project)}" for project in projects}
    found = await context.deployments.standings(list(keys.values()))
    return {project_id: found.get(key, Standing()) for project_id, key in keys.items()}


async def _places(context: Context, repository: RepositoryName, projects: Sequence[Project]) -> Sequence[Place]:
    """Ways to ask GitHub about the repository; as a stranger when no project has a connection to GitHub."""
    chosen = sorted(projects, key=lambda project: not project.auto_deploy)
    ids = list(dict.fromkeys(project.connection_id for project in chosen if project.connection_id))[:WAYS_TO_ASK]
    found = [connection for each in ids if (connection := await context.connections.get(each)) is not None]
    usable = [each for each in found if each.kind in {ConnectionKind.GITHUB_APP, ConnectionKind.GITHUB_TOKEN}]
    return [_place(repository, connection) for connection in usable] or [_place(repository, None)]


def _place(repository: RepositoryName, connection: Connection | None) -> Place:
    return Place(owner=repository.owner, name=repository.name, connection=connection)


def _key_of(repository: RepositoryName) -> str:
    return str(repository.repository_id or repository.full_name.lower())
