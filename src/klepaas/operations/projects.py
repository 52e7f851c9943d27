"""Register, configure and retire projects, and set their environment variables."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.project import Project, ProjectSettings, parse_name, parse_variable
from klepaas.domain.repository import Repository, SourceKind, parse_branch, parse_repository
from klepaas.errors import Conflict, Invalid, NotAllowed, NotFound
from klepaas.operations import connections
from klepaas.operations.context import Context
from klepaas.targets.protocol import ShiftsTraffic

MAX_VARIABLE_BYTES = 64 * 1024
MAX_VARIABLES = 500


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a caller may say about a new project. Only the repository is needed."""

    repository: str
    name: str | None = None
    branch: str = "main"
    environment: str = "production"
    target: str = "local"
    settings: Mapping[str, Any] | None = None
    connection_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProjectChange:
    """Fields that are None stay as they are; `settings` holds only the settings to change.

    `connection_id` is an id or a name, in a registration too; an empty one takes the connection away."""

    repository: str | None = None
    branch: str | None = None
    settings: Mapping[str, Any] | None = None
    connection_id: str | None = None


async def register(context: Context, actor: Actor, wanted: Registration) -> Project:
    """Make a project. Errors: Invalid, Conflict for a taken name, NotAllowed."""
    actor.require(Scope.ADMIN)
    repository = _repository(context, actor, wanted.repository)
    name = parse_name(wanted.name if wanted.name is not None else _name_from(repository))
    if wanted.target not in context.targets:
        raise Invalid(
            f"There is no target {wanted.target!r} here.", hint=f"Choose one of: {', '.join(sorted(context.targets))}."
        )
    if await context.projects.named(name, actor.owner_id):
        raise Conflict(f"You already have a project named {name}.", hint="Choose another name with --name.")
    connection_id = await _connection(context, actor, wanted.connection_id, actor.owner_id, repository)
    now = context.clock.now()
    project = Project(
        id="prj_" + secrets.token_hex(8),
        number=0,
        owner_id=actor.owner_id,
        name=name,
        repository=repository,
        branch=parse_branch(wanted.branch),
        environment=parse_name(wanted.environment, "environment"),
        target=wanted.target,
        settings=_settings({}, wanted.settings or {}),
        auto_deploy=False,
        connection_id=connection_id,
        created_at=now,
        updated_at=now,
    )
    return await context.projects.add(project)


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
            changed = replace(changed, repository=repository, connection_id=None)
    if change.branch is not None:
        changed = replace(changed, branch=parse_branch(change.branch))
    if change.settings is not None:
        changed = replace(changed, settings=_settings(project.settings.chosen(), change.settings))
    if change.connection_id is not None:
        connection_id = await _connection(context, actor, change.connection_id, project.owner_id, changed.repository)
        changed = replace(changed, connection_id=connection_id)
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
    target = context.targets[project.target]
    for state in [s for s in await context.apps.all() if s.app.project_id == project.id]:
        if isinstance(target, ShiftsTraffic):
            await target.close(state.app)
        for release_id in await target.running(state.app):
            release = await context.releases.get(release_id)
            if release is not None:
                await target.remove(state.app, release)
    return project


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
    return repository


async def _connection(
    context: Context, actor: Actor, reference: str | None, owner_id: str, repository: Repository
) -> str | None:
    if not reference:
        return None
    return (await connections.for_project(context, actor, reference, owner_id=owner_id, repository=repository)).id


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
