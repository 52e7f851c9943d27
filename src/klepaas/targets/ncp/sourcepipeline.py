"""SourcePipeline: a build and a deployment in a row, and their runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from klepaas.errors import Rejected
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import Service
from klepaas.targets.ncp.making import Ensured, ensured
from klepaas.targets.ncp.names import MAX_PIPELINE, check_name
from klepaas.targets.ncp.reading import Listed, each_of, id_of, listed, named, understood
from klepaas.targets.ncp.refusal import is_missing
from klepaas.targets.ncp.run import Run, Started, pipeline_run, start_once
from klepaas.targets.ncp.states import RunState, state_of

SERVICE = Service.SOURCE_PIPELINE


@dataclass(frozen=True, kw_only=True)
class BuildTask:
    name: str
    project_id: int
    after: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        config = {"projectId": int(self.project_id)}
        return {"name": self.name, "type": "SourceBuild", "config": config, "linkedTasks": list(self.after)}


@dataclass(frozen=True, kw_only=True)
class DeployTask:
    name: str
    project_id: int
    stage_id: int
    scenario_id: int
    after: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        config = {
            "projectId": int(self.project_id),
            "stageId": int(self.stage_id),
            "scenarioId": int(self.scenario_id),
        }
        return {"name": self.name, "type": "SourceDeploy", "config": config, "linkedTasks": list(self.after)}


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """`pushes` are (repository, branch): a push there starts a run. klepaas starts runs itself and needs none."""

    tasks: tuple[BuildTask | DeployTask, ...]
    pushes: tuple[tuple[str, str], ...] = ()
    description: str = ""

    def body(self) -> dict[str, Any]:
        return {
            "description": self.description[:500],
            "tasks": [task.body() for task in self.tasks],
            "trigger": {
                "repository": [{"type": "sourcecommit", "name": name, "branch": branch} for name, branch in self.pushes]
            },
        }


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """`result_id` is the id of the build or the deployment it started; None before it did."""

    task_id: int | None
    name: str
    state: RunState | None
    """None while it has not been reached."""
    word: str | None
    result_id: str | None


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    run: Run
    tasks: tuple[TaskRun, ...]


class SourcePipeline:
    def __init__(self, client: NcpClient) -> None:
        self._client = client

    async def pipelines(self) -> Sequence[Listed]:
        data = await self._client.get(SERVICE, "/project")
        with understood(SERVICE):
            return each_of(data, "projectList", listed)

    async def find(self, name: str) -> Listed | None:
        return named(await self.pipelines(), name)

    async def pipeline(self, pipeline_id: int) -> Pipeline | None:
        """Errors: Rejected also when it has tasks of a kind that klepaas does not know."""
        try:
            data = await self._client.get(SERVICE, f"/project/{int(pipeline_id)}")
        except Rejected as refused:
            if is_missing(refused):
                return None
            raise
        with understood(SERVICE):
            return _pipeline(data)

    async def ensure(self, name: str, wanted: Pipeline) -> Ensured[Listed]:
        """One that is there already is left as it is: compare `pipeline(…)` and `change` it."""
        body = {"name": check_name(name, "SourcePipeline project", MAX_PIPELINE), **wanted.body()}

        async def make() -> Listed:
            data = await self._client.change(SERVICE, "POST", "/project", body)
            with understood(SERVICE):
                return Listed(id=id_of(data), name=name)

        return await ensured(
            lambda: self.find(name), make, looks_s=self._client.looks_s, what=f"the SourcePipeline project {name}"
        )

    async def change(self, pipeline_id: int, wanted: Pipeline) -> None:
        await self._client.change(SERVICE, "PATCH", f"/project/{int(pipeline_id)}", wanted.body())

    async def remove(self, pipeline_id: int) -> None:
        """What is gone already is no error."""
        try:
            await self._client.change(SERVICE, "DELETE", f"/project/{int(pipeline_id)}")
        except Rejected as refused:
            if not is_missing(refused):
                raise

    async def start(self, pipeline_id: int, *, known: Collection[str]) -> Started:
        """`known`: see `start_once`. Errors: Conflict while another run is going."""

        async def start() -> str:
            data = await self._client.change(SERVICE, "POST", f"/project/{int(pipeline_id)}/do")
            with understood(SERVICE):
                return str(data["historyId"])

        return await start_once(
            start,
            lambda: self.runs(pipeline_id),
            known=known,
            looks_s=self._client.looks_s,
            what=f"SourcePipeline project {pipeline_id}",
        )

    async def runs(self, pipeline_id: int, *, is_polling: bool = False) -> Sequence[Run]:
        data = await self._client.get(SERVICE, f"/project/{int(pipeline_id)}/history", is_polling=is_polling)
        with understood(SERVICE):
            return each_of(data, "historyList", pipeline_run)

    async def run(self, pipeline_id: int, run_id: str, *, is_polling: bool = False) -> PipelineRun:
        path = f"/project/{int(pipeline_id)}/history/{int(run_id)}"
        data = await self._client.get(SERVICE, path, is_polling=is_polling)
        with understood(SERVICE):
            one = _of_history(data, run_id)
            return PipelineRun(run=pipeline_run(one), tasks=tuple(each_of(one, "tasks", _task_run)))

    async def cancel(self, pipeline_id: int, run_id: str) -> None:
        await self._client.change(SERVICE, "POST", f"/project/{int(pipeline_id)}/history/{int(run_id)}/cancel")


def _of_history(data: Any, run_id: str) -> Mapping[str, Any]:
    """An object in the guide, an array in the provider's client library."""
    found = data.get("history", data)
    if isinstance(found, list):
        return next((one for one in found if str(one.get("id")) == str(run_id)), found[0])
    return dict(found)


def _task_run(data: Any) -> TaskRun:
    word = data.get("status")
    result = data.get("resultId")
    return TaskRun(
        task_id=int(data["id"]) if data.get("id") is not None else None,
        name=str(data["name"]),
        state=None if word is None else state_of(str(word)),
        word=None if word is None else str(word)[:100],
        result_id=None if result in (None, "") else str(result),
    )


def _pipeline(data: Any) -> Pipeline:
    trigger = data.get("trigger") or {}
    return Pipeline(
        tasks=tuple(each_of(data, "tasks", _task)),
        pushes=tuple((str(one["name"]), str(one["branch"])) for one in trigger.get("repository") or ()),
        description=str(data.get("description") or ""),
    )


def _task(data: Any) -> BuildTask | DeployTask:
    config, after = data["config"], tuple(str(one) for one in data.get("linkedTasks") or ())
    if data["type"] == "SourceBuild":
        return BuildTask(name=str(data["name"]), project_id=int(config["projectId"]), after=after)
    if data["type"] != "SourceDeploy":
        raise ValueError("a task of an unknown kind")
    return DeployTask(
        name=str(data["name"]),
        project_id=int(config["projectId"]),
        stage_id=int(config["stageId"]),
        scenario_id=int(config["scenarioId"]),
        after=after,
    )
