"""The client against a Naver Cloud that checks signatures, bodies, ids and names, and fails on demand."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from klepaas.errors import AuthenticationFailed, Conflict, PermissionMissing, Unavailable
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.client import NcpClient, keys_of
from klepaas.targets.ncp.endpoints import endpoints_of
from klepaas.targets.ncp.manifest import MANIFEST_PATH, Wanted, manifest_for
from klepaas.targets.ncp.names import SCENARIO, STAGE, chain_names
from klepaas.targets.ncp.nks import Nks
from klepaas.targets.ncp.registry import Registry
from klepaas.targets.ncp.sourcebuild import BuildSettings, SourceBuild
from klepaas.targets.ncp.sourcecommit import SourceCommit
from klepaas.targets.ncp.sourcedeploy import Cluster, Scenario, SourceDeploy
from klepaas.targets.ncp.sourcepipeline import BuildTask, DeployTask, Pipeline, SourcePipeline
from klepaas.targets.ncp.states import RunState
from klepaas.testing.ncp import StandInNcp

NAMES = chain_names("Team", "shop")
SHA = "a" * 40


@dataclass
class Cloud:
    ncp: StandInNcp
    client: NcpClient
    registry: Registry

    def __post_init__(self) -> None:
        self.commits, self.builds = SourceCommit(self.client), SourceBuild(self.client)
        self.deploys, self.pipelines = SourceDeploy(self.client), SourcePipeline(self.client)
        self.nks = Nks(self.client)

    async def settings(self, tag: str = SHA) -> BuildSettings:
        return BuildSettings(
            repository=NAMES.repository,
            branch="main",
            machine=await self.builds.machine(),
            registry=self.ncp.registry_name,
            image=NAMES.image,
            tag=tag,
            variables=(("IMAGE_TAG", tag),),
            description="image build of Team/shop",
        )

    async def chain(self) -> tuple[int, int, int, int, int, int]:
        """Everything for one project; the ids."""
        repository = await self.commits.ensure(NAMES.repository, description="mirror of Team/shop")
        build = await self.builds.ensure(NAMES.build, await self.settings())
        deploy = (await self.deploys.ensure(NAMES.deploy)).value.id
        number = (await self.deploys.clusters())[0].id
        stage = (await self.deploys.ensure_stage(deploy, STAGE, [Cluster(number=number)])).value.id
        wanted = Scenario(repository=NAMES.repository, branch="main")
        scenario = (await self.deploys.ensure_scenario(deploy, stage, SCENARIO, wanted)).value.id
        tasks = (
            BuildTask(name="build", project_id=build.value.id),
            DeployTask(name="deploy", project_id=deploy, stage_id=stage, scenario_id=scenario, after=("build",)),
        )
        pipeline = (await self.pipelines.ensure(NAMES.pipeline, Pipeline(tasks=tasks))).value.id
        return repository.value.id, build.value.id, deploy, stage, scenario, pipeline

    def push(self, tag: str = SHA) -> None:
        """What the mirror holds: the app, and the manifest that deploys this tag."""
        image = f"{self.ncp.registry_host}/{NAMES.image}:{tag}"
        made = manifest_for(None, Wanted(app=NAMES.app, image=image, replicas=2))
        self.ncp.repositories[NAMES.repository].commit(
            {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n", MANIFEST_PATH: made.content}
        )

    def counts(self) -> tuple[int, int, int, int]:
        ncp = self.ncp
        return len(ncp.repositories), len(ncp.build_projects), len(ncp.deploy_projects), len(ncp.pipeline_projects)


def settings_for(ncp: StandInNcp) -> NcpSettings:
    return NcpSettings.model_validate(
        {name.removeprefix("KLEPAAS_NCP_").lower(): value for name, value in ncp.endpoints.items()}
    )


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    with StandInNcp(build_time_ms=20, deploy_time_ms=20) as ncp:
        settings = settings_for(ncp)
        client = NcpClient(
            keys_of(settings), endpoints_of(settings), budgets=Budgets(6000), looks_s=(0.02, 0.05, 0.1, 0.2, 0.4)
        )
        registry = Registry.of(settings, budgets=Budgets(6000))
        yield Cloud(ncp, client, registry)
        await client.close()
        await registry.close()


async def ended(state: Callable[[], Awaitable[RunState | None]]) -> RunState:
    for _ in range(400):
        seen = await state()
        if seen is not None and seen.is_final:
            return seen
        await asyncio.sleep(0.01)
    raise AssertionError("the run did not end")


async def test_the_chain_is_made_once_and_found_again(cloud: Cloud) -> None:
    first = await cloud.chain()
    second = await cloud.chain()

    assert first == second
    assert cloud.counts() == (1, 1, 1, 1)
    assert all(number > 1000 for number in first)


async def test_what_was_made_reads_as_it_was_wanted(cloud: Cloud) -> None:
    """So that drift can be seen, and repaired."""
    _, build, deploy, stage, scenario, pipeline = await cloud.chain()
    project = await cloud.builds.project(build)
    made = await cloud.pipelines.pipeline(pipeline)

    assert project is not None
    assert project.settings == await cloud.settings()
    assert await cloud.deploys.scenario(deploy, stage, scenario) == Scenario(repository=NAMES.repository, branch="main")
    assert (await cloud.deploys.stage(deploy, stage)).cluster == Cluster(number=cloud.ncp.cluster.number)
    assert made is not None
    assert [task.name for task in made.tasks] == ["build", "deploy"]


async def test_drift_is_repaired(cloud: Cloud) -> None:
    _, build, deploy, stage, scenario, pipeline = await cloud.chain()
    project = await cloud.builds.project(build)
    assert project is not None
    changed = await cloud.builds.set_tag(project, "b" * 40)
    other = Scenario(repository=NAMES.repository, branch="main", strategy="blueGreen")
    await cloud.deploys.change_scenario(deploy, stage, scenario, other)
    await cloud.deploys.point_stage(
        deploy, await cloud.deploys.stage(deploy, stage), Cluster(uuid=cloud.ncp.cluster.uuid)
    )
    found = await cloud.pipelines.pipeline(pipeline)
    assert found is not None
    await cloud.pipelines.change(pipeline, replace(found, pushes=((NAMES.repository, "main"),)))

    assert await cloud.builds.project(build) == changed
    assert changed.settings is not None
    assert changed.settings.tag == "b" * 40
    assert await cloud.deploys.scenario(deploy, stage, scenario) == other
    after = await cloud.pipelines.pipeline(pipeline)
    assert after is not None
    assert after.pushes == ((NAMES.repository, "main"),)


async def test_every_answer_of_making_the_chain_may_be_lost(cloud: Cloud) -> None:
    """R-30: one of each, whatever is lost; lists lag behind too."""
    cloud.ncp.faults.lags.objects = 60
    cloud.ncp.faults.lose_answer(times=None)
    ids = await cloud.chain()
    cloud.ncp.faults.clear()

    assert await cloud.chain() == ids
    assert cloud.counts() == (1, 1, 1, 1)


async def test_an_image_is_built_found_deployed_and_seen(cloud: Cloud) -> None:
    _, build, deploy, stage, scenario, _ = await cloud.chain()
    cloud.push()
    assert await cloud.registry.find(NAMES.image, SHA) is None
    built = await cloud.builds.start(build, known=())

    async def build_state() -> RunState | None:
        return next((run.state for run in await cloud.builds.runs(build) if run.id == built.id), None)

    assert await ended(build_state) is RunState.SUCCEEDED
    found = await cloud.registry.find(NAMES.image, SHA)
    assert found is not None
    assert found.digest == cloud.ncp.digest_of(NAMES.image, SHA)
    assert await cloud.registry.find(NAMES.image, found.digest) is not None
    assert await cloud.registry.tags(NAMES.image) == [SHA]

    started = await cloud.deploys.start(deploy, stage, scenario, known=())

    async def deploy_state() -> RunState | None:
        run = await cloud.deploys.run(deploy, started.id, is_polling=True)
        return run.state if run else None

    assert await ended(deploy_state) is RunState.SUCCEEDED


@pytest.mark.parametrize("in_a_list", [False, True])
async def test_a_pipeline_builds_and_deploys_once(cloud: Cloud, in_a_list: bool) -> None:
    cloud.ncp.faults.quirks.history_in_a_list = in_a_list
    *_, pipeline = await cloud.chain()
    cloud.push()
    cloud.ncp.faults.lose_answer()
    started = await cloud.pipelines.start(pipeline, known=())
    again = await cloud.pipelines.start(pipeline, known=())

    async def state() -> RunState | None:
        return (await cloud.pipelines.run(pipeline, started.id, is_polling=True)).run.state

    assert await ended(state) is RunState.SUCCEEDED
    assert started.was_adopted
    assert again.id == started.id
    assert len(cloud.ncp.pipelines) == len(cloud.ncp.builds) == len(cloud.ncp.deploys) == 1
    tasks = (await cloud.pipelines.run(pipeline, started.id)).tasks
    assert [(task.name, task.state) for task in tasks] == [("build", "succeeded"), ("deploy", "succeeded")]
    assert [task.result_id for task in tasks] == [cloud.ncp.builds[0].id, str(cloud.ncp.deploys[0].id)]


async def test_a_lost_start_is_found_though_the_history_lags(cloud: Cloud) -> None:
    """R-30."""
    _, build, deploy, stage, scenario, _ = await cloud.chain()
    cloud.push()
    cloud.ncp.create_image(NAMES.image, SHA)
    cloud.ncp.faults.lags.runs = 60
    cloud.ncp.faults.lose_answer(times=2)
    built = await cloud.builds.start(build, known=())
    deployed = await cloud.deploys.start(deploy, stage, scenario, known=())

    assert built.was_adopted
    assert deployed.was_adopted
    assert [run.id for run in cloud.ncp.builds] == [built.id]
    assert [str(run.id) for run in cloud.ncp.deploys] == [deployed.id]


async def test_a_run_of_somebody_else_is_in_the_way(cloud: Cloud) -> None:
    *_, pipeline = await cloud.chain()
    cloud.push()
    cloud.ncp.build_time_ms = 60_000
    running = cloud.ncp.start_pipeline(NAMES.pipeline)
    with pytest.raises(Conflict, match="still going"):
        await cloud.pipelines.start(pipeline, known={str(running)})

    assert len(cloud.ncp.pipelines) == 1


@pytest.mark.parametrize("key", ["clusterNo", "clusterUuid"])
async def test_a_stage_names_its_cluster_as_the_service_takes_it(cloud: Cloud, key: str) -> None:
    cloud.ncp.faults.quirks.cluster_key = key  # type: ignore[assignment]
    deploy = (await cloud.deploys.ensure(NAMES.deploy)).value.id
    both = [Cluster(number=cloud.ncp.cluster.number), Cluster(uuid=cloud.ncp.cluster.uuid)]
    stage = await cloud.deploys.ensure_stage(deploy, STAGE, both)

    assert stage.was_made
    assert (await cloud.deploys.stage(deploy, stage.value.id)).cluster_name == cloud.ncp.cluster.name


async def test_a_wrong_clock_is_said(cloud: Cloud) -> None:
    cloud.ncp.faults.clock_skew_s = 600
    with pytest.raises(AuthenticationFailed, match=r"clock is 10\.0 minutes behind Naver Cloud's") as caught:
        await cloud.commits.repositories()

    assert "NTP" in caught.value.hint


async def test_a_revoked_key_and_a_missing_permission_are_told_apart(cloud: Cloud) -> None:
    cloud.ncp.faults.deny(door="sourcebuild")
    with pytest.raises(PermissionMissing):
        await cloud.builds.projects()
    cloud.ncp.faults.clear()
    cloud.ncp.revoke_key(cloud.ncp.access_key)
    with pytest.raises(AuthenticationFailed):
        await cloud.builds.projects()
    with pytest.raises(AuthenticationFailed):
        await cloud.registry.find(NAMES.image, SHA)


async def test_the_registry_that_forbids_is_not_the_registry_that_lacks(cloud: Cloud) -> None:
    cloud.ncp.create_image(NAMES.image, SHA)
    cloud.ncp.faults.deny(door="registry")
    with pytest.raises(PermissionMissing):
        await cloud.registry.find(NAMES.image, SHA)
    cloud.ncp.faults.clear()

    assert await cloud.registry.find(NAMES.image, SHA) is not None
    assert await cloud.registry.find(NAMES.image, "b" * 40) is None


async def test_hiccups_are_read_over(cloud: Cloud) -> None:
    """R-27."""
    await cloud.chain()
    cloud.ncp.faults.fail(times=2, status=503, door="sourcebuild")
    cloud.ncp.faults.cut(times=2, door="sourcedeploy")

    assert [one.name for one in await cloud.builds.projects()] == [NAMES.build]
    assert await cloud.deploys.find(NAMES.deploy) is not None


async def test_a_service_that_hangs_is_left_in_time(cloud: Cloud) -> None:
    cloud.ncp.faults.hang(door="nks")
    settings = settings_for(cloud.ncp)
    client = NcpClient(keys_of(settings), endpoints_of(settings), answer_within_s=0.1, budgets=Budgets(6000))
    with pytest.raises(Unavailable, match="does not answer"):
        await Nks(client).clusters()
    await client.close()


async def test_the_cluster_is_found_with_its_kubeconfig(cloud: Cloud) -> None:
    [found] = await cloud.nks.clusters()

    assert found.uuid == cloud.ncp.cluster.uuid
    assert await cloud.nks.cluster(found.uuid) == found
    assert await cloud.nks.kubeconfig(found.uuid) == cloud.ncp.kubeconfig


async def test_the_chain_is_taken_down_and_again(cloud: Cloud) -> None:
    repository, build, deploy, _, _, pipeline = await cloud.chain()
    for _ in range(2):
        await cloud.pipelines.remove(pipeline)
        await cloud.deploys.remove(deploy)
        await cloud.builds.remove(build)
        await cloud.commits.remove(repository)

    assert cloud.counts() == (0, 0, 0, 0)
    assert await cloud.builds.project(build) is None
    assert await cloud.pipelines.pipeline(pipeline) is None


async def test_git_addresses_hold_no_user(cloud: Cloud) -> None:
    """S-05."""
    made = (await cloud.commits.ensure(NAMES.repository)).value

    assert made.git_url is not None
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/3000001/Team-shop\.git", made.git_url)
    assert (await cloud.commits.branches(NAMES.repository)).names == ()
