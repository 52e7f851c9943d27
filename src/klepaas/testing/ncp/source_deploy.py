"""SourceDeploy on the VPC platform: projects, stages, scenarios, runs and their histories.

Scenarios exist on Kubernetes stages only; on the other types a stage is all there is."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from klepaas.testing.ncp import deploying
from klepaas.testing.ncp.answers import Answer, done, result
from klepaas.testing.ncp.bodies import read
from klepaas.testing.ncp.deploy import (
    ChangeScenario,
    ChangeStage,
    CreateDeployProject,
    CreateScenario,
    CreateStage,
    Deploy,
    DeployProject,
    Scenario,
    Stage,
    StageConfig,
)
from klepaas.testing.ncp.faults import Ending
from klepaas.testing.ncp.routing import Asked, Routes, filtered, newest_first, page
from klepaas.testing.ncp.source_commit import branches
from klepaas.testing.ncp.world import World

INVALID, MISSING, TAKEN, UNKNOWN = 330400, 330404, 330405, 330900
"""Only the last is known from the real service: a scenario that is not understood, or a stage without a target."""


async def _list(asked: Asked) -> Response:
    shown = [p for p in asked.world.deploy_projects.values() if p.usable and asked.world.shows(p)]
    found = filtered(asked, shown, lambda project: project.name, "projectName")
    allowed = {"permission": "Allow", "actionName": "View/getProjectDetail"}
    listed = [{"id": p.id, "name": p.name, **allowed} for p in page(asked, found, INVALID, default=100)]
    return result({"projectList": listed})


async def _create(asked: Asked) -> Response:
    world, known = asked.world, asked.body
    unknown = set(known) - {"name"} if isinstance(known, dict) else set()
    if unknown and world.faults.quirks.unusable_project:
        known = {"name": known.get("name")}
    body = read(CreateDeployProject, known, INVALID)
    _refuse_taken(world.deploy_projects.values(), body.name, "project")
    made = DeployProject(world.next_id("deploy project"), body.name, world.clock.now(), usable=not unknown)
    world.deploy_projects[made.id] = made
    return result({"id": made.id, "name": made.name})


async def _delete(asked: Asked) -> Response:
    del asked.world.deploy_projects[_project(asked).id]
    return done()


async def _stages(asked: Asked) -> Response:
    project = _project(asked)
    shown = [stage for stage in project.stages.values() if asked.world.shows(stage)]
    found = filtered(asked, shown, lambda stage: stage.name, "stageName")
    listed = [_named(stage) for stage in page(asked, found, INVALID, default=100)]
    return result({"project": _named(project), "stageList": listed})


async def _create_stage(asked: Asked) -> Response:
    project, world = _project(asked), asked.world
    body = read(CreateStage, asked.body, INVALID)
    _refuse_taken(project.stages.values(), body.name, "stage")
    config = _stage_config(world, body.type, body.config)
    made = Stage(world.next_id("stage"), body.name, body.type, config, world.clock.now())
    project.stages[made.id] = made
    return result(_named(made))


async def _show_stage(asked: Asked) -> Response:
    project, stage = _project(asked), _stage(asked)
    named = {"clusterName": asked.world.cluster.name} if stage.type == "KubernetesService" and stage.config else {}
    about = {"project": _named(project), **_named(stage), "type": stage.type}
    return result({**about, "config": {**stage.config, **named}})


async def _change_stage(asked: Asked) -> Response:
    stage, body = _stage(asked), read(ChangeStage, asked.body, INVALID)
    kind = body.type or stage.type
    config = _stage_config(asked.world, kind, body.config) if body.config is not None else stage.config
    if body.name and body.name != stage.name:
        _refuse_taken(_project(asked).stages.values(), body.name, "stage")
    stage.name, stage.type, stage.config = body.name or stage.name, kind, config
    return result(_named(stage))


async def _delete_stage(asked: Asked) -> Response:
    del _project(asked).stages[_stage(asked).id]
    return done()


async def _scenarios(asked: Asked) -> Response:
    project, stage = _project(asked), _stage(asked)
    shown = [scenario for scenario in stage.scenarios.values() if asked.world.shows(scenario)]
    found = filtered(asked, shown, lambda scenario: scenario.name, "scenarioName")
    listed = [_named(scenario) for scenario in page(asked, found, INVALID, default=100)]
    return result({"project": _named(project), "stage": _named(stage), "scenarioList": listed})


async def _create_scenario(asked: Asked) -> Response:
    stage, world = _stage(asked), asked.world
    _refuse_unusable(stage)
    body = _understood(CreateScenario, asked.body)
    _check_repository(world, body)
    _refuse_taken(stage.scenarios.values(), body.name, "scenario")
    made = Scenario(world.next_id("scenario"), body.name, body.description, body.config, world.clock.now())
    stage.scenarios[made.id] = made
    return result(_named(made))


async def _show_scenario(asked: Asked) -> Response:
    project, stage, scenario = _project(asked), _stage(asked), _scenario(asked)
    about = {"project": _named(project), "stage": _named(stage), **_named(scenario), "type": stage.type}
    config = scenario.config.model_dump(mode="json", exclude_none=True)
    return result({**about, "description": scenario.description, "config": config})


async def _change_scenario(asked: Asked) -> Response:
    scenario, body = _scenario(asked), _understood(ChangeScenario, asked.body)
    _check_repository(asked.world, body)
    scenario.config = body.config
    scenario.description = scenario.description if body.description is None else body.description
    return result(_named(scenario))


async def _delete_scenario(asked: Asked) -> Response:
    del _stage(asked).scenarios[_scenario(asked).id]
    return done()


async def _deploy(asked: Asked) -> Response:
    approval = asked.request.url.path.endswith("/request")
    project, stage, scenario = _project(asked), _stage(asked), _scenario(asked)
    user = asked.caller.user
    made = start_deploy(asked.world, project, stage, scenario, user=user, needs_approval=approval)
    return result({"historyId": made.id})


async def _histories(asked: Asked) -> Response:
    runs = [run for run in _project(asked).deploys if asked.world.shows_run(run) and not _is_hidden(run)]
    found = page(asked, newest_first(asked, runs), INVALID, default=100)
    return result({"historyList": [run.brief() for run in found]})


async def _history(asked: Asked) -> Response:
    return result(_run(asked).json())


async def _cancel(asked: Asked) -> Response:
    run = _run(asked)
    if run.is_over or run.task is None:
        raise Answer(400, INVALID, "can not be canceled", f"status is {run.status}")
    run.status = "canceling"
    run.task.cancel()
    return done()


async def _decide(asked: Asked) -> Response:
    run, path = _run(asked), asked.request.url.path
    wanted = "pending" if "/approval/" in path else "canary_pending"
    if run.status != wanted:
        raise Answer(400, INVALID, "invalid status", f"status is {run.status}")
    await deploying.decide(run, path.endswith("/accept"))
    return done()


async def _clusters(asked: Asked) -> Response:
    cluster = asked.world.cluster
    allowed = {"permission": "Allow", "actionName": "View/getClusterDetail"}
    return result({"clusterList": [{"id": cluster.number, "name": cluster.name, **allowed}]})


async def _others(asked: Asked) -> Response:
    key = {"server": "serverList", "autoscaling": "autoscalingList", "bucket": "bucketList"}
    return result({key[asked.request.url.path.rpartition("/")[2]]: []})


async def _build_projects(asked: Asked) -> Response:
    allowed = {"permission": "Allow", "actionName": "View/getProjectDetail"}
    shown = [project for project in asked.world.build_projects.values() if asked.world.shows(project)]
    return result({"projectList": [{"id": p.id, "name": p.name, **allowed} for p in shown]})


async def _repositories(asked: Asked) -> Response:
    allowed = {"permission": "Allow", "actionName": "View/getRepositoryDetail"}
    shown = [repository for repository in asked.world.repositories.values() if asked.world.shows(repository)]
    return result({"repositoryList": [{"name": repository.name, **allowed} for repository in shown]})


async def _branches(asked: Asked) -> Response:
    found = asked.world.repositories.get(asked.parts["name"])
    if found is None:
        raise Answer(404, MISSING, "repository not found", asked.parts["name"])
    return result({"branchList": [{"name": name} for name in branches(found)]})


def start_deploy(
    world: World,
    project: DeployProject,
    stage: Stage,
    scenario: Scenario,
    *,
    user: str = "console",
    needs_approval: bool = False,
) -> Deploy:
    made = Deploy(
        id=world.next_id("deploy"),
        project_id=project.id,
        project=project.name,
        stage_id=stage.id,
        stage=stage.name,
        scenario_id=scenario.id,
        scenario=scenario.name,
        config=scenario.config,
        made_at=world.clock.now(),
        user=user,
        fault=world.faults.ending_of("deploy", project.name),
    )
    project.deploys.append(made)
    world.deploys[made.id] = made
    made.task = world.in_background(deploying.carry_out(world, made, needs_approval=needs_approval))
    return made


def _understood(model: type[Any], body: Any) -> Any:
    """Errors: Answer 400 in the service's own few words."""
    try:
        return read(model, body, UNKNOWN)
    except Answer as error:
        raise Answer(400, UNKNOWN, "unknown", "") from error


def _refuse_unusable(stage: Stage) -> None:
    if stage.type != "KubernetesService" or not stage.config:
        raise Answer(400, UNKNOWN, "unknown", "")


def _check_repository(world: World, body: CreateScenario | ChangeScenario) -> None:
    found = world.repositories.get(body.config.manifest.repository)
    if found is None or not world.shows(found):
        raise Answer(400, UNKNOWN, "unknown", "")


def _stage_config(world: World, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """As it is kept. Errors: Answer 400."""
    if kind != "KubernetesService":
        return config
    body, cluster = read(StageConfig, config, INVALID), world.cluster
    found = body.model_dump(exclude_none=True)
    if not found:
        return {}
    wanted = world.faults.quirks.cluster_key
    if len(found) != 1 or (wanted != "either" and wanted not in found):
        raise Answer(400, INVALID, "invalid parameters", "config names one cluster")
    if found not in ({"clusterNo": cluster.number}, {"clusterUuid": cluster.uuid}):
        raise Answer(400, INVALID, "invalid parameters", "cluster not found")
    return found


def _refuse_taken(things: Any, name: str, what: str) -> None:
    if any(thing.name == name for thing in things):
        raise Answer(400, TAKEN, f"duplicated {what} name", name)


def _project(asked: Asked) -> DeployProject:
    found = asked.world.deploy_projects.get(asked.number("project", MISSING))
    if found is None or not found.usable or not asked.world.shows(found):
        raise Answer(404, MISSING, "project not found", asked.parts["project"])
    return found


def _stage(asked: Asked) -> Stage:
    found = _project(asked).stages.get(asked.number("stage", MISSING))
    if found is None or not asked.world.shows(found):
        raise Answer(404, MISSING, "stage not found", asked.parts["stage"])
    return found


def _scenario(asked: Asked) -> Scenario:
    found = _stage(asked).scenarios.get(asked.number("scenario", MISSING))
    if found is None or not asked.world.shows(found):
        raise Answer(404, MISSING, "scenario not found", asked.parts["scenario"])
    return found


def _run(asked: Asked) -> Deploy:
    number, project = asked.number("history", MISSING), _project(asked)
    for run in project.deploys:
        if run.id == number and asked.world.shows_run(run) and not _is_hidden(run):
            return run
    raise Answer(404, MISSING, "history not found", str(number))


def _is_hidden(run: Deploy) -> bool:
    return run.fault is not None and run.fault.ending is Ending.HIDDEN


def _named(thing: DeployProject | Stage | Scenario) -> Mapping[str, Any]:
    return {"id": thing.id, "name": thing.name}


_PROJECT = "/api/v1/project/{project}"
_STAGE = f"{_PROJECT}/stage/{{stage}}"
_SCENARIO = f"{_STAGE}/scenario/{{scenario}}"
_HISTORY = f"{_PROJECT}/history/{{history}}"

ROUTES = Routes(
    [
        ("GET", "/api/v1/project", _list),
        ("POST", "/api/v1/project", _create),
        ("DELETE", _PROJECT, _delete),
        ("GET", f"{_PROJECT}/stage", _stages),
        ("POST", f"{_PROJECT}/stage", _create_stage),
        ("GET", _STAGE, _show_stage),
        ("PATCH", _STAGE, _change_stage),
        ("DELETE", _STAGE, _delete_stage),
        ("GET", f"{_STAGE}/scenario", _scenarios),
        ("POST", f"{_STAGE}/scenario", _create_scenario),
        ("GET", _SCENARIO, _show_scenario),
        ("PATCH", _SCENARIO, _change_scenario),
        ("DELETE", _SCENARIO, _delete_scenario),
        ("POST", f"{_SCENARIO}/deploy", _deploy),
        ("POST", f"{_SCENARIO}/deploy/request", _deploy),
        ("GET", f"{_PROJECT}/history", _histories),
        ("GET", _HISTORY, _history),
        ("POST", f"{_HISTORY}/cancel", _cancel),
        *(
            ("POST", f"{_HISTORY}/{what}/{word}", _decide)
            for what in ("approval", "canary")
            for word in ("accept", "reject")
        ),
        ("GET", "/api/v1/kubernetes/cluster", _clusters),
        ("GET", "/api/v1/server", _others),
        ("GET", "/api/v1/autoscaling", _others),
        ("GET", "/api/v1/objectstorage/bucket", _others),
        ("GET", "/api/v1/sourcebuild/project", _build_projects),
        ("GET", "/api/v1/sourcecommit/repository", _repositories),
        ("GET", "/api/v1/sourcecommit/repository/{name}/branch", _branches),
    ]
)
