"""A deployment from its request to its end, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from klepaas.domain.observation import Health
from klepaas.domain.status import Status
from klepaas.errors import BuildFailed, DiskFull, Rejected, Unavailable
from klepaas.operations import deployments, rollbacks
from klepaas.settings import Deadlines
from klepaas.testing.fake_build import sha_of
from klepaas.testing.fake_target import EVERY
from klepaas.workflows import running
from tests.workflows.world import World

ONE, TWO, THREE = sha_of("one"), sha_of("two"), sha_of("three")


async def test_a_deployment_ends_well_only_with_the_answer_of_its_own_release(here: World) -> None:
    project = await here.project()
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert (done.status, done.commit_sha) == (Status.SUCCEEDED, ONE)
    assert done.evidence["answer"]["release_id"] == done.release_id
    assert done.live_at is not None
    assert done.finished_at is not None


async def test_every_stage_is_in_the_history_once_and_in_order(here: World) -> None:
    project = await here.project()
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert [s.stage.value for s in done.stages] == ["fetch", "build", "release", "verify", "promote", "retire"]
    assert all(s.finished_at for s in done.stages)
    assert (await here.kinds(done)).count("deployment.succeeded") == 1


async def test_the_previous_release_is_kept_warm_and_older_ones_go(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO, THREE]
    async with here.node():
        ended = [await here.ended(await here.deploy(project, commit)) for commit in (ONE, TWO, THREE)]

    states = {release_id: w.state for release_id, w in here.target.workloads.items()}
    assert {ended[2].release_id: "running", ended[1].release_id: "parked"} == states
    assert ended[2].evidence["certificate"]["failed"] == 0


@pytest.mark.parametrize(("drain_s", "is_frozen"), [(0.2, False), (0.0, True)], ids=["a long drain", "no drain"])
async def test_who_outlasts_a_long_drain_is_ended_and_not_frozen(
    here: World, monkeypatch: pytest.MonkeyPatch, drain_s: float, is_frozen: bool
) -> None:
    """R-17: a websocket of the old release must end, so that its client comes back to the new one."""
    monkeypatch.setattr(running, "LONGEST_IDLE_S", 0.1)
    project = await here.project(drain_timeout_s=drain_s)
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        here.target.workloads[first.release_id].connections = 1
        await here.ended(await here.deploy(project, TWO))

    assert (first.release_id in here.target.workloads) is is_frozen


async def test_a_failing_build_touches_nothing_and_says_why(here: World) -> None:
    project = await here.project()
    here.builder.failures.append(BuildFailed("The build failed at step 2.", evidence={"last_lines": ["boom"]}))
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.status is Status.FAILED
    assert done.failure is not None
    assert (done.failure.stage, done.failure.code) == ("build", "build_failed")
    assert done.failure.evidence["last_lines"] == ["boom"]
    assert here.target.workloads == {}


async def test_a_release_that_is_never_healthy_fails_and_the_old_one_serves(here: World) -> None:
    """R-07, R-23."""
    project = await here.project(health_timeout_s=0.5)
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        here.target.script(TWO, Health.UNHEALTHY)
        second = await here.ended(await here.deploy(project, TWO))

    state = await here.context.apps.get(project.id, "production")
    assert state is not None
    assert second.status is Status.FAILED
    assert second.failure is not None
    assert "did not become healthy within 0.5 s" in second.failure.message
    assert {"last_lines", "probe_answers"} <= set(second.failure.evidence)
    assert first.release_id == state.live_release_id == here.target.traffic[state.app.key]
    assert [first.release_id] == list(here.target.workloads)


async def test_a_switch_over_its_budget_is_taken_back(here: World) -> None:
    project = await here.project(switch_p99_budget_ms=0.000001)
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        second = await here.ended(await here.deploy(project, TWO))

    state = await here.context.apps.get(project.id, "production")
    assert state is not None
    assert second.status is Status.ROLLED_BACK
    assert (first.release_id, first.id) == (state.live_release_id, state.live_deployment_id)
    assert first.release_id == here.target.traffic[state.app.key]
    assert [first.release_id] == list(here.target.workloads)


async def test_a_commit_that_was_built_is_not_built_again_unless_asked(here: World) -> None:
    """R-29: also the same commit can be deployed again."""
    project = await here.project()
    async with here.node():
        await here.ended(await here.deploy(project, ONE))
        again = await here.ended(await here.deploy(project, ONE))
        rebuilt = await here.ended(await here.deploy(project, ONE, rebuild=True))

    assert [again.status, rebuilt.status] == [Status.SUCCEEDED] * 2
    assert here.builder.builds == [ONE, ONE]


async def test_outside_faults_that_may_pass_are_tried_again_and_recorded(here: World) -> None:
    project = await here.project()
    here.target.fail("apply", Unavailable("The engine is busy."))
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.status is Status.SUCCEEDED
    assert "stage.retry_scheduled" in await here.kinds(done)


async def test_a_fault_of_our_own_ends_the_deployment_without_showing_its_inside(here: World) -> None:
    project = await here.project()
    here.target.fail("apply", ZeroDivisionError("secret inside"))
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.failure is not None
    assert "secret inside" not in done.failure.message


@pytest.mark.parametrize("stage", ["fetch", "build", "release", "promote"])
async def test_a_hanging_stage_ends_at_its_deadline_and_is_named(here: World, stage: str) -> None:
    """R-01."""
    here.deadlines = Deadlines(**{stage: timedelta(seconds=0.3)})  # type: ignore[arg-type]
    project = await here.project()
    if stage == "fetch":
        here.source = here.context.source  # type: ignore[assignment]

        async def hang(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        object.__setattr__(here.context.source, "fetch", hang)
    elif stage == "build":
        here.builder.gate = asyncio.Event()
    else:
        here.target.hang({"release": "apply", "promote": "answering"}[stage])
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.failure is not None
    assert (Status.FAILED, stage, "deadline_passed") == (done.status, done.failure.stage, done.failure.code)


async def test_work_that_ignores_its_cancellation_cannot_hold_a_deployment(here: World) -> None:
    """R-01: it ends within the stage's deadline and a few seconds."""
    here.deadlines = Deadlines(build=timedelta(seconds=0.3))
    project = await here.project()

    async def stubborn(*_: Any, **__: Any) -> Any:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if here.runner.engine is None:
                    raise

    here.builder.build = stubborn  # type: ignore[method-assign]
    async with here.node():
        done = await here.ended(await here.deploy(project))
        here.runner.engine = None

    assert done.status is Status.FAILED


async def test_a_deadline_with_an_unreachable_target_is_unknown_and_settled_when_it_answers(here: World) -> None:
    """What is not known is shown as unknown, and does not stay so."""
    here.deadlines = Deadlines(promote=timedelta(seconds=0.3))
    project = await here.project()
    async with here.node():
        here.target.hang("answering")
        started = await here.deploy(project)
        while (await here.context.deployments.get(started.id)).stage != "promote":  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        here.target.reachable = False
        unknown = await here.reaching(started, Status.UNKNOWN)
        here.target.reachable = True
        here.target._gates.clear()
        await here.context.deployments.get(started.id)
        await DeploymentsDue(here).now(started.id)
        done = await here.ended(started)

    assert not unknown.status.is_terminal
    assert done.status is Status.SUCCEEDED


class DeploymentsDue:
    """Shortens the rest before an unknown deployment is looked at again."""

    def __init__(self, here: World) -> None:
        self._here = here

    async def now(self, deployment_id: str) -> None:
        import sqlalchemy as sa

        from klepaas.storage.tables import deployments as table

        async with self._here.database.write() as connection:
            await connection.execute(sa.update(table).where(table.c.id == deployment_id).values(look_again_at=None))
        self._here.runner.wake()


@pytest.mark.parametrize("stage", ["fetch", "build", "release", "verify", "promote"])
async def test_cancelling_at_any_stage_ends_the_work_and_lets_the_next_one_start(here: World, stage: str) -> None:
    """R-03."""
    here.source.branches["main"] = [ONE, TWO]
    project = await here.project()
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        hold(here, stage)
        second = await here.deploy(project, TWO)
        async with asyncio.timeout(10):
            while (d := await here.context.deployments.get(second.id)) and (d.stage is None or d.stage != stage):
                await asyncio.sleep(0.01)
        third = await here.deploy(project, TWO)
        await deployments.cancel(here.context, here.actor, second.id)
        cancelled = await here.ended(second)
        release_hold(here, stage)
        last = await here.ended(third)

    assert (first.status, cancelled.status, last.status) == (Status.SUCCEEDED, Status.CANCELLED, Status.SUCCEEDED)
    assert last.release_id in here.target.workloads
    assert cancelled.release_id not in here.target.workloads


def hold(here: World, stage: str) -> None:
    if stage == "fetch":
        gate = asyncio.Event()
        real = here.source.fetch

        async def fetch(*args: Any, **more: Any) -> Any:
            await gate.wait()
            return await real(*args, **more)

        here.source.gate, here.source.fetch = gate, fetch  # type: ignore[attr-defined, method-assign]
    elif stage == "build":
        here.builder.gate = asyncio.Event()
    elif stage == "verify":
        here.target.script(TWO, Health.STARTING)
    else:
        here.target.hang({"release": "apply", "promote": "answering"}[stage])


def release_hold(here: World, stage: str) -> None:
    if stage == "fetch":
        here.source.gate.set()  # type: ignore[attr-defined]
    elif stage == "build":
        assert here.builder.gate is not None
        here.builder.gate.set()
    elif stage == "verify":
        here.target.script(TWO, Health.HEALTHY)
    else:
        for gate in here.target._gates.values():
            gate.set()


async def test_the_newest_queued_deployment_supersedes_the_older_queued_one(here: World) -> None:
    """R-05: one runner per app; B is live at the end, the older queued one is superseded."""
    here.source.branches["main"] = [ONE, TWO, THREE]
    project = await here.project()
    here.builder.gate = asyncio.Event()
    async with here.node():
        first = await here.deploy(project, ONE)
        await here.reaching(first, Status.RUNNING)
        second = await here.deploy(project, TWO)
        third = await here.deploy(project, THREE)
        here.builder.gate.set()
        done = [await here.ended(d) for d in (first, second, third)]

    state = await here.context.apps.get(project.id, "production")
    assert state is not None
    assert [d.status for d in done] == [Status.SUCCEEDED, Status.SUPERSEDED, Status.SUCCEEDED]
    assert third.id == done[1].superseded_by == state.live_deployment_id


async def test_the_same_request_key_is_the_same_deployment(here: World) -> None:
    project = await here.project()
    found = await asyncio.gather(*(here.deploy(project, request_key="k1") for _ in range(20)))

    assert len({d.id for d in found}) == 1


async def test_a_rollback_is_a_deployment_of_the_warm_release_without_a_build(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        second = await here.ended(await here.deploy(project, TWO))
        back = await here.ended(await here.roll_back(project, steps_back=1))
        again = await here.ended(await here.deploy(project, TWO))

    assert (Status.SUCCEEDED, first.release_id, second.id) == (back.status, back.release_id, back.rollback_of)
    assert here.builder.builds == [ONE, TWO]
    assert again.status is Status.SUCCEEDED


async def test_a_rollback_that_is_only_planned_thaws_nothing(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        await here.ended(await here.deploy(project, TWO))
        thawing = f"thaw_ahead:{first.release_id}"
        await rollbacks.plan(here.context, here.actor, rollbacks.RollbackRequest(project=project.id, steps_back=1))
        assert thawing not in here.target.calls
        await here.roll_back(project, steps_back=1)
        assert thawing in here.target.calls


async def test_a_release_that_answers_as_soon_as_it_is_thawed_is_verified_along_the_way(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        await here.ended(await here.deploy(project, ONE))
        await here.ended(await here.deploy(project, TWO))
        here.reached_points.clear()
        back = await here.ended(await here.roll_back(project, steps_back=1))
    history = await here.context.deployments.events(back.id)
    at = {each.event.kind: each.at for each in history}

    assert back.status is Status.SUCCEEDED
    assert at["release.started"] == at["release.healthy"] == at["traffic.shift_decided"] < at["traffic.shifted"]
    assert [(each.stage, each.detail) for each in back.stages[:2]] == [("release", "release 1"), ("verify", "1 probes")]
    assert "release.recorded" in here.reached_points
    assert "verify.started" not in here.reached_points


async def test_a_thawed_release_of_another_image_is_not_taken_for_the_old_one(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        second = await here.ended(await here.deploy(project, TWO))
        frozen = here.target.workloads[first.release_id or ""]
        frozen.release = replace(frozen.release, image_digest="sha256:" + "0" * 64)
        back = await here.ended(await here.roll_back(project, steps_back=1))
        app = await here.context.apps.get(project.id, "production")

    assert back.failure is not None
    assert (back.status, back.failure.stage, back.failure.code) == (Status.FAILED, "verify", "image_missing")
    assert app is not None
    assert app.live_release_id == second.release_id


async def test_of_two_rollbacks_to_one_release_the_second_leaves_the_warm_one_alone(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        second = await here.ended(await here.deploy(project, TWO))
        applying = here.target.hang("apply")
        backs = [await here.roll_back(project, steps_back=1)]
        await here.reaching(backs[0], Status.RUNNING)
        backs.append(await here.roll_back(project, steps_back=1))
        applying.set()
        ends = [await here.ended(each) for each in backs]
        app = await here.context.apps.get(project.id, "production")

    assert [(each.status, each.release_id) for each in ends] == [(Status.SUCCEEDED, first.release_id)] * 2
    assert app is not None
    assert app.warm_release_id == second.release_id
    assert {id_: each.state for id_, each in here.target.workloads.items()} == {
        first.release_id: "running",
        second.release_id: "parked",
    }


async def test_what_was_seen_before_a_rollback_was_put_down_proves_nothing_afterwards(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        second = await here.ended(await here.deploy(project, TWO))

        def the_release_dies_and_so_do_we() -> None:
            here.target.end(first.release_id or "")
            raise RuntimeError("a fault of ours")

        here.target.script(first.release_id or "", Health.STARTING)
        here.mishaps["release.recorded"] = the_release_dies_and_so_do_we
        back = await here.ended(await here.roll_back(project, steps_back=1))
        app = await here.context.apps.get(project.id, "production")

    assert (back.status, back.fence) == (Status.FAILED, 2)
    assert back.failure is not None
    assert "ended before it was healthy" in back.failure.message
    assert app is not None
    assert app.live_release_id == second.release_id


async def test_rolling_back_five_times_needs_neither_build_nor_repository(here: World) -> None:
    """R-08."""
    commits = [sha_of(str(n)) for n in range(6)]
    here.source.branches["main"] = commits
    project = await here.project()
    async with here.node():
        made = [await here.ended(await here.deploy(project, commit)) for commit in commits]
        here.source.branches.clear()
        for n in range(1, 6):
            done = await here.ended(await here.roll_back(project, commit=commits[5 - n]))
            assert (Status.SUCCEEDED, made[5 - n].release_id) == (done.status, done.release_id)
    assert commits == here.builder.builds


async def test_a_missing_image_is_built_again_from_its_commit(here: World) -> None:
    here.source.branches["main"] = [ONE, TWO]
    project = await here.project()
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        await here.ended(await here.deploy(project, TWO))
        here.target.workloads.pop(first.release_id or "")
        here.builder.images.pop(first.image_digest or "")
        back = await here.ended(await here.roll_back(project, commit=ONE[:7]))

    assert (back.status, back.commit_sha) == (Status.SUCCEEDED, ONE)
    assert here.builder.builds == [ONE, TWO, ONE]


async def test_a_rollback_that_cannot_work_is_refused_before_anything_is_touched(here: World) -> None:
    """R-08: image missing and no source."""
    here.source.branches["main"] = [ONE, TWO, THREE]
    project = await here.project()
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        await here.ended(await here.deploy(project, TWO))
        await here.ended(await here.deploy(project, THREE))
        here.builder.images.pop(first.image_digest or "")
        here.source.gone.add(ONE)
        calls = list(here.target.calls)
        with pytest.raises(Rejected, match="gone") as refused:
            await here.roll_back(project, commit=ONE)

    assert "1 back" in refused.value.hint
    assert [c for c in here.target.calls[len(calls) :] if not c.startswith("observe")] == []


async def test_a_rollback_says_first_which_settings_go_back_and_which_stay(here: World) -> None:
    """R-34."""
    here.source.branches["main"] = [ONE, TWO]
    project = await here.project(memory_bytes=64 * 2**20)
    async with here.node():
        await here.ended(await here.deploy(project, ONE))
        from klepaas.operations import projects

        await projects.configure(
            here.context,
            here.actor,
            project.id,
            projects.ProjectChange(settings={"memory_bytes": 128 * 2**20, "hosts": ["shop.example.org"]}),
        )
        await projects.set_variables(here.context, here.actor, project.id, {"COLOUR": "red"})
        await here.ended(await here.deploy(project, TWO))
    plan = await rollbacks.plan(here.context, here.actor, rollbacks.RollbackRequest(project=project.id, steps_back=1))

    assert plan.goes_back == {"memory_bytes": (128 * 2**20, 64 * 2**20)}
    assert "hosts" in plan.stays
    assert (list(plan.variables_removed), plan.variables_differ) == (["COLOUR"], True)


async def test_a_deployment_that_keeps_killing_its_owner_is_given_up(here: World) -> None:
    here.settings = here.settings.model_copy(update={"attempts": 2})
    here.builder.gate = asyncio.Event()
    project = await here.project()
    deployment = await here.deploy(project)
    for _ in range(2):
        here.builder.building.clear()
        async with here.node():
            await here.builder.building.wait()
    async with here.node():
        done = await here.ended(deployment)

    assert done.failure is not None
    assert done.failure.code == "too_many_attempts"


async def test_a_full_disk_while_building_is_said_in_those_words(here: World) -> None:
    project = await here.project()
    here.builder.failures.append(DiskFull("There is no space left for the build."))
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.failure is not None
    assert (done.failure.code, done.status) == ("disk_full", Status.FAILED)


async def test_a_restarting_release_is_given_up_early(here: World) -> None:
    project = await here.project(health_timeout_s=600)
    here.target.script(EVERY, Health.STOPPED)
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.failure is not None
    assert done.failure.code == "not_healthy"
