"""SourceDeploy: projects with stages (where), scenarios (what and how) and runs that apply manifests to a cluster.

A project cannot be asked for by its id, nor anything by its name: both are found in lists."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from klepaas.errors import Conflict, Invalid, Rejected
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import Service
from klepaas.targets.ncp.making import Ensured, ensured
from klepaas.targets.ncp.names import check_name
from klepaas.targets.ncp.reading import Listed, each_of, id_of, listed, named, understood
from klepaas.targets.ncp.refusal import is_duplicate, is_missing
from klepaas.targets.ncp.run import Run, Started, deploy_run, start_once

SERVICE = Service.SOURCE_DEPLOY
PAGE = 100
"""The longest page of its lists; also what it sends when none is asked for."""
MAX_PAGES = 50


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """As a stage names it: by its number in the guide, by its UUID in the provider's client library."""

    number: int | None = None
    uuid: str | None = None

    def config(self) -> dict[str, Any]:
        """Never empty: such a stage is made without a word, and no scenario works under it. Errors: Invalid."""
        if self.number is not None:
            return {"clusterNo": self.number}
        if self.uuid:
            return {"clusterUuid": self.uuid}
        raise Invalid("No cluster is named for the stage.", hint="Set KLEPAAS_NCP_NKS_CLUSTER_ID.")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`cluster` is None for a stage that is no cluster, or names none."""

    id: int
    name: str
    cluster: Cluster | None
    cluster_name: str | None


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Which files of which branch are applied, and how: `rolling`, `blueGreen` or `canary`."""

    repository: str
    branch: str
    paths: tuple[str, ...] = ("k8s/deployment.yaml",)
    strategy: str = "rolling"
    description: str = ""

    def body(self) -> dict[str, Any]:
        return {
            "description": self.description[:500],
            "config": {
                "strategy": self.strategy,
                "manifest": {
                    "type": "SourceCommit",
                    "repository": self.repository,
                    "branch": self.branch,
                    "path": list(self.paths),
                },
            },
        }


class SourceDeploy:
    def __init__(self, client: NcpClient) -> None:
        self._client = client

    async def clusters(self) -> Sequence[Listed]:
        """Those that a stage may name, with their numbers."""
        data = await self._client.get(SERVICE, "/kubernetes/cluster")
        with understood(SERVICE):
            return each_of(data, "clusterList", listed)

    async def projects(self) -> Sequence[Listed]:
        return await self._all("/project", "projectList")

    async def find(self, name: str) -> Listed | None:
        return named(await self.projects(), name)

    async def ensure(self, name: str) -> Ensured[Listed]:
        """Nothing but the name is sent: with more, the service makes a project that cannot be used."""
        check_name(name, "SourceDeploy project", 100)
        return await self._ensure("/project", "projectList", {"name": name}, f"the SourceDeploy project {name}")

    async def find_stage(self, project_id: int, name: str) -> Listed | None:
        return named(await self._all(f"/project/{int(project_id)}/stage", "stageList"), name)

    async def stage(self, project_id: int, stage_id: int) -> Stage:
        data = await self._client.get(SERVICE, f"/project/{int(project_id)}/stage/{int(stage_id)}")
        with understood(SERVICE):
            return _stage(data)

    async def ensure_stage(self, project_id: int, name: str, clusters: Sequence[Cluster]) -> Ensured[Listed]:
        """`clusters` are names for one and the same cluster: the next is tried when the service refuses one and
        made no stage."""
        check_name(name, "SourceDeploy stage", 100)
        path = f"/project/{int(project_id)}/stage"
        bodies = [{"name": name, "type": "KubernetesService", "config": one.config()} for one in clusters]
        if not bodies:
            raise Invalid("No cluster is named for the stage.", hint="Set KLEPAAS_NCP_NKS_CLUSTER_ID.")
        for position, body in enumerate(bodies):
            try:
                return await self._ensure(path, "stageList", body, f"the stage {name}")
            except Conflict:
                raise
            except Rejected as refused:
                is_last = position == len(bodies) - 1
                if is_last or is_duplicate(refused) or refused.evidence.get("status") not in {400, 404, 422}:
                    raise
        raise AssertionError("the last name returns or raises")

    async def point_stage(self, project_id: int, stage: Stage, cluster: Cluster) -> None:
        body = {"name": stage.name, "type": "KubernetesService", "config": cluster.config()}
        await self._client.change(SERVICE, "PATCH", f"/project/{int(project_id)}/stage/{stage.id}", body)

    async def find_scenario(self, project_id: int, stage_id: int, name: str) -> Listed | None:
        return named(await self._all(_scenarios(project_id, stage_id), "scenarioList"), name)

    async def scenario(self, project_id: int, stage_id: int, scenario_id: int) -> Scenario | None:
        """None when it applies something else than files of SourceCommit."""
        data = await self._client.get(SERVICE, f"{_scenarios(project_id, stage_id)}/{int(scenario_id)}")
        with understood(SERVICE):
            return _scenario(data)

    async def ensure_scenario(self, project_id: int, stage_id: int, name: str, wanted: Scenario) -> Ensured[Listed]:
        """One that is there already is left as it is: compare `scenario(…)` and `change_scenario`."""
        body = {"name": check_name(name, "SourceDeploy scenario", 100), **wanted.body()}
        return await self._ensure(_scenarios(project_id, stage_id), "scenarioList", body, f"the scenario {name}")

    async def change_scenario(self, project_id: int, stage_id: int, scenario_id: int, wanted: Scenario) -> None:
        path = f"{_scenarios(project_id, stage_id)}/{int(scenario_id)}"
        await self._client.change(SERVICE, "PATCH", path, wanted.body())

    async def start(self, project_id: int, stage_id: int, scenario_id: int, *, known: Collection[str]) -> Started:
        """`known`: see `start_once`. The manifest is read from its branch when the run begins."""
        path = f"{_scenarios(project_id, stage_id)}/{int(scenario_id)}/deploy"

        async def start() -> str:
            data = await self._client.change(SERVICE, "POST", path)
            with understood(SERVICE):
                return str(data["historyId"] if "historyId" in data else data["deployId"])

        async def runs() -> Sequence[Run]:
            found = await self.runs(project_id)
            return [run for run in found if run.scenario_id in {None, int(scenario_id)}]

        what = f"SourceDeploy project {project_id}"
        return await start_once(start, runs, known=known, looks_s=self._client.looks_s, what=what)

    async def runs(self, project_id: int, *, is_polling: bool = False) -> Sequence[Run]:
        """The last page, at most a hundred, in the order of the service, which it does not promise."""
        data = await self._client.get(SERVICE, f"/project/{int(project_id)}/history", is_polling=is_polling)
        with understood(SERVICE):
            return each_of(data, "historyList", deploy_run)

    async def run(self, project_id: int, run_id: str, *, is_polling: bool = False) -> Run | None:
        path = f"/project/{int(project_id)}/history/{int(run_id)}"
        try:
            data = await self._client.get(SERVICE, path, is_polling=is_polling)
        except Rejected as refused:
            if is_missing(refused):
                return None
            raise
        with understood(SERVICE):
            return deploy_run(data)

    async def cancel(self, project_id: int, run_id: str) -> None:
        await self._client.change(SERVICE, "POST", f"/project/{int(project_id)}/history/{int(run_id)}/cancel")

    async def remove(self, project_id: int) -> None:
        """With its stages and scenarios. What is gone already is no error."""
        try:
            await self._client.change(SERVICE, "DELETE", f"/project/{int(project_id)}")
        except Rejected as refused:
            if not is_missing(refused):
                raise

    async def _ensure(self, path: str, key: str, body: Mapping[str, Any], what: str) -> Ensured[Listed]:
        name = str(body["name"])

        async def find() -> Listed | None:
            return named(await self._all(path, key), name)

        async def make() -> Listed:
            data = await self._client.change(SERVICE, "POST", path, body)
            with understood(SERVICE):
                return Listed(id=id_of(data), name=name)

        return await ensured(find, make, looks_s=self._client.looks_s, what=what)

    async def _all(self, path: str, key: str) -> list[Listed]:
        found: list[Listed] = []
        for page in range(1, MAX_PAGES + 1):
            data = await self._client.get(SERVICE, path, query={"pageNo": page, "pageSize": PAGE})
            with understood(SERVICE):
                part = each_of(data, key, listed)
            found += [one for one in part if one not in found]
            if len(part) < PAGE:
                break
        return found


def _scenarios(project_id: int, stage_id: int) -> str:
    return f"/project/{int(project_id)}/stage/{int(stage_id)}/scenario"


def _stage(data: Any) -> Stage:
    config = data.get("config") or {}
    number, uuid = config.get("clusterNo"), config.get("clusterUuid")
    cluster = Cluster(number=int(number)) if number is not None else Cluster(uuid=str(uuid)) if uuid else None
    is_cluster = data.get("type") == "KubernetesService"
    return Stage(
        id=int(data["id"]),
        name=str(data["name"]),
        cluster=cluster if is_cluster else None,
        cluster_name=config.get("clusterName"),
    )


def _scenario(data: Any) -> Scenario | None:
    config = data.get("config") or {}
    manifest = config.get("manifest")
    if not isinstance(manifest, dict) or manifest.get("type") != "SourceCommit":
        return None
    return Scenario(
        repository=str(manifest["repository"]),
        branch=str(manifest["branch"]),
        paths=tuple(str(one) for one in manifest["path"]),
        strategy=str(config["strategy"]),
        description=str(data.get("description") or ""),
    )
