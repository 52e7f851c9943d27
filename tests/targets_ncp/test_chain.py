"""The chain of a project, made at a Naver Cloud that is strict, lags, loses answers and fails on demand."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from klepaas.domain.project import Project, ProjectSettings
from klepaas.domain.repository import parse_repository
from klepaas.errors import Conflict, PermissionMissing, Rejected, Unavailable
from klepaas.settings import NcpSettings
from klepaas.storage.chains import ChainTable
from klepaas.storage.database import Database
from klepaas.storage.migrate import migrate
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.chain import Chains, chain_of, known_or_refused
from klepaas.targets.ncp.client import NcpClient, keys_of
from klepaas.targets.ncp.endpoints import Service, endpoints_of
from klepaas.targets.ncp.names import STAGE
from klepaas.targets.ncp.sourcebuild import SourceBuild
from klepaas.targets.ncp.sourcedeploy import Cluster, Scenario, SourceDeploy
from klepaas.targets.ncp.sourcepipeline import Pipeline, SourcePipeline
from klepaas.testing.ncp import StandInNcp
from tests.storage.worlds import NOW, Memory

LOOKS_S = (0.01, 0.02, 0.05, 0.1, 0.2)


class Killed(BaseException):
    """This process ended here."""


@dataclass
class Crash:
    """Ends the process at one of the points it passes; None: at none."""

    at: int | None = None
    passed: int = 0

    def point(self) -> None:
        self.passed += 1
        if self.at == self.passed:
            raise Killed


class FragileClient(NcpClient):
    crash = Crash()

    async def change(self, service: Service, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        self.crash.point()
        answer = await super().change(service, method, path, body)
        self.crash.point()
        return answer


class FragileBook(ChainTable):
    crash = Crash()

    async def note(self, project_id: str, known: Mapping[str, Any]) -> None:
        await super().note(project_id, known)
        self.crash.point()


@dataclass
class House:
    ncp: StandInNcp
    memory: Memory
    client: FragileClient
    settings: NcpSettings

    @property
    def book(self) -> FragileBook:
        return FragileBook(self.memory.database)

    def chains(self, **settings: object) -> Chains:
        return Chains(self.client, self.settings.model_copy(update=settings), self.book)

    async def project(self, repository: str = "Team/shop", **changes: object) -> Project:
        owner = (await self.memory.owners.list() or [await self.memory.owner("team")])[0]
        name = changes.pop("name", repository.rpartition("/")[2])
        return await self.memory.project(
            owner=owner, repository=parse_repository(repository), target="ncp", name=str(name).lower(), **changes
        )

    async def again(self, project: Project) -> Project:
        found = await self.memory.projects.get(project.id)
        assert found is not None
        return found

    def counts(self) -> tuple[int, int, int, int]:
        ncp = self.ncp
        return len(ncp.repositories), len(ncp.build_projects), len(ncp.deploy_projects), len(ncp.pipeline_projects)

    def changing_requests(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.ncp.requests if one.method != "GET"]


def settings_for(ncp: StandInNcp) -> NcpSettings:
    return NcpSettings.model_validate(
        {name.removeprefix("KLEPAAS_NCP_").lower(): value for name, value in ncp.endpoints.items()}
    )


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once for all: that takes longer than most of these tests."""
    path = tmp_path_factory.mktemp("empty") / "klepaas.db"

    async def made() -> None:
        database = Database(f"sqlite:///{path}")
        await migrate(database)
        await database.close()

    asyncio.run(made())
    return path


@pytest.fixture
async def house(tmp_path: Path, empty_database: Path) -> AsyncIterator[House]:
    shutil.copytree(empty_database.parent, tmp_path, dirs_exist_ok=True)
    database = Database(f"sqlite:///{tmp_path}/klepaas.db")
    with StandInNcp(build_time_ms=20, deploy_time_ms=20) as ncp:
        settings = settings_for(ncp)
        client = FragileClient(
            keys_of(settings), endpoints_of(settings), budgets=Budgets(6000), looks_s=LOOKS_S, answer_within_s=5
        )
        yield House(ncp, Memory(database), client, settings)
        await client.close()
    await database.close()


async def test_the_whole_chain_is_made_and_stored(house: House) -> None:
    """The contract's section 2.3 and 8.1: names, stage, scenario, manifest, image."""
    project = await house.project("K-Le-PaaS/test-01")
    told: list[str] = []

    async def tell(sentence: str) -> None:
        told.append(sentence)

    chain, changes = await house.chains().ensure(project, tell)
    stored = await house.again(project)

    assert house.counts() == (1, 1, 1, 1)
    assert [one.name for one in house.ncp.build_projects] == ["build-K-Le-PaaS-test-01"]
    assert [one.name for one in house.ncp.deploy_projects] == ["deploy-K-Le-PaaS-test-01"]
    assert [one.name for one in house.ncp.pipeline_projects] == ["pipeline-K-Le-PaaS-test-01"]
    assert chain.image_repo == f"{house.ncp.registry_host}/k-le-paas-test-01"
    assert chain_of(stored) == chain
    assert (stored.sc_project_id, stored.sc_repo_name) == ("3000001", "K-Le-PaaS-test-01")
    assert (stored.build_project_id, stored.pipeline_id) == (str(chain.build_project_id), str(chain.pipeline_id))
    assert changes == (
        f"Made the SourceCommit repository K-Le-PaaS-test-01 ({chain.repository_id}).",
        f"Made the SourceBuild project build-K-Le-PaaS-test-01 ({chain.build_project_id}).",
        f"Made the SourceDeploy project deploy-K-Le-PaaS-test-01 ({chain.deploy_project_id}).",
        f"Made the stage production ({chain.stage_id}).",
        f"Made the scenario deploy-app ({chain.scenario_id}).",
        f"Made the SourcePipeline project pipeline-K-Le-PaaS-test-01 ({chain.pipeline_id}).",
    )
    assert told == list(changes)


async def test_what_stands_is_left_as_it_is(house: House) -> None:
    project = await house.project()
    chain, _ = await house.chains().ensure(project)
    house.ncp.forget_requests()

    assert await house.chains().ensure(await house.again(project)) == (chain, ())
    assert house.changing_requests() == []


async def test_nothing_starts_a_run_but_klepaas(house: House) -> None:
    """Decision record 0011: a push to the mirror must not start a second one."""
    chain, _ = await house.chains().ensure(await house.project())
    house.ncp.repositories[chain.repository_name].commit({"Dockerfile": "FROM scratch\n"})

    assert (house.ncp.pipelines, house.ncp.builds, house.ncp.deploys) == ([], [], [])


async def test_a_crash_anywhere_leaves_one_of_each(house: House) -> None:
    """R-30: killed before and after every change and every write, the next visit ends what was begun."""
    at = 0
    while True:
        at += 1
        project = await house.project(f"Team/shop-{at}")
        house.client.crash = FragileBook.crash = Crash(at=at)
        try:
            await house.chains().ensure(project)
            break
        except Killed:
            pass
        house.client.crash = FragileBook.crash = Crash()
        chain, _ = await house.chains().ensure(await house.again(project))

        assert chain_of(await house.again(project)) == chain
        assert house.counts() == (at, at, at, at)
    house.client.crash = FragileBook.crash = Crash()

    assert at > 15
    assert [len(one.stages) for one in house.ncp.deploy_projects] == [1] * at
    assert [len(stage.scenarios) for one in house.ncp.deploy_projects for stage in one.stages.values()] == [1] * at


async def test_every_answer_may_be_lost_while_lists_lag(house: House) -> None:
    """R-30."""
    project = await house.project()
    house.ncp.faults.lags.objects = 60
    house.ncp.faults.lose_answer(times=None)
    chain, changes = await house.chains().ensure(project)

    assert house.counts() == (1, 1, 1, 1)
    assert len(changes) == 6
    assert chain_of(await house.again(project)) == chain


async def test_what_lags_behind_is_waited_for(house: House) -> None:
    """A stage cannot be made in a project that the service does not show yet."""
    house.ncp.faults.lags.objects = 60
    _, changes = await house.chains().ensure(await house.project())

    assert house.counts() == (1, 1, 1, 1)
    assert len(changes) == 6


async def test_two_at_once_make_one_chain(house: House) -> None:
    project = await house.project()
    (first, _), (second, _) = await asyncio.gather(house.chains().ensure(project), house.chains().ensure(project))

    assert first == second
    assert house.counts() == (1, 1, 1, 1)


async def test_what_is_there_by_its_names_is_adopted(house: House) -> None:
    project = await house.project()
    chain, _ = await house.chains().ensure(project)
    await house.book.forget(project.id)

    again, changes = await house.chains().ensure(await house.again(project))

    assert again == chain
    assert [sentence.partition(" ")[0] for sentence in changes] == ["Adopted"] * 6
    assert changes[0].endswith(f"Team-shop ({chain.repository_id}), which was there already.")


async def test_ids_of_an_older_system_are_kept_with_their_names_and_image(house: House) -> None:
    """The contract's 11.35: keep the name for a project that already has it."""
    old, _ = await house.chains().ensure(await house.project("Old/app"))
    imported = await house.project("New/app", name="imported")
    await house.book.forget((await house.memory.projects.named("app", None))[0].id)
    await house.book.note(imported.id, {"sc_repo_name": old.repository_name, "build_project_id": old.build_project_id})
    chain, _ = await house.chains().ensure(await house.again(imported))

    assert (chain.repository_id, chain.build_project_id) == (old.repository_id, old.build_project_id)
    assert (chain.image_repo, chain.app) == (old.image_repo, "old-app")
    assert chain.pipeline_id != old.pipeline_id


async def test_drift_is_repaired_and_said(house: House) -> None:
    project = await house.project()
    chain, _ = await house.chains().ensure(project)
    builds, deploys = SourceBuild(house.client), SourceDeploy(house.client)
    build = await builds.project(chain.build_project_id)
    assert build is not None
    assert build.settings is not None
    drifted = replace(build.settings.tagged("c" * 40), branch="other", image="another", timeout_min=90)
    await builds.change(build.id, drifted)
    elsewhere = Scenario(repository=chain.repository_name, branch="other", strategy="blueGreen")
    await deploys.change_scenario(chain.deploy_project_id, chain.stage_id, chain.scenario_id, elsewhere)
    pipelines = SourcePipeline(house.client)
    pipeline = await pipelines.pipeline(chain.pipeline_id)
    assert pipeline is not None
    triggered = Pipeline(tasks=pipeline.tasks[:1], pushes=((chain.repository_name, "main"),))
    await pipelines.change(chain.pipeline_id, triggered)
    _stage(house).config = {}

    again, changes = await house.chains().ensure(await house.again(project))
    repaired = await builds.project(chain.build_project_id)

    assert again == chain
    assert changes == (
        f"Set the SourceBuild project build-Team-shop to build {house.ncp.registry_name}/team-shop from Dockerfile "
        "of Team-shop, branch main.",
        "Pointed the stage production to the configured cluster.",
        "Set the scenario deploy-app to a rolling update with k8s/deployment.yaml of Team-shop, branch main.",
        "Set the SourcePipeline project pipeline-Team-shop to build and then deploy, without a start at each push.",
    )
    assert repaired is not None
    assert repaired.settings is not None
    assert (repaired.settings.tag, repaired.settings.timeout_min) == ("c" * 40, 90)
    assert await pipelines.pipeline(chain.pipeline_id) == pipeline
    assert (await house.chains().ensure(await house.again(project)))[1] == ()


async def test_what_a_team_added_in_the_console_stays(house: House) -> None:
    project = await house.project()
    chain, _ = await house.chains().ensure(project)
    builds, deploys = SourceBuild(house.client), SourceDeploy(house.client)
    build = await builds.project(chain.build_project_id)
    assert build is not None
    assert build.settings is not None
    theirs = replace(
        build.settings,
        variables=(*build.settings.variables, ("TEAM", "red")),
        commands_before=("echo hello",),
        machine=replace(build.settings.machine, compute_id=2),
    )
    await builds.change(build.id, theirs)
    paths = ("k8s/deployment.yaml", "k8s/extra.yaml")
    scenario = Scenario(repository=chain.repository_name, branch="main", paths=paths, description="ours")
    await deploys.change_scenario(chain.deploy_project_id, chain.stage_id, chain.scenario_id, scenario)

    assert await house.chains().ensure(await house.again(project)) == (chain, ())


async def test_another_branch_of_the_project_is_another_branch_of_the_chain(house: House) -> None:
    project = await house.project()
    await house.chains().ensure(project)
    moved = replace(await house.again(project), branch="release")
    chain, changes = await house.chains().ensure(moved)

    assert chain.branch == "release"
    assert [sentence.split(" to ")[0] for sentence in changes] == [
        "Set the SourceBuild project build-Team-shop",
        "Set the scenario deploy-app",
    ]


async def test_what_was_deleted_in_the_console_is_made_anew(house: House) -> None:
    project = await house.project()
    chain, _ = await house.chains().ensure(project)
    await SourceDeploy(house.client).remove(chain.deploy_project_id)
    await SourceBuild(house.client).remove(chain.build_project_id)
    again, changes = await house.chains().ensure(await house.again(project))

    assert house.counts() == (1, 1, 1, 1)
    assert again.build_project_id != chain.build_project_id
    assert again.pipeline_id == chain.pipeline_id
    assert changes[-1] == "Set the SourcePipeline project pipeline-Team-shop to build and then deploy."
    assert (await house.chains().ensure(await house.again(project)))[1] == ()


@pytest.mark.parametrize("pair", [("a-b/c", "a/b-c"), ("Team/shop", "team/shop")])
async def test_projects_whose_names_would_be_one_get_two_chains(house: House, pair: tuple[str, str]) -> None:
    """The contract's 11.35."""
    one, other = [await house.project(repository, name=f"p{n}") for n, repository in enumerate(pair)]
    first, _ = await house.chains().ensure(one)
    second, _ = await house.chains().ensure(other)

    assert house.counts() == (2, 2, 2, 2)
    assert second.repository_name.lower().startswith(f"{first.repository_name.lower()}-")
    assert second.image_repo.startswith(f"{first.image_repo}-")
    assert first.app != second.app
    assert (await house.chains().ensure(await house.again(other)))[0] == second


async def test_a_repository_held_by_another_project_is_refused(house: House) -> None:
    chain, _ = await house.chains().ensure(await house.project())
    thief = await house.project("Else/where")
    await house.book.note(thief.id, {"sc_repo_name": chain.repository_name})
    house.ncp.forget_requests()
    with pytest.raises(Conflict, match="cannot use Team-shop at its provider: another project holds that name"):
        await house.chains().ensure(await house.again(thief))

    assert house.changing_requests() == []


async def test_a_project_made_anew_takes_up_the_chain_it_left(house: House) -> None:
    project = await house.project()
    chain, _ = await house.chains().ensure(project)
    await house.memory.projects.retire(project.id, NOW)
    again, changes = await house.chains().ensure(await house.project())

    assert again == chain
    assert len(changes) == 6
    assert house.counts() == (1, 1, 1, 1)


async def test_a_chain_that_somebody_else_left_is_not_taken_up(house: House) -> None:
    project = await house.project()
    chain, _ = await house.chains().ensure(project)
    await house.memory.projects.retire(project.id, NOW)
    stranger = await house.memory.project(owner=await house.memory.owner(), repository=project.repository)
    other, _ = await house.chains().ensure(stranger)

    assert other.repository_id != chain.repository_id
    assert house.counts() == (2, 2, 2, 2)


@pytest.mark.parametrize("key", ["clusterNo", "clusterUuid"])
async def test_the_stage_is_given_the_cluster_by_the_name_the_service_takes(house: House, key: str) -> None:
    """The contract's 11.23."""
    house.ncp.faults.quirks.cluster_key = key  # type: ignore[assignment]
    project = await house.project()
    await house.chains().ensure(project)

    assert list(_stage(house).config) == [key]
    assert (await house.chains().ensure(await house.again(project)))[1] == ()


async def test_the_cluster_may_be_configured_by_its_number(house: House) -> None:
    number = house.ncp.cluster.number
    await house.chains(nks_cluster_id=str(number)).ensure(await house.project())

    assert _stage(house).config == {"clusterNo": number}


async def test_keys_that_may_not_look_at_clusters_may_still_name_one(house: House) -> None:
    house.ncp.faults.deny(door="nks")
    chain, _ = await house.chains().ensure(await house.project())
    stage = await SourceDeploy(house.client).stage(chain.deploy_project_id, chain.stage_id)

    assert (stage.name, stage.cluster) == (STAGE, Cluster(uuid=house.ncp.cluster.uuid))


async def test_a_cluster_that_does_not_exist_is_said(house: House) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(Rejected, match=f"Naver Cloud has no Kubernetes cluster {unknown}"):
        await house.chains(nks_cluster_id=unknown).ensure(await house.project())


@pytest.mark.parametrize("missing", ["container_registry_url", "nks_cluster_id"])
async def test_nothing_is_made_while_a_setting_is_missing(house: House, missing: str) -> None:
    with pytest.raises(Rejected) as caught:
        await house.chains(**{missing: None}).ensure(await house.project())

    assert f"KLEPAAS_NCP_{missing.upper()}" in caught.value.hint
    assert house.ncp.requests == []


async def test_a_missing_permission_stops_in_the_middle_and_goes_on_later(house: House) -> None:
    """R-27: what was made stays, and is known."""
    project = await house.project()
    house.ncp.faults.deny(door="sourcepipeline")
    with pytest.raises(PermissionMissing, match="NCP REST error 401: Permission Denied"):
        await house.chains().ensure(project)
    halfway = await house.again(project)
    with pytest.raises(Conflict, match="not complete"):
        known_or_refused(halfway)
    house.ncp.faults.clear()
    chain, changes = await house.chains().ensure(halfway)

    assert str(chain.deploy_project_id) == halfway.deploy_project_id
    assert [sentence.partition(" (")[0] for sentence in changes] == [
        "Made the SourcePipeline project pipeline-Team-shop"
    ]


async def test_a_cloud_that_is_away_is_said(house: House) -> None:
    house.ncp.faults.down = True
    with pytest.raises(Unavailable):
        await house.chains().ensure(await house.project())


async def test_the_dockerfile_of_the_project_is_that_of_the_build(house: House) -> None:
    chain, _ = await house.chains().ensure(
        await house.project(settings=ProjectSettings(dockerfile="services/web/Dockerfile"))
    )
    build = await SourceBuild(house.client).project(chain.build_project_id)

    assert build is not None
    assert build.settings is not None
    assert build.settings.dockerfile == "services/web/Dockerfile"
    assert dict(build.settings.variables)["REGISTRY_PROJECT_NAME"] == house.ncp.registry_name


@pytest.mark.parametrize("lost", [False, True])
async def test_the_chain_is_taken_down(house: House, lost: bool) -> None:
    project = await house.project()
    chain, _ = await house.chains().ensure(project)
    if lost:
        for door in ("sourcepipeline", "sourcedeploy", "sourcebuild", "sourcecommit"):
            house.ncp.faults.lose_answer(door=door)
    changes = await house.chains().remove(await house.again(project))
    bare = await house.again(project)

    assert house.counts() == (0, 0, 0, 0)
    assert changes[0] == f"Removed the SourcePipeline project {chain.pipeline_id}."
    assert len(changes) == 4
    assert (bare.pipeline_id, bare.build_project_id, bare.sc_repo_name, bare.chain) == (None, None, None, {})
    assert await house.chains().remove(bare) == ()


async def test_taking_down_what_is_half_gone_ends_well_after_a_crash_anywhere(house: House) -> None:
    at = 0
    while True:
        at += 1
        project = await house.project(f"Team/shop-{at}")
        await house.chains().ensure(project)
        house.client.crash = FragileBook.crash = Crash(at=at)
        try:
            await house.chains().remove(await house.again(project))
            break
        except Killed:
            house.client.crash = FragileBook.crash = Crash()
        await house.chains().remove(await house.again(project))

        assert house.counts() == (0, 0, 0, 0)
    house.client.crash = FragileBook.crash = Crash()

    assert at > 8


def _stage(house: House) -> Any:
    [project] = house.ncp.deploy_projects
    [stage] = project.stages.values()
    return stage
