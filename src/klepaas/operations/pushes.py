"""What a push or a published release means for each project of its repository.

Everything is decided on what is true now, never on the order in which messages came: a message may be late, repeated
or lost. What was decided without GitHub's word is marked (`is_settled`), and the branch watcher decides it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from klepaas.domain import push_rules
from klepaas.domain.deployment import Deployment
from klepaas.domain.github import ZERO_SHA, Checks, PublishedRelease, PullRequest, Push, RepositoryName
from klepaas.domain.project import Project
from klepaas.domain.push_rules import verdict
from klepaas.domain.repository import SourceKind
from klepaas.domain.trigger_rule import AfterRollback, PushPolicy
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.errors import KlepaasError, Unavailable
from klepaas.operations.automatic import (
    BY_WATCHING,
    OUR_CONTEXTS,
    OUR_TRIGGERS,
    PATIENCE,
    TOO_MANY,
    TRIES,
    WATCHERS_PATIENCE,
    repeated,
    request_key,
    rollback_in_effect,
    standings,
    started,
    ways_to_ask,
)
from klepaas.operations.context import Context
from klepaas.operations.deployments import DeploymentRequest
from klepaas.operations.line_of_commits import LineOfCommits, repository_key
from klepaas.operations.ports.branches import DecidedHead
from klepaas.operations.ports.deployments import Overtaken, Standing
from klepaas.operations.ports.projects import AsOf
from klepaas.operations.published import ReleaseDecision
from klepaas.operations.questions import Questions

log = structlog.get_logger()

ORDER_SHOWS_WITHIN = timedelta(minutes=2)
"""A push waits so long for GitHub's word when another one may be newer; a slow answer is the usual reason."""
CHECKS_APPEAR_WITHIN = timedelta(seconds=30)
"""Checks of a new commit take a moment to be there at all. A guess: GitHub's own start within seconds."""


async def decide_push(context: Context, push: Push, *, delivery_id: str, trigger: str = "push") -> Sequence[Verdict]:
    """One verdict for each project of the repository; none when nobody registered it.

    Errors: Unavailable when our own memory is away; never because GitHub is."""
    projects = await projects_of(context, push.repository)
    found = {project.id: _not_its_branch(project) for project in projects}
    about = [project for project in projects if push_rules.is_about(project, push)]
    if about:
        for each in await _PushDecision(context, push, delivery_id, trigger).decide(about):
            found[each.verdict.project_id] = each.verdict
    return list(found.values())


@dataclass(frozen=True)
class Refusal:
    verdicts: Sequence[Verdict]
    as_of: AsOf | None


async def refused_by_rule(context: Context, push: Push) -> Refusal | None:
    """What `decide_push` would say when the push is about none of the projects, and nothing new is said of them; else
    None. Errors: Unavailable when our own memory is away."""
    recalled = await context.projects.recall(push.repository)
    told = _may_be_told(recalled.projects, push.repository)
    for project in told:
        if push_rules.is_about(project, push) or _as_named(project, push.repository) is not project:
            return None
    return Refusal([_not_its_branch(project) for project in told], recalled.as_of)


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
        for each in await ReleaseDecision(context, release, delivery_id).decide(wanted):
            found[each.project_id] = each
    return [found[project.id] for project in projects]


async def projects_of(context: Context, repository: RepositoryName) -> Sequence[Project]:
    """The projects of this repository, as it is called now."""
    found = _may_be_told(await context.projects.of_repository(repository), repository)
    current = [_as_named(project, repository) for project in found]
    changed = [now for now, before in zip(current, found, strict=True) if now is not before]
    if changed:
        await context.projects.learn(changed)
    return current


def _may_be_told(projects: Sequence[Project], repository: RepositoryName) -> Sequence[Project]:
    """What happens in a private repository is for those who have a connection to it. Anybody can write its name."""
    return [project for project in projects if project.connection_id or not repository.is_private]


def _not_its_branch(project: Project) -> Verdict:
    return verdict(project, project.environment, Outcome.IGNORED, push_rules.NOT_MAIN_BRANCH)


def _as_named(project: Project, repository: RepositoryName) -> Project:
    """The project with what the message says of its repository: its ids, and its name after a rename."""
    known = project.repository
    repository_id = project.github_repository_id or repository.repository_id
    installation_id = project.github_installation_id or repository.installation_id
    if known.kind is SourceKind.GITHUB and (known.owner, known.name) != (repository.owner, repository.name):
        before = f"{known.owner}/{known.name}.git"
        location = known.location.removesuffix(before) + f"{repository.full_name}.git"
        known = replace(known, owner=repository.owner, name=repository.name, location=location)
    elif (project.github_repository_id, project.github_installation_id) == (repository_id, installation_id):
        return project
    return replace(
        project, repository=known, github_repository_id=repository_id, github_installation_id=installation_id
    )


@dataclass(frozen=True, kw_only=True)
class _Merge:
    """Whether the commit came by a merged pull request."""

    is_merge: bool
    pull_request: PullRequest | None = None
    is_certain: bool = True


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is known of one project's app before GitHub is asked."""

    standing: Standing
    head: DecidedHead | None
    earlier: Deployment | None
    """The newest deployment of the pushed commit that is not a rollback."""
    was_head_asked_for: bool

    @property
    def asked_for(self) -> set[str]:
        """The newest commits that were asked for: what runs or is about to, and the branch's head even when its
        deployment failed. A head that was not to be deployed is no reason to leave one before it out."""
        newest, head = self.standing.newest, self.head
        found = {newest.commit_sha} if newest is not None and newest.commit_sha is not None else set()
        return {*found, head.sha} if head is not None and self.was_head_asked_for else found


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
            await ways_to_ask(self.context, push.repository, about),
            WATCHERS_PATIENCE if self.is_watching else PATIENCE,
        )
        self.line = LineOfCommits(self.context, push, self.questions)
        if not self.is_watching and push.before not in {"", ZERO_SHA}:
            await self.context.branches.move(repository_key(push.repository), push.ref, push.before, push.after)
        self.merge = await self._merge(about)
        self.heads = await self.context.branches.heads([project.id for project in about], push.branch or "")
        decided = {project.id: refusal for project in about if (refusal := self._refusal(project)) is not None}
        candidates = [project for project in about if project.id not in decided]
        known = await self._known(candidates)
        for project in candidates:
            decided[project.id] = await self._consider(project, known[project.id])
        await self._record(list(decided.values()))
        return list(decided.values())

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
            refused = self._say(project, Outcome.IGNORED, push_rules.NOT_A_MERGE)
            refused = replace(refused, is_settled=self.merge.is_certain)
        elif not project.auto_deploy:
            refused = self._say(project, Outcome.SKIPPED, push_rules.AUTO_DEPLOY_OFF)
        elif push_rules.asks_for_no_deployment(self.push.message):
            refused = self._say(project, Outcome.SKIPPED, push_rules.SKIP_ASKED)
        else:
            return None
        # Nobody was asked where the branch is: it takes the place of a head only where it visibly follows it.
        head = self.heads.get(project.id)
        follows = head is None or head.sha in {self.push.before, self.push.after}
        return replace(refused, is_head=self.is_watching or follows)

    async def _known(self, projects: Sequence[Project]) -> Mapping[str, _Known]:
        """By project id. The standings come first: whatever is asked for after them is noticed when starting."""
        keys = {project.id: f"{project.id}/{project.environment}" for project in projects}
        found = await standings(self.context, list(keys.values()))
        shas = {self.push.after} | {head.sha for head in self.heads.values()}
        asked = await self.context.deployments.of_commits(list(keys.values()), shas) if keys else {}
        known = {}
        for project_id, key in keys.items():
            head = self.heads.get(project_id)
            known[project_id] = _Known(
                standing=found[key],
                head=head,
                earlier=asked.get((key, self.push.after)),
                was_head_asked_for=head is not None and (key, head.sha) in asked,
            )
        return known

    async def _consider(self, project: Project, known: _Known) -> _Decided:
        for _ in range(TRIES):
            try:
                return await self._decide(project, known)
            except Overtaken:
                known = (await self._known([project]))[project.id]
                self.questions.forget_heads()  # only one asked for after the standing was read can be trusted
            except Unavailable:
                raise
            except KlepaasError as refused:  # e.g. the project was retired in this moment; the others go on
                log.warning("push_not_decided", project=project.id, reason=refused.message)
                return replace(self._say(project, Outcome.IGNORED, refused.message), is_settled=False)
        return replace(self._say(project, Outcome.WAITING, TOO_MANY), is_settled=False)

    async def _decide(self, project: Project, known: _Known) -> _Decided:
        newest, earlier = known.standing.newest, known.earlier
        if newest is not None and newest.commit_sha == self.push.after:
            return _Decided(repeated(project, newest), asked_at=newest.created_at)
        if earlier is not None and self._led_to(earlier, known.head):
            return _Decided(repeated(project, earlier), asked_at=earlier.created_at)
        newer = await self.line.newer(known.asked_for - {self.push.after}, is_new=earlier is None)
        if newer.sha is not None and earlier is not None:
            return _Decided(repeated(project, earlier), is_head=False)
        if newer.sha is not None:
            said = self._say(project, Outcome.IGNORED, f"superseded by {newer.sha[:7]}")
            return replace(said, is_head=False)
        if newer.in_doubt is not None and not await self._waited_enough():
            reason = f"GitHub does not say now whether it comes after {newer.in_doubt[:7]}"
            return replace(self._say(project, Outcome.WAITING, reason), is_settled=False, is_head=False)
        return await self._refused_for_now(project, known) or await self._start(project, known)

    def _led_to(self, earlier: Deployment, head: DecidedHead | None) -> bool:
        """Whether the commit was asked for since the branch came to the head we know of, and not an earlier time.

        That head may be another commit: somebody asked, and went away before it was written down."""
        if head is None:
            return earlier.trigger in OUR_TRIGGERS
        return earlier.created_at >= head.seen_at

    async def _waited_enough(self) -> bool:
        """For GitHub to say in which order commits came. Without its word a deployment is better than none."""
        told = await self.context.deliveries.get(self.delivery_id) if self.delivery_id else None
        return told is None or self.began_at - told.received_at >= ORDER_SHOWS_WITHIN

    async def _refused_for_now(self, project: Project, known: _Known) -> _Decided | None:
        rules, newest = project.rules, known.standing.newest
        if rules.paths and newest is not None and newest.commit_sha is not None:
            touched = await self.line.touches(rules.paths, newest.commit_sha)
            if not touched.is_so:
                said = self._say(project, Outcome.IGNORED, push_rules.NO_PATH_CHANGED)
                return replace(said, is_settled=touched.is_certain)
        if rules.after_rollback is AfterRollback.HOLD and newest is not None and newest.is_rollback:
            return self._say(project, Outcome.SKIPPED, push_rules.HELD)
        return await self._checks(project, known.head) if rules.wait_for_checks else None

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

    async def _start(self, project: Project, known: _Known) -> _Decided:
        is_merge, merged = self.merge.is_merge, self.merge.pull_request
        trigger = "merge" if is_merge and self.trigger == "push" else self.trigger
        undone = rollback_in_effect(known.standing)
        # A commit that comes back (force push, or a push after a rollback) is asked for anew, once.
        again = f"after {known.standing.last_number}" if known.earlier is not None else ""
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
            after_number=known.standing.last_number,
        )
        return _Decided(await started(self.context, project, request))

    def _say(self, project: Project, outcome: Outcome, reason: str) -> _Decided:
        return _Decided(verdict(project, project.environment, outcome, reason))

    async def _record(self, decided: Sequence[_Decided]) -> None:
        heads = []
        for each in decided:
            if not each.is_head:
                continue
            known = self.heads.get(each.verdict.project_id)
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
