"""The links of a chain, one method each: find it by its id, else by its name, else make it; then put right what
drifted. What is left alone is what a team may have chosen in the console: machines, time limits, commands, further
variables and further manifests."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from klepaas.errors import AnswerLost, Rejected
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.chain_work import Work
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.clusters import configured_cluster, names_of_cluster
from klepaas.targets.ncp.making import Ensured, appears
from klepaas.targets.ncp.manifest import MANIFEST_PATH
from klepaas.targets.ncp.names import SCENARIO, STAGE
from klepaas.targets.ncp.reading import Listed
from klepaas.targets.ncp.refusal import SCENARIO_NOT_UNDERSTOOD, SOURCE_NOT_ACCEPTABLE, is_missing
from klepaas.targets.ncp.sourcebuild import BuildSettings, SourceBuild
from klepaas.targets.ncp.sourcecommit import SourceCommit, SourceRepository
from klepaas.targets.ncp.sourcedeploy import Scenario, SourceDeploy, Stage
from klepaas.targets.ncp.sourcepipeline import BuildTask, DeployTask, Pipeline, SourcePipeline

T = TypeVar("T")

FIRST_TAG = "latest"
"""Until klepaas sets that of a commit, before each build."""
BUILD_TIMEOUT_MIN = 60


class Links:
    """Each method returns the id, which is in the book by then."""

    def __init__(self, client: NcpClient, settings: NcpSettings, work: Work) -> None:
        self._settings, self._work, self._client = settings, work, client
        self._commits, self._builds = SourceCommit(client), SourceBuild(client)
        self._deploys, self._pipelines = SourceDeploy(client), SourcePipeline(client)

    async def repository(self) -> SourceRepository:
        work, name = self._work, self._work.names["repository"]
        found = await self._commits.ensure(name, description=f"mirror of {work.project.repository.display}")
        one = found.value
        url = one.git_url or self._pattern(name)
        account = re.fullmatch(r"/([0-9]+)/[^/]+", urlsplit(url).path)
        place = self._settings.sourcecommit_project_id or (account[1] if account else work.project.sc_project_id)
        is_known = work.number("repository_id") == one.id
        await work.note(repository_id=one.id, git_url=url, sc_project_id=place)
        await self._say(found.was_made, is_known, f"the SourceCommit repository {name} ({one.id})")
        return one

    async def build(self) -> int:
        name, number = self._work.names["build"], self._work.number("build_project_id")
        project = None if number is None else await self._builds.project(number)
        if project is None:
            wanted = self._build_settings(None, await self._first_build())
            made = await self._patiently(lambda: self._builds.ensure(name, wanted), {SOURCE_NOT_ACCEPTABLE})
            number = await self._settled(made, "build_project_id", "SourceBuild project", self._builds.find)
            if made.was_made:
                return number
            project = await self._builds.project(number)
        if project is not None:
            settings = self._build_settings(project.settings, project.settings or await self._first_build())
            if settings != project.settings:
                await self._again(lambda: self._builds.change(project.id, settings))
                await self._work.changed(f"Set the SourceBuild project {project.name} to {_build_words(settings)}.")
            return project.id
        raise AnswerLost(f"The SourceBuild project {name} is listed and not shown.", hint="Try again in a minute.")

    async def deploy(self) -> int:
        name, number = self._work.names["deploy"], self._work.number("deploy_project_id")
        if number is not None and any(one.id == number for one in await self._deploys.projects()):
            return number
        made = await self._deploys.ensure(name)
        return await self._settled(made, "deploy_project_id", "SourceDeploy project", self._deploys.find)

    async def stage(self, deploy_id: int) -> int:
        number = self._work.number("stage_id")
        stage = None if number is None else await _or_none(self._deploys.stage(deploy_id, number))
        if stage is None:
            clusters = await names_of_cluster(self._client, self._settings)
            made = await self._patiently(lambda: self._deploys.ensure_stage(deploy_id, STAGE, clusters), ())

            async def find(name: str) -> Listed | None:
                return await self._deploys.find_stage(deploy_id, name)

            number = await self._settled(made, "stage_id", "stage", find)
            if made.was_made:
                return number
            stage = await self._deploys.stage(deploy_id, number)
        await self._point(deploy_id, stage)
        return stage.id

    async def _point(self, deploy_id: int, stage: Stage) -> None:
        """At the cluster, by whichever of its names the service takes."""
        if stage.cluster == configured_cluster(self._settings):
            return
        clusters = await names_of_cluster(self._client, self._settings)
        if stage.cluster in clusters:
            return
        for position, cluster in enumerate(clusters):
            try:
                await self._again(partial(self._deploys.point_stage, deploy_id, stage, cluster))
                break
            except Rejected:
                if position == len(clusters) - 1:
                    raise
        was = f", away from {stage.cluster_name}" if stage.cluster_name else ""
        await self._work.changed(f"Pointed the stage {stage.name} to the configured cluster{was}.")

    async def scenario(self, deploy_id: int, stage_id: int) -> int:
        wanted = Scenario(
            repository=self._work.names["repository"],
            branch=self._work.project.branch,
            description=f"rolling update of {self._work.project.repository.display}",
        )
        number = self._work.number("scenario_id")
        listed = None if number is None else await self._listed_scenario(deploy_id, stage_id, number)
        if listed is None:
            made = await self._patiently(
                lambda: self._deploys.ensure_scenario(deploy_id, stage_id, SCENARIO, wanted), {SCENARIO_NOT_UNDERSTOOD}
            )

            async def find(name: str) -> Listed | None:
                return await self._deploys.find_scenario(deploy_id, stage_id, name)

            number = await self._settled(made, "scenario_id", "scenario", find)
            if made.was_made:
                return number
            listed = made.value
        found = await self._deploys.scenario(deploy_id, stage_id, listed.id)
        if found is not None:
            paths = found.paths if MANIFEST_PATH in found.paths else wanted.paths
            wanted = replace(wanted, paths=paths, description=found.description)
        if found != wanted:
            await self._again(lambda: self._deploys.change_scenario(deploy_id, stage_id, listed.id, wanted))
            await self._work.changed(
                f"Set the scenario {listed.name} to a rolling update with {', '.join(wanted.paths)} "
                f"of {wanted.repository}, branch {wanted.branch}."
            )
        return listed.id

    async def _listed_scenario(self, deploy_id: int, stage_id: int, number: int) -> Listed | None:
        found = await self._deploys.find_scenario(deploy_id, stage_id, SCENARIO)
        return found if found is not None and found.id == number else None

    async def pipeline(self, build_id: int, deploy_id: int, stage_id: int, scenario_id: int) -> int:
        """Without a trigger: klepaas starts every run itself (decision record 0011)."""
        name, number = self._work.names["pipeline"], self._work.number("pipeline_id")
        deploy = DeployTask(
            name="deploy", project_id=deploy_id, stage_id=stage_id, scenario_id=scenario_id, after=("build",)
        )
        wanted = Pipeline(
            tasks=(BuildTask(name="build", project_id=build_id), deploy),
            description=f"build and deploy {self._work.project.repository.display}",
        )
        if number is None or not any(one.id == number for one in await self._pipelines.pipelines()):
            made = await self._patiently(lambda: self._pipelines.ensure(name, wanted), ())
            number = await self._settled(made, "pipeline_id", "SourcePipeline project", self._pipelines.find)
            if made.was_made:
                return number
        found = await self._read_pipeline(number)
        if found is None or (found.tasks, found.pushes) != (wanted.tasks, wanted.pushes):
            await self._again(lambda: self._pipelines.change(number, wanted))
            away = ", without a start at each push" if found is not None and found.pushes else ""
            await self._work.changed(f"Set the SourcePipeline project {name} to build and then deploy{away}.")
        return number

    async def _read_pipeline(self, number: int) -> Pipeline | None:
        """None when it has tasks that klepaas does not set up."""
        try:
            return await self._pipelines.pipeline(number)
        except Rejected as refused:
            if "status" in refused.evidence:
                raise
            return None

    def _build_settings(self, found: BuildSettings | None, base: BuildSettings) -> BuildSettings:
        """What ours is, over what is there."""
        ours = replace(
            base,
            repository=self._work.names["repository"],
            branch=self._work.project.branch,
            registry=self._settings.registry_name or "",
            image=self._work.names["image"],
            dockerfile=self._work.project.settings.dockerfile or base.dockerfile,
        )
        return ours.tagged(found.tag if found else FIRST_TAG)

    async def _first_build(self) -> BuildSettings:
        names = self._work.names
        return BuildSettings(
            repository=names["repository"],
            branch=self._work.project.branch,
            machine=await self._builds.machine(),
            registry=self._settings.registry_name or "",
            image=names["image"],
            tag=FIRST_TAG,
            timeout_min=BUILD_TIMEOUT_MIN,
            description=f"image build of {self._work.project.repository.display}",
        )

    async def _settled(
        self, made: Ensured[Listed], column: str, what: str, find: Callable[[str], Awaitable[Listed | None]]
    ) -> int:
        """Written down, said, and shown by the service: what comes next names it."""
        one = made.value
        is_known = self._work.number(column) == one.id
        await self._work.note(**{column: one.id})
        await self._say(made.was_made, is_known, f"the {what} {one.name} ({one.id})")
        if made.was_made:
            await appears(lambda: find(one.name), (0.0, *self._client.looks_s))
        return one.id

    async def _say(self, was_made: bool, is_known: bool, what: str) -> None:
        if was_made:
            await self._work.changed(f"Made {what}.")
        elif not is_known:
            await self._work.changed(f"Adopted {what}, which was there already.")

    async def _patiently(self, make: Callable[[], Awaitable[T]], codes: Collection[str]) -> T:
        """What was made a moment ago may not have reached this service yet: it says that it is missing, or one of
        `codes`. A refusal did nothing, so asking again is safe."""
        for rest_s in self._client.looks_s[:-1] if self._work.changes else ():
            try:
                return await make()
            except Rejected as refused:
                if not is_missing(refused) and refused.evidence.get("provider_code") not in codes:
                    raise
            await asyncio.sleep(rest_s)
        return await make()

    async def _again(self, change: Callable[[], Awaitable[None]]) -> None:
        """Setting the same thing twice is setting it once."""
        try:
            await change()
        except AnswerLost:
            await change()

    def _pattern(self, name: str) -> str:
        account = self._settings.sourcecommit_project_id
        if account is None:
            raise Rejected(
                f"SourceCommit does not say where the repository {name} is reached by git.",
                hint="Set KLEPAAS_NCP_SOURCECOMMIT_PROJECT_ID to the seven digits in its git addresses.",
            )
        return f"https://devtools.ncloud.com/{account}/{name}.git"


async def _or_none(look: Awaitable[T]) -> T | None:
    try:
        return await look
    except Rejected as refused:
        if is_missing(refused):
            return None
        raise


def _build_words(settings: BuildSettings) -> str:
    return (
        f"build {settings.registry}/{settings.image} from {settings.dockerfile} of {settings.repository}, "
        f"branch {settings.branch}"
    )
