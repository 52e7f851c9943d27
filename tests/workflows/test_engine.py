"""The durable engine under bad luck, on both databases: restarts, lost answers, several nodes, many at once.

After each, the record must be exact: every accepted request one row and one end, every history without a gap, and
no two deployments of one app at the same time."""

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.domain.deployment import ABANDON, Deployment, Failure, replay
from klepaas.domain.events import StageFinished, StageStarted
from klepaas.domain.project import App, Project
from klepaas.domain.status import Stage, Status
from klepaas.errors import Unavailable
from klepaas.operations.ports.deployments import Submission
from klepaas.operations.ports.queue import Lost
from klepaas.operations.ports.runner import Submit
from klepaas.settings import Deadlines, EngineSettings
from klepaas.storage.database import Database
from klepaas.storage.queue import DeploymentQueue
from klepaas.storage.tables import apps
from klepaas.targets.protocol import nothing_reached
from klepaas.workflows.engine import Engine, Run
from tests.servers.postgres import PostgresServer
from tests.storage.worlds import a_request
from tests.workflows.world import World, world

ENDS_WITHIN_S = 90.0
STAGES = (Stage.FETCH, Stage.BUILD, Stage.RELEASE)


async def exact(here: World, projects: Sequence[Project]) -> list[Deployment]:
    """Every deployment of these projects; fails when a history is not whole or two of one app overlap."""
    found = []
    for project in projects:
        of_app = await here.context.deployments.of_project(project.id, limit=1000)
        for each in of_app:
            history = await here.context.deployments.events(each.id)
            assert [event.seq for event in history] == list(range(1, each.seq + 1))
            ends = [event.event.kind for event in history if (t := event.event.leads_to) and t.is_terminal]
            assert each.status.is_terminal
            assert ends == [history[-1].event.kind]
            assert replay(history).status is each.status
        spans = sorted((d.started_at, d.finished_at) for d in of_app if d.started_at and d.finished_at)
        assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans)), "they overlap"
        found.extend(of_app)
    return found


async def all_ended(here: World, within_s: float = ENDS_WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while True:
            with suppress(Unavailable):
                if all(status.is_terminal for status in await here.context.deployments.counts()):
                    return
            await asyncio.sleep(0.05)


def short_work(touched: dict[str, list[str]] | None = None, pause_s: float = 0.0) -> Callable[[Run], Awaitable[None]]:
    """What a node does with a deployment here: three stages, each recorded, then its end. `touched` gets
    `fence:stage` of every effect."""

    async def carry(run: Run) -> None:
        while run.deployment.step in STAGES:
            stage = Stage(run.deployment.step)
            if touched is not None:
                touched.setdefault(run.deployment.id, []).append(f"{run.deployment.fence}:{stage}")
            await asyncio.sleep(pause_s)
            following = STAGES[STAGES.index(stage) + 1] if stage is not STAGES[-1] else ABANDON
            await run.record(
                StageStarted(stage=stage, fence=run.deployment.fence),
                StageFinished(stage=stage, took_s=0.0, next_step=following),
            )
        await run.record(*run.deployment.end_abandoned())

    return carry


def short_engine(
    here: World,
    settings: EngineSettings,
    queue: DeploymentQueue | None = None,
    carry: Callable[[Run], Awaitable[None]] | None = None,
) -> Engine:
    return Engine(
        queue or DeploymentQueue(here.database, here.context.clock),
        carry or short_work(),
        here.context.feed,
        settings,
        reached=nothing_reached,
        alone=here.database.is_sqlite,
    )


@asynccontextmanager
async def at_work(engine: Engine) -> AsyncIterator[asyncio.Task[None]]:
    """The engine serves; like the product it starts anew only from outside when it lost its lease."""
    task = asyncio.create_task(engine.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Lost):
            await task


async def projects_of(here: World, count: int) -> list[Project]:
    return [await here.project(f"app-{n}") for n in range(count)]


# The database goes away and comes back.


async def test_deployments_survive_an_immediate_restart_of_postgresql(tmp_path: Path) -> None:
    """R-02: none fails because of it, none is carried twice."""
    server = PostgresServer()
    try:
        server.start()
        async with world(server.create_database(), tmp_path) as here:
            here.settings = here.settings.model_copy(update={"lease": timedelta(seconds=20), "capacity": 20})
            projects = await projects_of(here, 20)
            gate = here.builder.gate = asyncio.Event()
            async with here.node():
                for project in projects:
                    await here.deploy(project)
                await here.builder.building.wait()
                await asyncio.to_thread(server.restart_immediately)
                gate.set()
                await asyncio.sleep(0.1)
                await asyncio.to_thread(server.restart_immediately)
                await all_ended(here)
            assert [d.status for d in await exact(here, projects)] == [Status.SUCCEEDED] * 20
            assert len(here.builder.builds) == 20
    finally:
        server.stop()


# Answers get lost: the commit happened, and the caller was told that the database is away.


class LosesAnswers(DeploymentQueue):
    """Loses the answers of these calls, by their turn, after they were committed."""

    def __init__(self, database: Database, clock: Any, *, claims: Sequence[int] = (), advances: int = 0) -> None:
        super().__init__(database, clock)
        self._unheard, self._every = set(claims), advances
        self._claimed = self._advanced = self.lost = 0

    async def claim(self, node: str, room: int) -> Sequence[Deployment]:
        found = await super().claim(node, room)
        if found:
            self._claimed += 1
            self._lose(self._claimed in self._unheard)
        return found

    async def advance(self, deployment: Deployment, node: str, events: Sequence[Any]) -> Deployment:
        after = await super().advance(deployment, node, events)
        self._advanced += 1
        self._lose(bool(self._every) and self._advanced % self._every == 0)
        return after

    def _lose(self, is_its_turn: bool) -> None:
        if is_its_turn:
            self.lost += 1
            raise Unavailable("The answer was lost.")


BRISK = EngineSettings(lease=timedelta(seconds=30), beat=timedelta(milliseconds=200), poll=timedelta(milliseconds=50))


async def test_a_claim_whose_answer_is_lost_is_carried_all_the_same(here: World) -> None:
    projects = await projects_of(here, 12)
    queue = LosesAnswers(here.database, here.context.clock, claims=(1, 2))
    for project in projects:
        await here.deploy(project)
    async with at_work(short_engine(here, BRISK.model_copy(update={"capacity": 3}), queue)):
        await all_ended(here)

    found = await exact(here, projects)
    assert queue.lost == 2
    assert sum(d.fence > 1 for d in found) >= 2, "what was claimed unheard had to be claimed again"


UNTENDED = BRISK.model_copy(update={"beat": timedelta(seconds=60)})
"""Who tends claims nothing meanwhile."""


class ClaimsLater(DeploymentQueue):
    """Claims nothing until it is `open`: what is carried before that was begun with its submission."""

    def __init__(self, database: Database, clock: Any) -> None:
        super().__init__(database, clock)
        self.open, self.asked = False, asyncio.Event()
        """`asked`: the engine serves; what is submitted from now on is begun, if it may be."""

    async def claim(self, node: str, room: int) -> Sequence[Deployment]:
        self.asked.set()
        return await super().claim(node, room) if self.open else []


async def test_what_is_submitted_here_is_begun_without_a_claim_of_its_own(here: World) -> None:
    projects = await projects_of(here, 5)
    touched: dict[str, list[str]] = {}
    queue = ClaimsLater(here.database, here.context.clock)
    here.runner.engine = short_engine(here, UNTENDED, queue, short_work(touched))
    async with at_work(here.runner.engine):
        await queue.asked.wait()
        made = [await here.deploy(project) for project in projects]
        await all_ended(here)

    assert [each.status for each in made] == [Status.RUNNING] * 5
    assert {each.fence for each in await exact(here, projects)} == {1}
    assert [touched[each.id] for each in made] == [["1:fetch", "1:build", "1:release"]] * 5


async def test_a_node_without_room_leaves_what_is_submitted_for_later(here: World) -> None:
    projects = await projects_of(here, 5)
    queue = ClaimsLater(here.database, here.context.clock)
    settings = UNTENDED.model_copy(update={"capacity": 2})
    gate = asyncio.Event()

    async def work(run: Run) -> None:
        await gate.wait()
        await short_work()(run)

    here.runner.engine = short_engine(here, settings, queue, work)
    async with at_work(here.runner.engine):
        await queue.asked.wait()
        made = [(await here.deploy(project)).status for project in projects]
        queue.open = True
        gate.set()
        await all_ended(here)

    assert made == [Status.RUNNING] * 2 + [Status.QUEUED] * 3
    assert {each.fence for each in await exact(here, projects)} == {1}


async def test_what_is_submitted_while_the_node_claims_is_claimed_next(here: World) -> None:
    [project] = await projects_of(here, 1)
    gate = asyncio.Event()

    class Slow(ClaimsLater):
        async def claim(self, node: str, room: int) -> Sequence[Deployment]:
            found = await super().claim(node, room)
            await gate.wait()
            return found

    queue = Slow(here.database, here.context.clock)
    settings = UNTENDED.model_copy(update={"poll": timedelta(seconds=60)})
    here.runner.engine = short_engine(here, settings, queue)
    async with at_work(here.runner.engine):
        await queue.asked.wait()
        assert (await here.deploy(project)).status is Status.QUEUED
        queue.open = True
        gate.set()
        await all_ended(here, within_s=20)


async def test_a_node_that_serves_no_more_begins_nothing(here: World) -> None:
    [project] = await projects_of(here, 1)
    queue = ClaimsLater(here.database, here.context.clock)
    here.runner.engine = short_engine(here, BRISK, queue)
    assert (await here.deploy(project)).status is Status.QUEUED, "not yet"
    async with at_work(here.runner.engine):
        await queue.asked.wait()
    assert (await here.deploy(project)).status is Status.QUEUED


async def test_a_submission_whose_answer_is_late_is_not_let_go_of_meanwhile(here: World) -> None:
    [project] = await projects_of(here, 1)
    queue = ClaimsLater(here.database, here.context.clock)
    engine = short_engine(here, BRISK.model_copy(update={"beat": timedelta(milliseconds=20)}), queue)

    async def late(node: str | None) -> Submission:
        if node is None:
            raise Busy
        made = await here.context.deployments.submit(a_request(project), request_key="one", claimed_by=node)
        await asyncio.sleep(0.3)
        return made

    async with at_work(engine):
        await queue.asked.wait()
        await begun(engine, late)
        queue.open = True
        await all_ended(here)

    [found] = await exact(here, [project])
    assert found.fence == 1


class Busy(Exception):
    """The node claims or tends just now."""


async def begun(engine: Engine, submit: Submit) -> Submission:
    """Once the node is not busy."""
    while True:
        with suppress(Busy):
            return await engine.begin(submit)
        await asyncio.sleep(0.005)


async def test_a_submission_whose_answer_is_lost_is_carried_all_the_same(here: World) -> None:
    [project] = await projects_of(here, 1)
    queue = ClaimsLater(here.database, here.context.clock)
    engine = short_engine(here, BRISK, queue)

    async def unheard(node: str | None) -> Submission:
        if node is None:
            raise Busy
        await here.context.deployments.submit(a_request(project), request_key="one", claimed_by=node)
        raise Unavailable("The answer was lost.")

    async with at_work(engine):
        await queue.asked.wait()
        with pytest.raises(Unavailable):
            await begun(engine, unheard)
        queue.open = True
        await all_ended(here)

    [found] = await exact(here, [project])
    assert found.fence == 2, "what was claimed unheard had to be claimed again"


async def test_a_beginning_and_a_hold_that_race_never_both_win(here: World) -> None:
    projects = await projects_of(here, 10)
    queue = DeploymentQueue(here.database, here.context.clock)
    await queue.join("node", 60)
    won = {"hold": 0, "begin": 0}
    lag_s = 0.01
    # Who begins writes more before it has the app; how much longer that takes is found out.
    for project in projects * 4:
        state = await here.context.apps.ensure(project, "production")

        async def hold(app: App = state.app, lag_s: float = lag_s) -> float | None:
            await asyncio.sleep(random.uniform(0, lag_s))
            return await here.context.apps.hold(app, 60)

        async def begin(project: Project = project) -> Deployment:
            await asyncio.sleep(random.uniform(0, 0.004))
            wanted = a_request(project)
            return (await here.context.deployments.submit(wanted, request_key=None, claimed_by="node")).deployment

        ticket, mine = await asyncio.gather(hold(), begin())
        assert (ticket is None) == (mine.status is Status.RUNNING), "exactly one of them has the app"
        won["hold" if ticket is not None else "begin"] += 1
        lag_s *= 1.5 if ticket is not None else 0.7
        if ticket is not None:
            await here.context.apps.let_go(state.app, ticket)
            [mine] = await queue.claim("node", 10)
        mine = await queue.advance(mine, "node", mine.give_up(Stage.FETCH, _cancelled()))
        await queue.advance(mine, "node", mine.end_abandoned())
    assert min(won.values()) > 0, won


async def test_a_write_whose_answer_is_lost_is_in_the_history_once(here: World) -> None:
    projects = await projects_of(here, 8)
    queue = LosesAnswers(here.database, here.context.clock, advances=2)
    for project in projects:
        await here.deploy(project)
    touched: dict[str, list[str]] = {}
    async with at_work(short_engine(here, BRISK, queue, short_work(touched))):
        await all_ended(here)

    found = await exact(here, projects)
    kinds = {tuple(await here.kinds(each)) for each in found}
    assert queue.lost >= 8
    assert len(kinds) == 1, "the same events for all, whether their answers came or not"
    assert all(effects == ["1:fetch", "1:build", "1:release"] for effects in touched.values())


# Several nodes.


@pytest.mark.timeout(400)
async def test_three_nodes_of_which_one_dies_never_overlap_and_end_everything(
    migrated_postgres_url: str, tmp_path: Path
) -> None:
    """R-05, R-15."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(world(migrated_postgres_url, tmp_path))
        projects = await projects_of(here, 12)
        at_hand: dict[str, set[str]] = defaultdict(set)
        overlaps: list[str] = []

        async def carry(run: Run) -> None:
            others = at_hand[run.deployment.app_key]
            if others - {run.deployment.id}:
                overlaps.append(f"{run.deployment.id} beside {others}")
            others.add(run.deployment.id)
            await short_work(pause_s=0.01)(run)
            others.discard(run.deployment.id)

        leases = [timedelta(seconds=2), BRISK.lease, BRISK.lease]
        nodes = [short_engine(here, BRISK.model_copy(update={"lease": lease}), carry=carry) for lease in leases]
        tasks = [await stack.enter_async_context(at_work(node)) for node in nodes]
        accepted = []
        for n in range(120):
            accepted.append(await here.deploy(random.choice(projects), request_key=f"key-{n}"))
            if n == 50:
                tasks[0].cancel()  # hard: nothing is handed over
                for app in at_hand.values():
                    app.clear()
            await asyncio.sleep(0.005)
        await all_ended(here, within_s=300)

        found = await exact(here, projects)
        assert {d.id for d in found} == {d.id for d in accepted}
        assert overlaps == []
        assert {d.status for d in found} <= {Status.CANCELLED, Status.SUPERSEDED}


async def test_a_node_that_lost_its_lease_writes_nothing_more(migrated_postgres_url: str, tmp_path: Path) -> None:
    """R-15: its work is another's by then, which has ended it; the late owner changes nothing."""
    async with world(migrated_postgres_url, tmp_path) as here:
        [project] = await projects_of(here, 1)
        in_hand, go_on = asyncio.Event(), asyncio.Event()
        late: list[BaseException] = []

        async def slow(run: Run) -> None:
            in_hand.set()
            await asyncio.shield(go_on.wait())
            try:
                await run.record(StageStarted(stage=Stage.FETCH, fence=run.deployment.fence))
            except Lost as lost:
                late.append(lost)
                raise

        class NeverRenews(DeploymentQueue):
            async def renew(self, node: str, lease_s: float) -> bool:
                return True

        queue = NeverRenews(here.database, here.context.clock)
        robbed = short_engine(here, BRISK, queue, slow)
        async with at_work(robbed):
            started = await here.deploy(project)
            async with asyncio.timeout(10):
                await in_hand.wait()
            assert await DeploymentQueue(here.database, here.context.clock).renew(robbed.node, 0.0), "it ran out"
            async with at_work(short_engine(here, BRISK)):
                await here.ended(started)
            before = await here.context.deployments.events(started.id)
            go_on.set()
            async with asyncio.timeout(10):
                while not late:
                    await asyncio.sleep(0.01)

        assert await here.context.deployments.events(started.id) == before
        assert len(await exact(here, [project])) == 1


async def test_a_node_whose_lease_ran_out_claims_nothing(here: World) -> None:
    """R-15: least of all what it works on itself, which others may take now."""
    [project] = await projects_of(here, 1)
    queue = DeploymentQueue(here.database, here.context.clock)
    await queue.join("node", 60)
    await here.deploy(project)
    [mine] = await queue.claim("node", 10)
    assert await queue.renew("node", 0.0), "from now on it has none"

    assert await queue.claim("node", 10) == []
    await queue.join("other", 60)
    assert [(d.id, d.fence) for d in await queue.claim("other", 10)] == [(mine.id, 2)]


async def test_a_live_owner_of_a_slow_stage_is_not_robbed(migrated_postgres_url: str, tmp_path: Path) -> None:
    """R-15: a stage may take longer than the lease as long as its owner renews it."""
    async with world(migrated_postgres_url, tmp_path) as here:
        settings = BRISK.model_copy(update={"lease": timedelta(seconds=2)})
        [project] = await projects_of(here, 1)
        touched: dict[str, list[str]] = {}
        async with at_work(short_engine(here, settings, carry=short_work(touched, pause_s=3.0))):
            started = await here.deploy(project)
            async with at_work(short_engine(here, settings, carry=short_work(touched))):
                done = await here.ended(started)

        assert done.fence == 1
        assert touched[done.id] == ["1:fetch", "1:build", "1:release"]


async def test_a_process_that_dies_while_it_settles_an_unknown_outcome_leaves_that_to_the_next(here: World) -> None:
    """R-02, at `settle.started`."""
    here.deadlines = Deadlines(promote=timedelta(seconds=0.3))
    project = await here.project()
    answering = here.target.hang("answering")
    async with here.node():
        started = await here.deploy(project)
        async with asyncio.timeout(20):
            while "promote.started" not in here.reached_points:
                await asyncio.sleep(0.01)
        check = here.target.hang("check")
        async with asyncio.timeout(20):
            while "settle.started" not in here.reached_points:
                await asyncio.sleep(0.01)
        unknown = await here.reaching(started, Status.UNKNOWN)
    answering.set()
    check.set()
    async with here.node():
        done = await here.ended(started)

    assert (unknown.fence, done.fence) == (1, 2)
    assert [d.status for d in await exact(here, [project])] == [Status.SUCCEEDED]


# Many at once.


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_two_hundred_released_at_once_all_end_and_no_lease_is_lost(here: World) -> None:
    """R-31: the renewal does not queue behind the work."""
    project = await here.project()
    count = 200
    await _queue_many(here, project, count)
    touched: dict[str, list[str]] = {}
    engine = short_engine(here, EngineSettings(capacity=count), carry=short_work(touched))
    async with at_work(engine) as task:
        await all_ended(here, within_s=300)
        assert not task.done(), "the node lost its lease"

    assert len(touched) == count
    assert all(effects == ["1:fetch", "1:build", "1:release"] for effects in touched.values())
    assert await here.context.deployments.counts() == {Status.CANCELLED: count}


async def _queue_many(here: World, project: Project, count: int) -> None:
    """One queued deployment in each of many environments of one project: they are apps of their own."""
    for n in range(count):
        await here.deploy(project, environment=f"env-{n}")


# The hold a watcher takes.


async def test_nothing_of_a_held_app_is_started_until_it_is_let_go(here: World) -> None:
    project, other = await projects_of(here, 2)
    queue = DeploymentQueue(here.database, here.context.clock)
    await queue.join("node", 60)
    state = await here.context.apps.ensure(project, "production")
    hold = await here.context.apps.hold(state.app, 60)
    assert hold is not None
    assert await here.context.apps.hold(state.app, 60) is None
    held, free = await here.deploy(project), await here.deploy(other)

    assert [d.id for d in await queue.claim("node", 10)] == [free.id]
    await here.context.apps.let_go(state.app, hold)
    assert [d.id for d in await queue.claim("node", 10)] == [held.id]
    assert await here.context.apps.hold(state.app, 60) is None, "a deployment of the app is under way"


async def test_a_hold_whose_watcher_died_runs_out(here: World) -> None:
    [project] = await projects_of(here, 1)
    queue = DeploymentQueue(here.database, here.context.clock)
    await queue.join("node", 60)
    state = await here.context.apps.ensure(project, "production")
    hold = await here.context.apps.hold(state.app, 60)
    started = await here.deploy(project)
    assert await queue.claim("node", 10) == []
    async with here.database.write() as connection:
        await connection.execute(sa.update(apps).values(held_until=here.database.now))
    again = await here.context.apps.hold(state.app, 60)
    assert again is not None
    await here.context.apps.let_go(state.app, hold or 0.0)
    assert await queue.claim("node", 10) == [], "the late watcher does not end the hold of another one"

    await here.context.apps.let_go(state.app, again)
    assert [d.id for d in await queue.claim("node", 10)] == [started.id]


async def test_a_claim_and_a_hold_that_race_never_both_win(here: World) -> None:
    projects = await projects_of(here, 10)
    queue = DeploymentQueue(here.database, here.context.clock)
    await queue.join("node", 60)
    won = {"hold": 0, "claim": 0}
    hold_lags_s = claim_lags_s = 0.004
    for _ in range(4):
        for project in projects:
            state = await here.context.apps.ensure(project, "production")
            started = await here.deploy(project)

            async def hold(app: App = state.app, lag_s: float = hold_lags_s) -> float | None:
                await asyncio.sleep(random.uniform(0, lag_s))
                return await here.context.apps.hold(app, 60)

            async def claim(lag_s: float = claim_lags_s) -> Sequence[Deployment]:
                await asyncio.sleep(random.uniform(0, lag_s))
                return await queue.claim("node", 10)

            ticket, claimed = await asyncio.gather(hold(), claim())
            assert (ticket is None) == bool(claimed), "exactly one of them has the app"
            won["hold" if ticket is not None else "claim"] += 1
            # Whoever wins gives the other one a start.
            if ticket is not None:
                hold_lags_s, claim_lags_s = hold_lags_s * 1.5, claim_lags_s * 0.7
            else:
                hold_lags_s, claim_lags_s = hold_lags_s * 0.7, claim_lags_s * 1.5
            if ticket is not None:
                await here.context.apps.let_go(state.app, ticket)
                claimed = await queue.claim("node", 10)
            [mine] = claimed
            assert mine.id == started.id
            await queue.advance(mine, "node", mine.give_up(Stage.FETCH, _cancelled()))
            mine = await here.context.deployments.get(mine.id) or mine
            await queue.advance(mine, "node", mine.end_abandoned())
    assert min(won.values()) > 0, won


def _cancelled() -> Failure:
    return Failure(stage="fetch", code="cancelled", message="", hint="", evidence={}, ends_as=Status.CANCELLED)


async def test_a_new_start_on_sqlite_ends_the_holds_of_the_process_before(here: World) -> None:
    if not here.database.is_sqlite:
        pytest.skip("with PostgreSQL the other process may live")
    [project] = await projects_of(here, 1)
    state = await here.context.apps.ensure(project, "production")
    assert await here.context.apps.hold(state.app, 3600) is not None
    queue = DeploymentQueue(here.database, here.context.clock)
    await queue.join("node", 60)
    started = await here.deploy(project)

    assert [d.id for d in await queue.claim("node", 10)] == [started.id]


async def test_a_node_whose_database_says_nothing_gives_its_work_up_within_its_lease(here: World) -> None:
    """R-15: silence is no refusal, and another node takes over meanwhile."""
    settings = BRISK.model_copy(update={"lease": timedelta(seconds=1), "beat": timedelta(milliseconds=100)})
    silent = asyncio.Event()

    class Silent(DeploymentQueue):
        async def renew(self, node: str, lease_s: float) -> bool:
            if silent.is_set():
                await asyncio.Event().wait()
            return await super().renew(node, lease_s)

    queue = Silent(here.database, here.context.clock)
    engine = Engine(queue, short_work(), here.context.feed, settings, reached=nothing_reached, alone=False)
    serving = asyncio.create_task(engine.run())
    await asyncio.sleep(0.3)
    silent.set()
    with pytest.raises(Lost):
        async with asyncio.timeout(5):
            await serving
