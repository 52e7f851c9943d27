"""SourceBuild: projects, what they may be made of, builds and their history."""

# ruff: noqa: N815 - fields are named as they are on the wire

import uuid
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from klepaas.testing.ncp.answers import Answer, done, result
from klepaas.testing.ncp.bodies import Body, Text, read
from klepaas.testing.ncp.build import Build, BuildProject, CreateProject, OfSourceBuild, Settings
from klepaas.testing.ncp.building import carry_out
from klepaas.testing.ncp.clock import milliseconds
from klepaas.testing.ncp.faults import Ending
from klepaas.testing.ncp.routing import Asked, Routes, filtered, newest_first, page
from klepaas.testing.ncp.source_commit import branches
from klepaas.testing.ncp.world import World

INVALID, MISSING, TAKEN, UPLOADING, NO_SOURCE = 320400, 320404, 320405, 320500, 320610
"""Only the last is known from the real service."""

COMPUTES = [{"id": 1, "cpu": 2, "mem": 4}, {"id": 2, "cpu": 4, "mem": 8}]
DOCKERS = [{"id": 1, "name": "Docker:18.09.1"}]
SYSTEMS = [{"id": 1, "name": "ubuntu", "version": "16.04", "archi": "x64"}]
RUNTIMES = [{"id": 1, "name": "base"}]
VERSIONS = [{"id": 1, "name": "16.04-1.0.0"}]


class Cancel(Body):
    buildId: Text


async def _list(asked: Asked) -> Response:
    shown = [project for project in asked.world.build_projects.values() if asked.world.shows(project)]
    found = filtered(asked, shown, lambda project: project.name, "projectName")
    brief = [_brief(project) for project in page(asked, found, INVALID)]
    return result({"total": len(found), "project": brief})


async def _create(asked: Asked) -> Response:
    body = read(CreateProject, asked.body, INVALID)
    world = asked.world
    if any(project.name == body.name for project in world.build_projects.values()):
        raise Answer(400, TAKEN, "duplicated project name", body.name)
    settings = Settings.model_validate(body.model_dump(exclude={"name"}))
    _check(world, settings)
    made = BuildProject(world.next_id("build project"), body.name, settings, world.clock.now(), asked.caller.user)
    world.build_projects[made.id] = made
    return result({"id": made.id, "name": made.name})


async def _show(asked: Asked) -> Response:
    return result(_detail(_project(asked)))


async def _change(asked: Asked) -> Response:
    found = _project(asked)
    if not isinstance(asked.body, dict) or not asked.body:
        raise Answer(400, INVALID, "invalid parameters", "nothing to change")
    settings = read(Settings, {**found.settings.model_dump(mode="json"), **asked.body}, INVALID)
    _check(asked.world, settings)
    found.settings = settings
    return result({"id": found.id, "name": found.name})


async def _delete(asked: Asked) -> Response:
    del asked.world.build_projects[_project(asked).id]
    return done()


async def _start(asked: Asked) -> Response:
    made = start_build(asked.world, _project(asked), user=asked.caller.user)
    return result({"projectId": made.project_id, "buildId": made.id})


async def _cancel(asked: Asked) -> Response:
    found, body = _project(asked), read(Cancel, asked.body, INVALID)
    build = next((build for build in found.builds if build.id == body.buildId), None)
    if build is None:
        raise Answer(404, MISSING, "build not found", body.buildId)
    if build.is_over or build.status == "upload":
        raise Answer(400, UPLOADING, "build can not be canceled", f"status is {build.status}")
    cancel_build(build)
    return done()


async def _history(asked: Asked) -> Response:
    found = _project(asked)
    shown = [build for build in found.builds if asked.world.shows_run(build) and not _is_hidden(build)]
    return result({"total": len(shown), "history": [build.json() for build in newest_first(asked, shown)]})


async def _environment(asked: Asked) -> Response:
    path = asked.request.url.path
    key = path.rpartition("/")[2]
    known = {"compute": COMPUTES, "docker": DOCKERS, "os": SYSTEMS, "runtime": RUNTIMES, "version": VERSIONS}
    if any(asked.parts.get(part, "1") != "1" for part in ("os", "runtime")):
        raise Answer(404, MISSING, "not found", path)
    return result({key: known[key]})


async def _registries(asked: Asked) -> Response:
    allowed = {"permission": "Allow", "actionName": "View/getRegistryDetail", "disabled": False}
    return result({"registry": [{"name": asked.world.registry_name, "status": "running", **allowed}]})


async def _buckets(asked: Asked) -> Response:
    return result({"bucket": []})


async def _repositories(asked: Asked) -> Response:
    allowed = {"permission": "Allow", "actionName": "View/getRepositoryDetail"}
    shown = [repo for repo in asked.world.repositories.values() if asked.world.shows(repo)]
    return result({"repository": [{"name": repo.name, **allowed} for repo in shown]})


async def _branches(asked: Asked) -> Response:
    found = asked.world.repositories.get(asked.parts["name"])
    if found is None:
        raise Answer(404, MISSING, "repository not found", asked.parts["name"])
    return result({"default": found.default, "branch": branches(found)})


def start_build(world: World, project: BuildProject, *, branch: str = "", user: str = "console") -> Build:
    """Start a build of the branch's head, with the project's settings of this moment."""
    made = Build(
        id=str(uuid.uuid4()),
        project_id=project.id,
        project=project.name,
        settings=project.settings.model_copy(deep=True),
        branch=branch or project.settings.source.config.branch,
        made_at=world.clock.now(),
        user=user,
        number=len(project.builds) + 1,
        takes=world.build_time,
        fault=world.faults.ending_of("build", project.name),
    )
    project.builds.append(made)
    world.builds[made.id] = made
    made.task = world.in_background(carry_out(world, made))
    return made


def cancel_build(build: Build) -> None:
    if build.task is not None:
        build.task.cancel()


def _check(world: World, settings: Settings) -> None:
    """Errors: Answer 400 when what the settings name does not exist."""
    source, images, platform = settings.source.config, settings.cmd.dockerbuild, settings.env.platform
    repository = world.repositories.get(source.repository)
    if repository is None or not world.shows(repository):
        raise Answer(400, NO_SOURCE, "invalid source repository", source.repository)
    unknown = []
    if settings.env.compute.id not in [one["id"] for one in COMPUTES]:
        unknown.append("env.compute.id")
    if settings.env.docker.use and settings.env.docker.id not in [one["id"] for one in DOCKERS]:
        unknown.append("env.docker.id")
    if isinstance(platform.config, OfSourceBuild):
        ids = (platform.config.os.id, platform.config.runtime.id, platform.config.runtime.version.id)
        unknown += ["env.platform.config"] if ids != (1, 1, 1) else []
    if images.use and images.registry != world.registry_name:
        unknown.append("cmd.dockerbuild.registry")
    if unknown:
        raise Answer(400, INVALID, "invalid parameters", f"{', '.join(unknown)} not found")


def _project(asked: Asked) -> BuildProject:
    """Errors: Answer 404."""
    found = asked.world.build_projects.get(asked.number("project", MISSING))
    if found is None or not asked.world.shows(found):
        raise Answer(404, MISSING, "project not found", asked.parts["project"])
    return found


def _is_hidden(build: Build) -> bool:
    return build.fault is not None and build.fault.ending is Ending.HIDDEN


def _brief(project: BuildProject) -> dict[str, Any]:
    allowed = {"permission": "Allow", "actionName": "View/getProjectDetail"}
    return {"id": project.id, "name": project.name, **allowed}


def _detail(project: BuildProject) -> dict[str, Any]:
    facts = project.settings.model_dump(mode="json", exclude_none=True)
    facts["env"]["compute"] = _named(COMPUTES, facts["env"]["compute"]["id"])
    if facts["env"]["docker"]["use"]:
        facts["env"]["docker"] |= _named(DOCKERS, facts["env"]["docker"]["id"])
    if facts["env"]["platform"]["type"] == "SourceBuild":
        runtime = {**RUNTIMES[0], "version": VERSIONS[0]}
        facts["env"]["platform"]["config"] = {"os": SYSTEMS[0], "runtime": runtime}
    return {
        "id": project.id,
        "name": project.name,
        "created": {"timestamp": milliseconds(project.made_at), "user": project.user},
        **facts,
        "lastBuild": _last(project),
    }


def _last(project: BuildProject) -> dict[str, Any]:
    if not project.builds:
        return {"id": None, "timestamp": None, "status": None}
    last = project.builds[-1]
    return {"id": last.id, "timestamp": milliseconds(last.made_at), "status": last.status}


def _named(known: list[dict[str, Any]], number: int) -> Mapping[str, Any]:
    return next(one for one in known if one["id"] == number)


ROUTES = Routes(
    [
        ("GET", "/api/v1/project", _list),
        ("POST", "/api/v1/project", _create),
        ("GET", "/api/v1/project/{project}", _show),
        ("PATCH", "/api/v1/project/{project}", _change),
        ("DELETE", "/api/v1/project/{project}", _delete),
        ("POST", "/api/v1/project/{project}/build", _start),
        ("DELETE", "/api/v1/project/{project}/build", _cancel),
        ("GET", "/api/v1/project/{project}/history", _history),
        ("GET", "/api/v1/env/compute", _environment),
        ("GET", "/api/v1/env/docker", _environment),
        ("GET", "/api/v1/env/os", _environment),
        ("GET", "/api/v1/env/os/{os}/runtime", _environment),
        ("GET", "/api/v1/env/os/{os}/runtime/{runtime}/version", _environment),
        ("GET", "/api/v1/containerregistry/registry", _registries),
        ("GET", "/api/v1/objectstorage/bucket", _buckets),
        ("GET", "/api/v1/sourcecommit/repository", _repositories),
        ("GET", "/api/v1/sourcecommit/repository/{name}/branch", _branches),
    ]
)
