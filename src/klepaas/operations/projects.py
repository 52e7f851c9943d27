"""Register, configure and retire projects, and set their environment variables."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.connection import Connection
from klepaas.domain.project import App, Project, ProjectSettings, parse_name, parse_variable
from klepaas.domain.repository import Repository, SourceKind, parse_branch, parse_repository
from klepaas.domain.trigger_rule import TriggerRule
from klepaas.errors import Conflict, Invalid, NotAllowed, NotFound, Outside
from klepaas.operations import connections
from klepaas.operations.context import Context
from klepaas.operations.places import place_of
from klepaas.targets.protocol import ShiftsTraffic

MAX_VARIABLE_BYTES = 64 * 1024
MAX_VARIABLES = 500
LEARN_WITHIN_S = 5.0
"""How long a registration waits for what GitHub says of the repository."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a caller may say about a new project. Only the repository is needed."""

    repository: str
    name: str | None = None
    branch: str | None = None
    """None: the branch the operator chose for all, else `main`."""
    environment: str = "production"
    target: str = "local"
    settings: Mapping[str, Any] | None = None
    connection_id: str | None = None
    auto_deploy: bool = False
    rules: Mapping[str, Any] | None = None
    """As in `domain.trigger_rule`; what is not named is as usual."""


@dataclass(frozen=True, kw_only=True)
class ProjectChange:
    """Fields that are None stay as they are; `settings` and `rules` hold only what is to change.

    `connection_id` is an id or a name, in a registration too; an empty one takes the connection away."""

    repository: str | None = None
    branch: str | None = None
    settings: Mapping[str, Any] | None = None
    connection_id: str | None = None
    auto_deploy: bool | None = None
    rules: Mapping[str, Any] | None = None


async def register(context: Context, actor: Actor, wanted: Registration) -> Project:
    """Make a project. Errors: Invalid, Conflict for a taken name, NotAllowed."""
    actor.require(Scope.ADMIN)
    repository = _repository(context, actor, wanted.repository)
    name = parse_name(wanted.name if wanted.name is not None else _name_from(repository))
    if wanted.target not in context.targets:
        refusal = context.absent(wanted.target[:40]).refusal
        raise Invalid(refusal.message, hint=refusal.hint)
    if await context.projects.named(name, actor.owner_id):
        raise Conflict(f"You already have a project named {name}.", hint="Choose another name with --name.")
    connection = await _connection(context, actor, wanted.connection_id, actor.owner_id, repository)
    _check_automatic(repository, wanted.auto_deploy)
    now = context.clock.now()
    project = Project(
        id="prj_" + secrets.token_hex(8),
        number=0,
        owner_id=actor.owner_id,
        name=name,
        repository=repository,
        branch=parse_branch(wanted.branch if wanted.branch is not None else context.main_branch),
        environment=parse_name(wanted.environment, "environment"),
        target=wanted.target,
        settings=_settings({}, wanted.settings or {}),
        auto_deploy=wanted.auto_deploy,
        rules=_rules({}, wanted.rules or {}),
        connection_id=None if connection is None else connection.id,
        github_installation_id=None if connection is None else connection.installation_id,
        created_at=now,
        updated_at=now,
    )
    return await context.projects.add(await _learnt(context, project, connection))


async def configure(context: Context, actor: Actor, reference: str, change: ProjectChange) -> Project:
    """Change a project; what runs stays as it is until the next deployment.

    Another repository drops the connection unless a new one is named with it: a credential for one place is
    never sent to another."""
    actor.require(Scope.ADMIN)
    project = await find(context, actor, reference)
    changed = project
    if change.repository is not None:
        repository = _repository(context, actor, change.repository)
        if repository != project.repository:
            changed = replace(
                changed,
                repository=repository,
                connection_id=None,
                github_repository_id=None,
                github_installation_id=None,
            )
    if change.branch is not None:
        changed = replace(changed, branch=parse_branch(change.branch))
    if change.settings is not None:
        changed = replace(changed, settings=_settings(project.settings.chosen(), change.settings))
    if change.connection_id is not None:
        connection = await _connection(context, actor, change.connection_id, project.owner_id, changed.repository)
        changed = replace(
            changed,
            connection_id=None if connection is None else connection.id,
            github_installation_id=None if connection is None else connection.installation_id,
        )
        changed = await _learnt(context, changed, connection)
    if change.rules is not None:
        changed = replace(changed, rules=_rules(project.rules.model_dump(mode="json"), change.rules))
    if change.auto_deploy is not None:
        changed = replace(changed, auto_deploy=change.auto_deploy)
    _check_automatic(changed.repository, changed.auto_deploy)
    if changed == project:
        return project
    return await context.projects.change(
        replace(changed, updated_at=context.clock.now()), unchanged_since=project.updated_at
    )


async def retire(context: Context, actor: Actor, reference: str) -> Project:
    """Take a project and everything it runs away; its history stays. Refused while a deployment is under way."""
    actor.require(Scope.ADMIN)
    project = await find(context, actor, reference)
    for deployment in await context.deployments.of_project(project.id, limit=20):
        if not deployment.status.is_terminal:
            raise Conflict(
                f"Deployment {deployment.id} of {project.name} is {deployment.status}.",
                hint=f"Wait for it, or run: klepaas cancel {deployment.id}",
            )
    # Retired first: the reconciler ends whatever runs without a record, also when we are killed right here.
    await context.projects.retire(project.id, context.clock.now())
    try:
        for state in [s for s in await context.apps.all() if s.app.project_id == project.id]:
            await _end(context, project, state.app)
    except Outside as away:
        log.warning("left_to_the_reconciler", project=project.name, reason=away.message)
    return project


async def _end(context: Context, project: Project, app: App) -> None:
    target = context.target_of(project.target)
    if isinstance(target, ShiftsTraffic):
        await target.close(app)
    for release_id in await target.running(app):
        release = await context.releases.get(release_id)
        if release is not None:
            await target.remove(app, release)
    await context.builder_of(project.target).collect(app, keep=())


async def find(context: Context, actor: Actor, reference: str) -> Project:
    """The actor's project by id or name. Somebody else's is not found, as if it did not exist."""
    project = await context.projects.get(reference) if reference.startswith("prj_") else None
    if project is None:
        named = await context.projects.named(reference, actor.owner_id)
        if not named and actor.scope is Scope.OPERATOR:
            named = await context.projects.named(reference, None)
        if len(named) > 1:
            raise Conflict(
                f"Several owners have a project named {reference[:80]}.",
                hint=f"Use its id: {', '.join(p.id for p in named)}.",
            )
        project = named[0] if named else None
    if project is None or not actor.owns(project.owner_id):
        raise NotFound(f"There is no project {reference[:80]!r}.", hint="List yours with: klepaas projects")
    return project


async def list_all(context: Context, actor: Actor) -> Sequence[Project]:
    return await context.projects.list(None if actor.scope is Scope.OPERATOR else actor.owner_id)


async def set_variables(
    context: Context, actor: Actor, reference: str, values: Mapping[str, str | None], environment: str | None = None
) -> Mapping[str, datetime]:
    """Set (or, with None, remove) variables; they apply from the next deployment on. Returns all names."""
    actor.require(Scope.ADMIN)
    project = await find(context, actor, reference)
    place = parse_name(environment, "environment") if environment else project.environment
    for name, value in values.items():
        parse_variable(name)
        if name == "PORT":
            raise Invalid("PORT is given by klepaas.", hint="Set the port of the project instead: --set port=8080")
        if value is not None and ("\0" in value or len(value.encode()) > MAX_VARIABLE_BYTES):
            raise Invalid(f"The value of {name} is too long or holds a zero byte.", hint="The limit is 64 KiB.")
    kept = set(await context.projects.variable_names(project.id, place)) | set(values)
    if len(kept) > MAX_VARIABLES:
        raise Invalid(f"A project may have {MAX_VARIABLES} variables.", hint="Remove some first.")
    await context.projects.set_variables(project.id, place, values, context.clock.now())
    return await context.projects.variable_names(project.id, place)


async def variable_names(
    context: Context, actor: Actor, reference: str, environment: str | None = None
) -> Mapping[str, datetime]:
    """Names and when they were set. Values are never given back."""
    project = await find(context, actor, reference)
    return await context.projects.variable_names(project.id, environment or project.environment)


def _repository(context: Context, actor: Actor, text: str) -> Repository:
    repository = parse_repository(text, github_url=context.github_url)
    if repository.kind is SourceKind.LOCAL:
        if not context.local_repositories:
            raise Invalid(
                "Repositories on this machine's disk are switched off.",
                hint="The operator can allow them with KLEPAAS_LOCAL_REPOSITORIES=true.",
            )
        if actor.scope is not Scope.OPERATOR:
            raise NotAllowed("Only the operator may use a repository on this machine's disk.")
    if repository.scheme == "ssh" and actor.scope is not Scope.OPERATOR:
        # With klepaas' own key, which may open what another owner's project needs it for.
        raise NotAllowed(
            "Only the operator may use a repository over ssh: it is fetched with the key of klepaas itself.",
            hint="Give its https address, and a connection if it is private.",
        )
    return repository


async def _connection(
    context: Context, actor: Actor, reference: str | None, owner_id: str, repository: Repository
) -> Connection | None:
    if not reference:
        return None
    return await connections.for_project(context, actor, reference, owner_id=owner_id, repository=repository)


async def learn(context: Context, project: Project) -> Project:
    """Ask GitHub for the id and present name of a project's repository and remember them; the project as it is then.

    The connection stays with a repository that was renamed: it is the same one by its id. Another one that took the
    old name is not the project's, and is not learnt. When GitHub cannot say, nothing changes."""
    connection = await context.connections.get(project.connection_id) if project.connection_id else None
    learnt = await _learnt(context, project, connection)
    if learnt != project:
        await context.projects.learn([learnt])
    return learnt


async def _learnt(context: Context, project: Project, connection: Connection | None) -> Project:
    """Never in the way: a repository nobody can be asked about stays as it was named."""
    place = place_of(project.repository, connection)
    if place is None or connection is None or not connection.is_github:
        return project
    try:
        async with asyncio.timeout(LEARN_WITHIN_S):
            found = await context.github.repository(place)
    except (Outside, TimeoutError) as away:
        log.info("repository_not_learnt", project=project.name, reason=str(away) or type(away).__name__)
        return project
    if project.github_repository_id not in {None, found.repository_id}:
        log.warning("repository_is_another", project=project.name, repository=found.full_name)
        return project
    if project.repository.kind is not SourceKind.GITHUB:
        return replace(project, github_repository_id=found.repository_id)
    return replace(
        project,
        repository=parse_repository(found.full_name, github_url=context.github_url),
        github_repository_id=found.repository_id,
    )


def _check_automatic(repository: Repository, auto_deploy: bool) -> None:
    if auto_deploy and repository.kind is not SourceKind.GITHUB:
        raise Invalid(
            f"{repository.display} cannot be deployed automatically: only GitHub tells klepaas of pushes.",
            hint="Leave automatic deployment off, or give owner/repo.",
        )


def _rules(current: Mapping[str, Any], changes: Mapping[str, Any]) -> TriggerRule:
    """The current rules with these changes; a change to None makes one as usual again."""
    known = ", ".join(sorted(TriggerRule.model_fields))
    for name in changes:
        if name not in TriggerRule.model_fields:
            raise Invalid(f"There is no rule {name[:80]!r}.", hint=f"Known rules: {known}.")
    try:
        return TriggerRule.model_validate(
            {name: value for name, value in {**current, **changes}.items() if value is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "rules"
        problem = first["msg"].removeprefix("Value error, ")
        raise Invalid(f"The rule {place} is not valid: {problem}.", evidence={"rule": place}) from None


def _settings(current: Mapping[str, Any], changes: Mapping[str, Any]) -> ProjectSettings:
    """The current choices with these changes; a change to None takes a choice back."""
    known = ", ".join(sorted(ProjectSettings.model_fields))
    wanted = {name: value for name, value in {**current, **changes}.items() if value is not None}
    for name in changes:
        if name not in ProjectSettings.model_fields:
            raise Invalid(f"There is no setting {name[:80]!r}.", hint=f"Known settings: {known}.")
    try:
        return ProjectSettings.model_validate(wanted)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "settings"
        raise Invalid(f"The setting {place} is not valid: {first['msg']}.", evidence={"setting": place}) from None


def _name_from(repository: Repository) -> str:
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in repository.name.lower())
    return "-".join(part for part in plain.split("-") if part)[:40].strip("-") or "app"
