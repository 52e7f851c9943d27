"""SourcePipeline on the VPC platform: projects, runs by request or by a push, and their history."""

from collections.abc import Set as AbstractSet
from typing import Any, Literal

from starlette.responses import Response

from klepaas.testing.ncp import running
from klepaas.testing.ncp.answers import Answer, done, result
from klepaas.testing.ncp.bodies import read
from klepaas.testing.ncp.deploy import DeployProject
from klepaas.testing.ncp.faults import Ending
from klepaas.testing.ncp.pipeline import (
    ChangePipeline,
    CreatePipeline,
    PipelineProject,
    PipelineRun,
    TaskBody,
    TaskRun,
    in_order,
)
from klepaas.testing.ncp.routing import Asked, Routes, filtered, newest_first, page
from klepaas.testing.ncp.source_commit import branches
from klepaas.testing.ncp.world import Repository, World

INVALID, MISSING, TAKEN, RUNNING = 340400, 340404, 340405, 340500
"""Only the last is known from the real service."""


class StillRunning(Exception):
    """A pipeline runs once at a time."""


async def _list(asked: Asked) -> Response:
    shown = [project for project in asked.world.pipeline_projects.values() if asked.world.shows(project)]
    found = filtered(asked, shown, lambda project: project.name, "projectName")
    listed = [{"id": p.id, "name": p.name} for p in page(asked, found, INVALID, together=True)]
    return result({"projectList": listed})


async def _create(asked: Asked) -> Response:
    world, body = asked.world, read(CreatePipeline, asked.body, INVALID)
    if any(project.name == body.name for project in world.pipeline_projects.values()):
        raise Answer(400, TAKEN, "duplicated project name", body.name)
    _check(world, body)
    made = PipelineProject(
        id=world.next_id("pipeline"),
        name=body.name,
        description=body.description or "",
        tasks=body.tasks,
        task_ids={task.name: world.next_id("task") for task in body.tasks},
        trigger=body.trigger,
        made_at=world.clock.now(),
    )
    world.pipeline_projects[made.id] = made
    return result({"projectId": made.id})


async def _show(asked: Asked) -> Response:
    found = _project(asked)
    about = {"id": found.id, "name": found.name, "description": found.description}
    tasks = [_task(asked.world, task, found.task_ids[task.name]) for task in found.tasks]
    return result({**about, "tasks": tasks, "trigger": _trigger(asked.world, found)})


async def _change(asked: Asked) -> Response:
    found, body = _project(asked), read(ChangePipeline, asked.body, INVALID)
    _check(asked.world, body)
    found.tasks, found.trigger = body.tasks, body.trigger
    ids = found.task_ids
    found.task_ids = {task.name: ids.get(task.name) or asked.world.next_id("task") for task in body.tasks}
    found.description = found.description if body.description is None else body.description
    return done()


async def _delete(asked: Asked) -> Response:
    del asked.world.pipeline_projects[_project(asked).id]
    return done()


async def _do(asked: Asked) -> Response:
    try:
        made = start_pipeline(asked.world, _project(asked), user=asked.caller.user)
    except StillRunning:
        raise Answer(400, RUNNING, "invalid parameters", "Running Pipeline Exist") from None
    return result({"historyId": made.id})


async def _histories(asked: Asked) -> Response:
    runs = [run for run in _project(asked).runs if asked.world.shows_run(run) and not _is_hidden(run)]
    found = page(asked, newest_first(asked, runs), INVALID, together=True)
    return result({"historyList": [run.brief() for run in found]})


async def _history(asked: Asked) -> Response:
    run = _run(asked)
    facts = {name: value for name, value in run.brief().items() if not name.startswith("request")}
    facts["tasks"] = [
        {**_task(asked.world, task.task, task.id), "status": task.status, "resultId": task.result_id}
        for task in run.tasks
    ]
    return result({"history": [facts] if asked.world.faults.quirks.history_in_a_list else facts})


async def _cancel(asked: Asked) -> Response:
    run = _run(asked)
    if run.is_over or run.task is None:
        raise Answer(400, INVALID, "can not be canceled", f"status is {run.status}")
    run.task.cancel()
    return done()


async def _build_projects(asked: Asked) -> Response:
    shown = [p for p in asked.world.build_projects.values() if asked.world.shows(p)]
    listed = [
        {"id": p.id, "name": p.name, "source": {"type": "SourceCommit", **p.settings.source.config.model_dump()}}
        for p in shown
    ]
    return result({"projectList": listed})


async def _repositories(asked: Asked) -> Response:
    shown = [repository for repository in asked.world.repositories.values() if asked.world.shows(repository)]
    return result({"repositoryList": [{"name": repository.name} for repository in shown]})


async def _branches(asked: Asked) -> Response:
    found = asked.world.repositories.get(asked.parts["name"])
    if found is None:
        raise Answer(404, MISSING, "repository not found", asked.parts["name"])
    return result({"branchList": [{"name": name} for name in branches(found)]})


async def _deploy_projects(asked: Asked) -> Response:
    shown = [p for p in asked.world.deploy_projects.values() if p.usable and asked.world.shows(p)]
    return result({"projectList": [{"id": p.id, "name": p.name} for p in shown]})


async def _stages(asked: Asked) -> Response:
    project = _deploy_project(asked)
    return result({"stageList": [{"id": stage.id, "name": stage.name} for stage in project.stages.values()]})


async def _scenarios(asked: Asked) -> Response:
    project = _deploy_project(asked)
    stage = project.stages.get(asked.number("stage", MISSING))
    if stage is None:
        raise Answer(404, MISSING, "stage not found", asked.parts["stage"])
    listed = []
    for scenario in stage.scenarios.values():
        target = {"projectName": project.name, "manifest": scenario.config.manifest.path}
        source = {"type": "KubernetesService", "target": target}
        listed.append({"id": scenario.id, "name": scenario.name, "source": source})
    return result({"scenarioList": listed})


async def _zones(asked: Asked) -> Response:
    return result({"timeZone": ["Asia/Seoul (UTC+09:00)", "UTC (UTC+00:00)"]})


def start_pipeline(
    world: World,
    project: PipelineProject,
    *,
    user: str = "console",
    request_type: Literal["console", "trigger"] = "console",
) -> PipelineRun:
    """Errors: StillRunning."""
    if any(not run.is_over for run in project.runs):
        raise StillRunning
    made = PipelineRun(
        id=world.next_id("pipeline run"),
        project_id=project.id,
        project=project.name,
        request_type=request_type,
        user=user,
        made_at=world.clock.now(),
        tasks=[TaskRun(task, project.task_ids[task.name]) for task in in_order(project.tasks)],
        fault=world.faults.ending_of("pipeline", project.name),
    )
    project.runs.append(made)
    world.pipeline_runs[made.id] = made
    made.task = world.in_background(running.carry_out(world, made))
    return made


def trigger(world: World, repository: Repository, branches: AbstractSet[str]) -> None:
    """Start what a push to these branches starts; nothing where a run goes on."""
    for project in world.pipeline_projects.values():
        wanted = {(one.name, one.branch) for one in project.trigger.repository}
        if wanted & {(repository.name, branch) for branch in branches} and all(run.is_over for run in project.runs):
            start_pipeline(world, project, user=world.git_user, request_type="trigger")


def _check(world: World, body: ChangePipeline) -> None:
    """Errors: Answer 400 when it names what does not exist."""
    for task in body.tasks:
        config, found = task.config, False
        if task.type == "SourceBuild":
            found = config.projectId in world.build_projects
        elif project := world.deploy_projects.get(config.projectId):
            stage = project.stages.get(config.stageId or 0)
            found = project.usable and stage is not None and config.scenarioId in stage.scenarios
        if not found:
            raise Answer(400, INVALID, "invalid parameters", f"what task {task.name} names is not found")
    for one in body.trigger.repository:
        if one.name not in world.repositories:
            raise Answer(400, INVALID, "invalid parameters", f"repository {one.name} not found")
    for other in body.trigger.sourcepipeline:
        if other.id not in world.pipeline_projects:
            raise Answer(400, INVALID, "invalid parameters", f"pipeline {other.id} not found")


def _task(world: World, task: TaskBody, number: int) -> dict[str, Any]:
    config = task.config.model_dump(mode="json", exclude_none=True)
    if target := _target(world, task):
        config["target"] = target
    return {"id": number, "name": task.name, "type": task.type, "config": config, "linkedTasks": task.linkedTasks}


def _target(world: World, task: TaskBody) -> dict[str, Any] | None:
    config = task.config
    if task.type == "SourceBuild":
        build = world.build_projects.get(config.projectId)
        if build is None:
            return None
        info = build.settings.source.config.model_dump()
        return {"type": "SourceCommit", "info": {**info, **(config.target.info.model_dump() if config.target else {})}}
    project = world.deploy_projects.get(config.projectId)
    stage = project.stages.get(config.stageId or 0) if project else None
    scenario = stage.scenarios.get(config.scenarioId or 0) if stage else None
    if scenario is None:
        return None
    paths = scenario.config.manifest.path
    return {"type": "KubernetesService", "info": {"manifest": paths[0], "fullManifest": " / ".join(paths)}}


def _trigger(world: World, project: PipelineProject) -> dict[str, Any]:
    facts = project.trigger.model_dump(mode="json")
    for other in facts["sourcepipeline"]:
        found = world.pipeline_projects.get(other["id"])
        other["name"] = found.name if found else ""
    return facts


def _project(asked: Asked) -> PipelineProject:
    found = asked.world.pipeline_projects.get(asked.number("project", MISSING))
    if found is None or not asked.world.shows(found):
        raise Answer(404, MISSING, "project not found", asked.parts["project"])
    return found


def _deploy_project(asked: Asked) -> DeployProject:
    found = asked.world.deploy_projects.get(asked.number("project", MISSING))
    if found is None or not found.usable or not asked.world.shows(found):
        raise Answer(404, MISSING, "project not found", asked.parts["project"])
    return found


def _run(asked: Asked) -> PipelineRun:
    number, project = asked.number("history", MISSING), _project(asked)
    for run in project.runs:
        if run.id == number and asked.world.shows_run(run) and not _is_hidden(run):
            return run
    raise Answer(404, MISSING, "history not found", str(number))


def _is_hidden(run: PipelineRun) -> bool:
    return run.fault is not None and run.fault.ending is Ending.HIDDEN


_PROJECT = "/api/v1/project/{project}"

ROUTES = Routes(
    [
        ("GET", "/api/v1/project", _list),
        ("POST", "/api/v1/project", _create),
        ("GET", _PROJECT, _show),
        ("PATCH", _PROJECT, _change),
        ("DELETE", _PROJECT, _delete),
        ("POST", f"{_PROJECT}/do", _do),
        ("GET", f"{_PROJECT}/history", _histories),
        ("GET", f"{_PROJECT}/history/{{history}}", _history),
        ("POST", f"{_PROJECT}/history/{{history}}/cancel", _cancel),
        ("GET", "/api/v1/sourcebuild/project", _build_projects),
        ("GET", "/api/v1/sourcecommit/repository", _repositories),
        ("GET", "/api/v1/sourcecommit/repository/{name}/branch", _branches),
        ("GET", "/api/v1/sourcedeploy/project", _deploy_projects),
        ("GET", "/api/v1/sourcedeploy/project/{project}/stage", _stages),
        ("GET", "/api/v1/sourcedeploy/project/{project}/stage/{stage}/scenario", _scenarios),
        ("GET", "/api/v1/trigger/timezone", _zones),
    ]
)
