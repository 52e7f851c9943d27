"""Go back to an earlier release: what is possible, what it would change, and doing it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.events import DeploymentQueued
from klepaas.domain.observation import Health
from klepaas.domain.project import App, Project, parse_name
from klepaas.domain.release import Release
from klepaas.domain.repository import parse_commit
from klepaas.domain.status import Stage
from klepaas.errors import (
    AuthenticationFailed,
    Conflict,
    ImageMissing,
    Invalid,
    NotFound,
    Outside,
    PermissionMissing,
    Unavailable,
)
from klepaas.operations import connections, deployments, projects, rollback_lines
from klepaas.operations.context import Context
from klepaas.operations.deployments import Accepted
from klepaas.operations.ports.apps import AppState
from klepaas.operations.ports.deployments import Submission
from klepaas.targets.protocol import KeepsWarm

ROLLED_BACK_SETTINGS = (
    "port",
    "health_path",
    "health_timeout_s",
    "memory_bytes",
    "cpus",
    "pids",
    "drain_timeout_s",
)
"""Settings that belong to the release and go back with it. All others belong to the project and stay."""


class Way(StrEnum):
    WARM = "warm"
    """The release is frozen on its target: milliseconds."""
    IMAGE = "image"
    """Its image is there: a new container, no build."""
    REBUILD = "rebuild"
    """The image is gone, the commit can still be fetched: built again."""
    NONE = "none"
    """Neither image nor commit can be had."""
    UNKNOWN = "unknown"
    """Nobody can say now whether image or commit are there."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A release one can look back to. `steps_back` 0 is the live one."""

    steps_back: int
    release: Release
    is_current: bool
    way: Way


@dataclass(frozen=True, kw_only=True)
class RollbackRequest:
    """Either `steps_back` (1 is the previous release) or `commit` (a SHA or a prefix of 7 digits and more)."""

    project: str
    environment: str | None = None
    steps_back: int | None = None
    commit: str | None = None
    request_key: str | None = None
    trigger: str = "manual"


@dataclass(frozen=True, kw_only=True)
class RollbackPlan:
    """What a rollback would do. `goes_back` maps a setting to its values (now, then); `stays` names the rest.

    Variables appear by name only: `added`, `removed`, `changed` (their values differ in some way)."""

    project: Project
    app: App
    candidate: Candidate
    current: Release | None
    live_deployment_id: str | None
    goes_back: Mapping[str, tuple[Any, Any]]
    stays: Sequence[str]
    variables_added: Sequence[str]
    variables_removed: Sequence[str]
    variables_differ: bool


async def candidates(
    context: Context, actor: Actor, reference: str, environment: str | None = None, limit: int = 20
) -> Sequence[Candidate]:
    """Releases that were live, newest first; each says how it could be had back."""
    project = await projects.find(context, actor, reference)
    state = await context.apps.get(project.id, environment or project.environment)
    if state is None:
        return []
    found = await history_of(context, state)
    return [
        Candidate(steps_back=n, release=r, is_current=n == 0, way=await way_back(context, project, state, r))
        for n, r in found[:limit]
    ]


async def history_of(context: Context, state: AppState) -> list[tuple[int, Release]]:
    """The live release as step 0, then the earlier proven ones, newest first, each commit and image once.

    When a rollback is live, "previous" means what was released before the release that is live now."""
    proven = await context.releases.of_app(state.app.project_id, state.app.environment)
    live = next((r for r in proven if r.id == state.live_release_id), None)
    older = [r for r in proven if live is None or r.number < live.number]
    newer = [r for r in proven if live is not None and r.number > live.number]
    steps = [(0, live)] if live else []
    steps += [(n, r) for n, r in enumerate(older, start=1)]
    return [*steps, *((-n, r) for n, r in enumerate(reversed(newer), start=1))]


async def way_back(context: Context, project: Project, state: AppState, release: Release) -> Way:
    """How a release could be had back now; UNKNOWN also where we may not look."""
    try:
        return await _asked_way(context, project, state, release)
    except (AuthenticationFailed, PermissionMissing):
        return Way.UNKNOWN


async def plan(context: Context, actor: Actor, request: RollbackRequest) -> RollbackPlan:
    """Find the release and say what going back to it changes. Nothing is touched.

    Errors: NotFound (no such release; names what there is), Conflict (it is live already), Invalid (ambiguous
    prefix), ImageMissing (neither image nor commit can be had; names the alternatives)."""
    actor.require(Scope.DEPLOY)
    project = await projects.find(context, actor, request.project)
    return await _plan(context, project, await _chosen(context, project, request))


@dataclass(frozen=True)
class _Chosen:
    """The release that is meant, among those there are."""

    state: AppState
    history: list[tuple[int, Release]]
    steps_back: int
    release: Release


async def _chosen(context: Context, project: Project, request: RollbackRequest) -> _Chosen:
    if (request.steps_back is None) == (request.commit is None):
        raise Invalid("Say how far to go back: a number of releases or a commit.", hint="klepaas rollback PROJECT 1")
    environment = parse_name(request.environment, "environment") if request.environment else project.environment
    state = await context.apps.get(project.id, environment)
    history = await history_of(context, state) if state else []
    if state is None or not history:
        rollback_lines.found_nothing(project.repository.display)
        raise NotFound(
            f"{project.name} has no successful deployment in {environment}; there is nothing to go back to.",
            hint=f"Deploy it first: klepaas deploy {project.name}",
        )
    return _Chosen(state, history, *_choose(history, request, project))


async def _plan(context: Context, project: Project, chosen: _Chosen) -> RollbackPlan:
    state, history, release = chosen.state, chosen.history, chosen.release
    way = await _asked_way(context, project, state, release)
    if way in {Way.NONE, Way.UNKNOWN}:
        await _refuse(context, project, state, history, release, way)
    current = next((r for n, r in history if n == 0), None)
    before, after = set(current.variable_names if current else ()), set(release.variable_names)
    return RollbackPlan(
        project=project,
        app=state.app,
        candidate=Candidate(steps_back=chosen.steps_back, release=release, is_current=False, way=way),
        current=current,
        live_deployment_id=state.live_deployment_id,
        goes_back=_differences(current, release),
        stays=[name for name in type(project.settings).model_fields if name not in ROLLED_BACK_SETTINGS],
        variables_added=sorted(after - before),
        variables_removed=sorted(before - after),
        variables_differ=current is not None and current.environment_digest != release.environment_digest,
    )


async def roll_back(context: Context, actor: Actor, request: RollbackRequest) -> Accepted:
    """Queue the deployment of an earlier release. Errors as in `plan`; what cannot work touches nothing."""
    actor.require(Scope.DEPLOY)
    project = await projects.find(context, actor, request.project)
    deployments.require_target(context, project)
    key = deployments.scoped_key(project.id, request.request_key)
    if key is not None and (earlier := await context.deployments.by_request(key)):
        return Accepted(submission=Submission(deployment=earlier, is_new=False), project=project)
    if request.steps_back is not None:
        rollback_lines.asked_for_earlier(project, request.steps_back)
    chosen = await _chosen(context, project, request)
    first = await context.deployments.get(chosen.release.deployment_id)
    deployed_at = first.deployed_at if first else None
    if request.steps_back is not None:
        rollback_lines.found_earlier(project, len(chosen.history), chosen.release, deployed_at)
    rollback_lines.found(project, chosen.release, deployed_at)
    agreed = await _plan(context, project, chosen)
    release, rebuild = agreed.candidate.release, agreed.candidate.way is Way.REBUILD
    event = DeploymentQueued(
        project_id=project.id,
        environment=agreed.app.environment,
        branch=project.branch,
        commit_sha=release.commit_sha,
        commit_message=first.commit_message if first else "",
        commit_author=first.commit_author if first else "",
        rebuild=rebuild,
        trigger=request.trigger,
        actor=actor.label,
        first_step=Stage.FETCH if rebuild else Stage.RELEASE,
        rollback_of=agreed.live_deployment_id or release.deployment_id,
        settings_of=release.id if rebuild else None,
        release_id=None if rebuild else release.id,
        image_digest=None if rebuild else release.image_digest,
        note="The image was gone; the commit is built again." if rebuild else "",
    )
    target = context.target_of(project.target)
    is_next = agreed.candidate.way is Way.WARM and not await context.deployments.is_in_hand(agreed.app.key)
    if is_next and isinstance(target, KeepsWarm):
        # While the deployment is recorded and taken on: thawing is half of a warm rollback's time. Not while another
        # deployment is in hand, which may take minutes: the old version would run beside the live one meanwhile.
        target.thaw_ahead(agreed.app, release)
    return Accepted(submission=await deployments.submit(context, event, key), project=project)


def _choose(history: list[tuple[int, Release]], request: RollbackRequest, project: Project) -> tuple[int, Release]:
    if request.steps_back is not None:
        for steps_back, release in history:
            if steps_back == request.steps_back and steps_back > 0:
                return steps_back, release
        possible = [n for n, _ in history if n > 0]
        raise NotFound(
            f"{project.name} has no release {request.steps_back} back.",
            hint=f"It has {len(possible)} earlier ones: klepaas rollback {project.name} --candidates",
        )
    prefix = parse_commit(request.commit or "")
    matches = [(n, r) for n, r in history if r.commit_sha.startswith(prefix)]
    commits = sorted({r.commit_sha for _, r in matches})
    if len(commits) > 1:
        raise Invalid(
            f"{prefix} is ambiguous. It could be: {', '.join(commits)}.",
            hint="Give more digits.",
            evidence={"matches": commits},
        )
    if not matches:
        raise NotFound(
            f"No successful deployment found for commit {prefix[:7]}. Cannot rollback to undeployed commit.",
            hint=f"See what there is: klepaas rollback {project.name} --candidates",
        )
    others = [match for match in matches if match[0] != 0]
    if not others:
        raise Conflict(f"Commit {prefix[:7]} is live already.", hint="There is nothing to roll back.")
    return others[0]


async def _asked_way(context: Context, project: Project, state: AppState, release: Release) -> Way:
    """Errors: AuthenticationFailed, PermissionMissing: an image that we may not see is not a missing one."""
    target = context.target_of(project.target)
    if state.warm_release_id == release.id:
        seen = await target.observe(state.app, release)
        if seen.health in {Health.PARKED, Health.HEALTHY, Health.STARTING}:
            return Way.WARM
    try:
        builder = context.builder_of(project.target)
        if await builder.inspect(release.image_digest, ref=release.image_ref) is not None:
            return Way.IMAGE
    except (AuthenticationFailed, PermissionMissing):
        raise
    except Outside:
        return Way.UNKNOWN
    try:
        credential = await connections.opened(context, project.connection_id, project.repository)
        can_fetch = await context.source.has(
            project.repository, branch=project.branch, commit=release.commit_sha, credential=credential
        )
        return Way.REBUILD if can_fetch else Way.NONE
    except Unavailable:
        return Way.UNKNOWN
    except Outside:
        return Way.NONE


async def _refuse(
    context: Context,
    project: Project,
    state: AppState,
    history: list[tuple[int, Release]],
    release: Release,
    way: Way,
) -> None:
    ways = [(n, r, await way_back(context, project, state, r)) for n, r in history if n > 0 and r.id != release.id]
    possible = [f"{n} back ({r.commit_sha[:7]}, {w})" for n, r, w in ways if w not in {Way.NONE, Way.UNKNOWN}]
    alternatives = f"Possible instead: {', '.join(possible)}." if possible else "No other release can be had back."
    evidence = {"commit_sha": release.commit_sha, "image_digest": release.image_digest, "alternatives": possible}
    if way is Way.UNKNOWN:
        raise Unavailable(
            f"Nobody can say now whether release {release.number} can be had back.",
            hint=alternatives,
            evidence=evidence,
        )
    raise ImageMissing(
        f"The image of release {release.number} ({release.commit_sha[:7]}) is gone and its commit cannot be fetched "
        "any more. Nothing was touched.",
        hint=alternatives,
        evidence=evidence,
    )


def _differences(current: Release | None, release: Release) -> dict[str, tuple[Any, Any]]:
    if current is None:
        return {}
    now, then = current.settings.model_dump(), release.settings.model_dump()
    return {name: (now[name], then[name]) for name in ROLLED_BACK_SETTINGS if now[name] != then[name]}
