"""How a pipeline runs: its tasks one after the other, by the same hands as builds and deployments of their own."""

import asyncio
from typing import TYPE_CHECKING

from klepaas.testing.ncp.faults import Ending
from klepaas.testing.ncp.pipeline import PipelineRun, TaskRun
from klepaas.testing.ncp.source_build import cancel_build, start_build
from klepaas.testing.ncp.source_deploy import start_deploy

if TYPE_CHECKING:
    from klepaas.testing.ncp.world import World

WORDS = {"success": "success", "canceled": "canceled"}
"""What the status of a build or deployment is called here; all else is `fail`."""


async def carry_out(world: "World", run: PipelineRun) -> None:
    """From its start to its end."""
    ending = run.fault.ending if run.fault else None
    status = "success"
    try:
        if ending is Ending.STUCK:
            await asyncio.Event().wait()
        for task in run.tasks if ending not in (Ending.SAYS_SUCCESS, Ending.FAIL) else []:
            task.status = "inprogress"
            task.status = status = await _carry_out(world, run, task)
            if status != "success":
                break
    except asyncio.CancelledError:
        status = "canceled"
        for task in run.tasks:
            task.status = "canceled" if task.status == "inprogress" else task.status
    if ending in (Ending.SAYS_FAIL, Ending.FAIL):
        status = "fail"
    if ending is not Ending.SILENT:
        run.status = run.fault.word if run.fault and run.fault.word else status
        run.ended_at = world.clock.now()
    run.ended.set()


async def _carry_out(world: "World", run: PipelineRun, task: TaskRun) -> str:
    """Its status at the end."""
    if task.task.type == "SourceBuild":
        return await _build(world, run, task)
    return await _deploy(world, run, task)


async def _build(world: "World", run: PipelineRun, task: TaskRun) -> str:
    config = task.task.config
    project = world.build_projects.get(config.projectId)
    if project is None:
        return "fail"
    build = start_build(world, project, branch=config.target.info.branch if config.target else "", user=run.user)
    task.result_id = build.id
    try:
        await build.ended.wait()
    except asyncio.CancelledError:
        cancel_build(build)
        raise
    return WORDS.get(build.status, "fail")


async def _deploy(world: "World", run: PipelineRun, task: TaskRun) -> str:
    config = task.task.config
    project = world.deploy_projects.get(config.projectId)
    stage = project.stages.get(config.stageId or 0) if project else None
    scenario = stage.scenarios.get(config.scenarioId or 0) if stage else None
    if project is None or stage is None or scenario is None:
        return "fail"
    deploy = start_deploy(world, project, stage, scenario, user=run.user)
    task.result_id = str(deploy.id)
    try:
        await deploy.ended.wait()
    except asyncio.CancelledError:
        if deploy.task is not None:
            deploy.task.cancel()
        raise
    return WORDS.get(deploy.status, "fail")
