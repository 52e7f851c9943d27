"""Must show 1: the whole way from a repository to a proven deployment at Naver Cloud, and back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from klepaas.domain.observation import Health
from klepaas.domain.status import Status
from klepaas.errors import Rejected
from klepaas.operations import deployments, projects, rollbacks
from klepaas.operations.ports.apps import AppState
from klepaas.operations.ports.provider_runs import ProviderRun
from klepaas.operations.rollbacks import Way
from klepaas.storage.provider_runs import ProviderRunTable
from klepaas.targets.ncp.manifest import MANIFEST_PATH
from klepaas.targets.protocol import KeepsRunning
from klepaas.testing.ncp import StandInNcp
from klepaas.testing.ncp.faults import Ending, Fault, Kind
from klepaas.watchers.workloads import Workloads
from tests.targets_ncp.trial import Trial, trial


@pytest.fixture
def ncp() -> Iterator[StandInNcp]:
    with StandInNcp(build_time_ms=20, deploy_time_ms=20) as ncp:
        yield ncp


@pytest.fixture
async def here(tmp_path: Path, ncp: StandInNcp) -> AsyncIterator[Trial]:
    async with trial(tmp_path, ncp) as made:
        yield made


async def test_a_commit_is_mirrored_built_deployed_and_seen_in_the_cluster(here: Trial) -> None:
    commit = here.commit()
    async with here.node():
        ended = await here.ended(await here.deploy())
    answer = ended.evidence["answer"]

    assert ended.status is Status.SUCCEEDED, ended.failure
    assert ended.image_digest == here.ncp.digest_of(here.image, commit)
    assert ended.image_ref == f"{here.ncp.registry_host}/{here.image}:{commit}"
    assert here.ncp.cluster.digests_of(here.app) == {ended.image_digest}
    assert (answer["image_digest"], answer["ready_replicas"]) == (ended.image_digest, 1)
    assert answer["workload_id"] == str(here.ncp.deploys[0].id)
    assert [build.commit_sha for build in here.ncp.builds] == [commit]
    assert "SourceBuild: success" in await here.log(ended)


async def test_the_port_is_what_the_dockerfile_exposes(here: Trial) -> None:
    here.commit()
    async with here.node():
        await here.ended(await here.deploy())

    [container] = here.ncp.cluster.deployment(here.app)["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"containerPort": 3000}]


async def test_a_second_deployment_and_a_rollback_without_a_build(here: Trial) -> None:
    first_commit = here.commit()
    async with here.node():
        first = await here.ended(await here.deploy())
        here.commit()
        second = await here.ended(await here.deploy())
        back = await here.ended(await here.roll_back(steps_back=1))

    assert [each.status for each in (first, second, back)] == [Status.SUCCEEDED] * 3
    assert back.release_id == first.release_id
    assert len(here.ncp.builds) == 2
    assert len(here.ncp.deploys) == 3
    assert here.ncp.cluster.digests_of(here.app) == {first.image_digest}
    assert here.mirror.file("app.py") == "print(0)\n"
    assert here.mirror.messages()[0] == f"Update image to {first_commit}, replicas to 1"


async def test_a_rollback_whose_image_was_deleted_is_built_again(here: Trial) -> None:
    commit = here.commit()
    async with here.node():
        await here.ended(await here.deploy())
        here.commit()
        await here.ended(await here.deploy())
        here.ncp.delete_image(here.image, commit)
        digest = here.ncp.digest_of(here.image, commit)
        back = await here.ended(await here.roll_back(commit=commit[:7]))

    assert digest is None
    assert back.status is Status.SUCCEEDED, back.failure
    assert back.note == "The image was gone; the commit is built again."
    assert len(here.ncp.builds) == 3
    assert here.ncp.digest_of(here.image, commit) == back.image_digest
    assert here.ncp.cluster.digests_of(here.app) == {back.image_digest}


async def test_an_image_of_the_commit_that_is_there_is_not_built_again(here: Trial) -> None:
    here.commit()
    async with here.node():
        first = await here.ended(await here.deploy())
        again = await here.ended(await here.deploy())
        rebuilt = await here.ended(await here.deploy(rebuild=True))

    assert [each.status for each in (first, again, rebuilt)] == [Status.SUCCEEDED] * 3
    assert len(here.ncp.builds) == 2
    assert len(here.ncp.deploys) == 3


async def test_replicas_belong_to_the_project_and_outlive_deployments_and_rollbacks(here: Trial) -> None:
    here.commit()
    async with here.node():
        await here.ended(await here.deploy())
        await here.configure(replicas=3)
        here.commit()
        await here.ended(await here.deploy())
        await here.ended(await here.roll_back(steps_back=1))

    assert here.ncp.cluster.deployment(here.app)["spec"]["replicas"] == 3


async def test_a_rollback_counts_once_it_has_the_capacity_of_what_it_replaces(here: Trial) -> None:
    """R-28."""
    here.commit()
    async with here.node():
        first = await here.ended(await here.deploy())
        await here.configure(replicas=3)
        here.commit()
        await here.ended(await here.deploy())
        back = await here.ended(await here.roll_back(steps_back=1))

    assert first.evidence["answer"]["ready_replicas"] == 1
    assert back.status is Status.SUCCEEDED
    assert (back.image_digest, back.evidence["answer"]["ready_replicas"]) == (first.image_digest, 3)


async def test_one_replica_that_fails_is_named_and_a_rollback_covers_the_others(here: Trial) -> None:
    """R-22."""
    await here.configure(replicas=3)
    here.commit()
    async with here.node():
        first = await here.ended(await here.deploy())
        here.commit()
        await here.ended(await here.deploy())
        pod = here.ncp.cluster.break_pod(here.app)
        partial = await _watched(here)
        back = await here.ended(await here.roll_back(steps_back=1))
        whole = await _watched(here)

    named = f"Deployment {here.app}: 2 of 3 pods are ready ({pod}: CrashLoopBackOff)."
    assert (partial.health, partial.health_detail) == (Health.UNHEALTHY, named)
    assert back.status is Status.SUCCEEDED
    assert here.ncp.cluster.digests_of(here.app) == {first.image_digest}
    assert whole.health is Health.HEALTHY


async def test_environment_variables_are_refused_before_anything_is_touched(here: Trial) -> None:
    here.commit()
    await projects.set_variables(here.parts.context, here.actor, "shop", {"TOKEN": "s3cret-value"})
    async with here.node():
        ended = await here.ended(await here.deploy())

    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert "TOKEN" in ended.failure.message
    assert "envFrom" in ended.failure.hint
    assert (here.ncp.repositories, here.ncp.builds, here.ncp.deploys) == ({}, [], [])


async def test_another_environment_does_not_take_the_place_of_the_projects_own(here: Trial) -> None:
    here.commit()
    async with here.node():
        await here.ended(await here.deploy())
        ended = await here.ended(await here.deploy(environment="staging"))

    assert ended.failure is not None
    assert "has one place at Naver Cloud" in ended.failure.message
    assert len(here.ncp.deploys) == 1


async def test_a_build_that_fails_ends_the_deployment_with_the_providers_word(here: Trial) -> None:
    here.commit()
    here.ncp.faults.end_runs("build", Ending.FAIL)
    async with here.node():
        ended = await here.ended(await here.deploy())

    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert (ended.failure.code, ended.failure.message) == ("build_failed", "Build failed: fail")
    assert here.ncp.deploys == []


async def test_a_build_that_says_success_without_an_image_is_no_success(here: Trial) -> None:
    here.commit()
    here.ncp.faults.end_runs("build", Ending.SAYS_SUCCESS)
    async with here.node():
        ended = await here.ended(await here.deploy())

    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "image_missing"


async def test_a_deployment_that_crashes_fails_with_the_reason_and_the_old_release_stays(here: Trial) -> None:
    here.commit()
    async with here.node():
        first = await here.ended(await here.deploy())
        here.commit()
        here.ncp.faults.end_runs("deploy", Ending.FAIL)
        second = await here.ended(await here.deploy())
    state = await here.parts.context.apps.get(here.project.id, "production")

    assert second.status is Status.FAILED
    assert second.failure is not None
    assert "CrashLoopBackOff" in second.failure.message
    here.ncp.wait_for_runs()

    assert state is not None
    assert state.live_deployment_id == first.id
    assert first.image_digest in here.ncp.cluster.image_of(here.app), "the cluster is told so again"
    assert here.ncp.cluster.digests_of(here.app) == {first.image_digest}
    assert f"@{first.image_digest}" in (here.mirror.file(MANIFEST_PATH) or "")
    assert len(here.ncp.deploys) == 3


async def test_a_build_that_fails_leaves_the_mirror_with_what_is_live(here: Trial) -> None:
    """Whoever deploys by hand then deploys that."""
    here.commit()
    async with here.node():
        first = await here.ended(await here.deploy())
        here.commit()
        here.ncp.faults.end_runs("build", Ending.FAIL)
        await here.ended(await here.deploy())

    assert here.mirror.file("app.py") == "print(0)\n"
    assert f"@{first.image_digest}" in (here.mirror.file(MANIFEST_PATH) or "")
    assert len(here.ncp.deploys) == 1


async def test_a_registry_that_refuses_is_not_a_missing_image(here: Trial) -> None:
    here.commit()
    async with here.node():
        await here.ended(await here.deploy())
        here.commit()
        await here.ended(await here.deploy())
    here.ncp.faults.deny(door="registry")
    candidates = await rollbacks.candidates(here.parts.context, here.actor, "shop")

    assert {candidate.way for candidate in candidates} == {Way.UNKNOWN}
    with pytest.raises(Rejected) as refused:
        await here.roll_back(steps_back=1)
    assert refused.value.code == "permission_missing"
    assert len(here.ncp.deploys) == 2


async def test_a_manifest_of_the_repository_comes_back_byte_for_byte_but_for_the_image(here: Trial) -> None:
    text = """# ours
apiVersion: apps/v1
kind: Deployment
metadata:
  name: the-shop   # not klepaas' name
spec:
  replicas: 2
  selector: {matchLabels: {app: the-shop}}
  template:
    metadata: {labels: {app: the-shop}}
    spec:
      containers:
      - {name: web, image: placeholder}
"""
    here.origin.commit({MANIFEST_PATH: text})
    commit = here.commit()
    async with here.node():
        ended = await here.ended(await here.deploy())
    image = f"{here.ncp.registry_host}/{here.image}:{commit}@{ended.image_digest}"

    assert ended.status is Status.SUCCEEDED, ended.failure
    assert here.mirror.file(MANIFEST_PATH) == text.replace("placeholder", image)
    assert ended.evidence["answer"]["ready_replicas"] == 2


@pytest.mark.parametrize("ending", [Ending.SILENT, Ending.STUCK])
async def test_a_run_that_says_nothing_is_unknown_after_the_deadline_and_settled_by_what_is_seen(
    tmp_path: Path, ncp: StandInNcp, ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-06. With the cluster in sight a run that does its work and never says so is settled by its rollout."""
    monkeypatch.setattr("klepaas.workflows.deploy.SETTLE_EVERY", timedelta(milliseconds=50))
    async with trial(tmp_path, ncp, deploy_deadline=timedelta(seconds=0.5)) as here:
        await here.configure(health_timeout_s=0.5)
        here.commit()
        ncp.faults.end_runs("deploy", ending)
        async with here.node():
            submitted = await here.deploy()
            unknown = await here.reaching(submitted, Status.UNKNOWN)
            if ending is Ending.STUCK:
                await asyncio.sleep(0.3)
                still = await here.parts.context.deployments.get(submitted.id)
                assert still is not None
                assert still.status is Status.UNKNOWN, "nobody knows yet"
                ncp.call(_cancel(ncp))
            ended = await here.ended(submitted)

    assert unknown.failure is not None
    assert ended.status is (Status.SUCCEEDED if ending is Ending.SILENT else Status.FAILED)
    assert len(ncp.deploys) == 1


def _cancel(ncp: StandInNcp):  # type: ignore[no-untyped-def]
    async def cancelled() -> None:
        task = ncp.deploys[0].task
        assert task is not None
        task.cancel()

    return cancelled


async def test_a_run_that_fails_after_the_deadline_is_settled_as_failed(
    tmp_path: Path, ncp: StandInNcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klepaas.workflows.deploy.SETTLE_EVERY", timedelta(milliseconds=50))
    ncp.deploy_time_ms = 2000
    async with trial(tmp_path, ncp, deploy_deadline=timedelta(seconds=0.5), cluster_access="never") as here:
        await here.configure(health_timeout_s=0.5)
        here.commit()
        ncp.faults.end_runs("deploy", Ending.FAIL)
        async with here.node():
            submitted = await here.deploy()
            await here.reaching(submitted, Status.UNKNOWN)
            ended = await here.ended(submitted)

    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert "SourceDeploy says fail" in ended.failure.message


async def test_a_build_beyond_its_deadline_is_a_timeout_and_is_cancelled(tmp_path: Path, ncp: StandInNcp) -> None:
    ncp.build_time_ms = 60_000
    async with trial(tmp_path, ncp, build_deadline=timedelta(seconds=0.5)) as here:
        here.commit()
        async with here.node():
            ended = await here.ended(await here.deploy())

    assert ended.failure is not None
    assert (ended.status, ended.failure.code, ended.failure.message) == (
        Status.FAILED,
        "build_timeout",
        "Build timeout",
    )
    assert ncp.builds[0].status == "canceled"


async def test_a_cancelled_deployment_cancels_its_build(here: Trial) -> None:
    here.ncp.build_time_ms = 60_000
    here.commit()
    async with here.node() as engine:
        submitted = await here.deploy()
        await _until(lambda: here.ncp.builds)
        await deployments.cancel(here.parts.context, here.actor, submitted.id)
        ended = await here.ended(submitted)
    assert engine.node
    assert ended.status is Status.CANCELLED
    here.ncp.wait_for_runs()
    assert here.ncp.builds[0].status == "canceled"


@pytest.fixture
def lost_start(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The next start of a run of this kind happens at the provider, and does not come to our record."""
    began = ProviderRunTable.began

    def lose(kind: str) -> None:
        lost: list[str] = []

        async def lost_once(book: ProviderRunTable, run: ProviderRun, run_id: str) -> ProviderRun:
            if run.kind == kind and not lost:
                lost.append(run_id)
                await asyncio.Event().wait()
            return await began(book, run, run_id)

        monkeypatch.setattr(ProviderRunTable, "began", lost_once)

    return lose


async def test_a_build_that_was_being_started_when_it_was_given_up_is_found_and_cancelled(
    here: Trial, lost_start: Callable[[str], None]
) -> None:
    lost_start("build")
    here.ncp.build_time_ms = 60_000
    here.commit()
    async with here.node():
        submitted = await here.deploy()
        await _until(lambda: here.ncp.builds)
        await deployments.cancel(here.parts.context, here.actor, submitted.id)
        ended = await here.ended(submitted)

    assert ended.status is Status.CANCELLED
    here.ncp.wait_for_runs()
    [build] = here.ncp.builds
    assert build.status == "canceled"
    noted = await here.parts.context.runs.of(submitted.id, "build")
    assert noted is not None
    assert noted.run_id == build.id, "nobody takes it for a run of the console"


@pytest.mark.parametrize("takes_ms", [60_000, 20], ids=["still going", "through already"])
async def test_a_run_that_was_being_started_when_it_was_given_up_leaves_nothing_in_the_cluster(
    here: Trial, lost_start: Callable[[str], None], takes_ms: int
) -> None:
    here.commit()
    async with here.node():
        first = await here.ended(await here.deploy())
        lost_start("deploy")
        here.ncp.deploy_time_ms = takes_ms
        here.commit()
        submitted = await here.deploy()
        await _until(lambda: len(here.ncp.deploys) == 2)
        here.ncp.deploy_time_ms = 20
        await deployments.cancel(here.parts.context, here.actor, submitted.id)
        ended = await here.ended(submitted)
    here.ncp.wait_for_runs()

    assert (first.status, ended.status) == (Status.SUCCEEDED, Status.CANCELLED)
    assert here.ncp.cluster.digests_of(here.app) == {first.image_digest}


async def _watched(here: Trial) -> AppState:
    """What is known of the app once the cluster was looked at."""
    target = here.parts.context.targets["ncp"]
    assert isinstance(target, KeepsRunning)
    watcher = Workloads(here.parts.context, timedelta(seconds=15), lambda: asyncio.sleep(0, True))
    await watcher.look_seldom("ncp", target)
    state = await here.parts.context.apps.get(here.project.id, "production")
    assert state is not None
    return state


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("door", "path"),
    [
        ("sourcebuild", "*/build"),
        ("sourcedeploy", "*/deploy"),
        ("sourcebuild", "*/project/*"),
        ("git", "*/git-receive-pack"),
    ],
)
async def test_lost_answers_make_one_build_one_run_and_one_row(here: Trial, door: str, path: str) -> None:
    """R-30, must show 2."""
    here.commit()
    here.ncp.faults.lose_answer(1, door=door, path=path)  # type: ignore[arg-type]
    async with here.node():
        ended = await here.ended(await here.deploy())
    rows = await here.parts.context.runs.list(f"{here.project.id}/production")

    assert ended.status is Status.SUCCEEDED, ended.failure
    assert (len(here.ncp.builds), len(here.ncp.deploys)) == (1, 1)
    assert sorted(row.kind for row in rows) == ["build", "deploy"]
    assert {row.run_id for row in rows} == {here.ncp.builds[0].id, str(here.ncp.deploys[0].id)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_stumbles_there_is_one_build_one_run_and_one_proven_end(
    here: Trial, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-30: answers lost, errors, cuts and lags, all at once, drawn by the seed."""
    monkeypatch.setattr("klepaas.targets.ncp.builder.REST_S", 0.2)
    here.commit()
    faults = here.ncp.faults
    faults.use_seed(seed)
    faults.lags.runs, faults.lags.objects, faults.lags.images = 300, 300, 200
    changing = ("POST", "PATCH")
    for fault in (
        Fault(kind=Kind.LOSE_ANSWER, fraction=0.3, methods=changing, times=6),
        Fault(kind=Kind.ERROR, status=503, fraction=0.2, times=10),
        Fault(kind=Kind.CUT, fraction=0.1, times=6),
        Fault(kind=Kind.THROTTLE, fraction=0.1, times=4, retry_after_s=1),
    ):
        faults.add(fault)
    async with here.node():
        ended = await here.ended(await here.deploy())

    assert ended.status is Status.SUCCEEDED, ended.failure
    assert (len(here.ncp.builds), len(here.ncp.deploys)) == (1, 1)
    assert here.ncp.cluster.digests_of(here.app) == {ended.image_digest}


async def test_histories_that_lag_make_no_second_run_after_a_lost_answer(here: Trial) -> None:
    here.commit()
    here.ncp.faults.lags.runs = 600
    here.ncp.faults.lags.images = 300
    here.ncp.faults.lose_answer(1, door="sourcebuild", path="*/build")
    here.ncp.faults.lose_answer(1, door="sourcedeploy", path="*/deploy")
    async with here.node():
        ended = await here.ended(await here.deploy())

    assert ended.status is Status.SUCCEEDED, ended.failure
    assert (len(here.ncp.builds), len(here.ncp.deploys)) == (1, 1)


async def test_runs_started_by_hand_are_noticed_and_are_nobodys_deployment(here: Trial) -> None:
    here.commit()
    async with here.node():
        ended = await here.ended(await here.deploy())
    watcher = Workloads(here.parts.context, timedelta(seconds=15), lambda: asyncio.sleep(0, True))
    target = here.parts.context.targets["ncp"]
    assert isinstance(target, KeepsRunning)
    await watcher.look_seldom("ncp", target)
    by_hand = here.ncp.start_deploy(here.ncp.deploy_projects[0].name)
    here.ncp.wait_for_runs()
    for _ in range(2):
        await watcher.look_seldom("ncp", target)
    state = await here.parts.context.apps.get(here.project.id, "production")
    assert state is not None
    changes = [change for change in await here.parts.context.apps.changes(state.app.key) if change.action]
    rows = await here.parts.context.runs.list(state.app.key)

    assert [f"Run {by_hand} of SourceDeploy" in change.action for change in changes] == [True]
    assert [(row.run_id, row.deployment_id) for row in rows if row.deployment_id is None] == [(str(by_hand), None)]
    assert (state.live_deployment_id, state.health) == (ended.id, Health.HEALTHY)


async def test_what_somebody_else_deploys_to_the_cluster_is_seen(here: Trial) -> None:
    here.commit()
    async with here.node():
        await here.ended(await here.deploy())
    found = here.ncp.cluster.deployment(here.app)
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "another/image:1"
    state = await _watched(here)

    assert (state.health, state.health_detail) == (
        Health.UNHEALTHY,
        f"Deployment {here.app} is told to run another image.",
    )


async def test_a_failed_deployment_leaves_the_live_one_healthy(here: Trial) -> None:
    """The newest run is then another one's."""
    here.commit()
    async with here.node():
        await here.ended(await here.deploy())
        here.commit()
        here.ncp.faults.end_runs("build", Ending.FAIL)
        await here.ended(await here.deploy())
    state = await _watched(here)

    assert state.health is Health.HEALTHY
