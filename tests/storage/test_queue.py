import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest
import sqlalchemy as sa

from klepaas.domain.deployment import Deployment, replay
from klepaas.domain.events import CancellationRequested, CommitResolved, Event, StageFinished, StageStarted
from klepaas.domain.project import Project
from klepaas.domain.status import Stage, Status
from klepaas.errors import Conflict
from klepaas.operations.ports.queue import Lost
from klepaas.storage import event_log
from klepaas.storage.database import Database
from klepaas.storage.tables import deployments, nodes
from tests.storage.worlds import SHA, Memory, a_request

STARTED = StageStarted(stage=Stage.FETCH, fence=1)
RESOLVED = CommitResolved(commit_sha=SHA, message="A commit", author="A", committed_at="2026-03-01T12:00:00Z")


async def test_twenty_racing_submissions_of_an_app_leave_one_queued_and_lose_none(memory: Memory) -> None:
    project = await memory.project()
    made = await asyncio.gather(*(memory.submit(project) for _ in range(20)))

    stored = await memory.deployments.of_project(project.id)
    assert {each.id for each in stored} == {each.id for each in made}
    assert Counter(each.status for each in stored) == {Status.QUEUED: 1, Status.SUPERSEDED: 19}
    assert stored[0].status is Status.QUEUED, "the newest one is queued"
    for each in stored:
        await _row_is_what_its_events_add_up_to(memory, each.id)


async def test_the_same_request_twenty_times_at_once_is_one_deployment(memory: Memory) -> None:
    project = await memory.project()
    request = a_request(project)
    submissions = await asyncio.gather(*(memory.deployments.submit(request, request_key="prj:key") for _ in range(20)))

    assert len({each.deployment.id for each in submissions}) == 1
    assert [each.is_new for each in submissions].count(True) == 1
    assert len(await memory.deployments.of_project(project.id)) == 1


async def test_a_request_repeated_after_its_deployment_was_superseded_is_still_that_deployment(
    memory: Memory,
) -> None:
    project = await memory.project()
    first = await memory.submit(project, key="one")
    second = await memory.submit(project, key="two")

    again = await memory.deployments.submit(a_request(project), request_key="one")
    assert (again.deployment.id, again.is_new) == (first.id, False)
    assert again.deployment.status is Status.SUPERSEDED
    assert again.deployment.superseded_by == second.id
    found = await memory.deployments.by_request("two")
    assert found is not None
    assert found.id == second.id


async def test_apps_have_queues_of_their_own(memory: Memory) -> None:
    one, other = await memory.project(), await memory.project()
    for project in (one, other):
        await memory.submit(project, environment="staging")
        await memory.submit(project)

    assert await memory.deployments.counts() == {Status.QUEUED: 4}


async def test_only_one_deployment_of_an_app_runs(memory: Memory) -> None:
    project = await memory.project()
    await memory.queue.join("node", 60)
    first = await memory.submit(project)
    assert not await memory.deployments.is_in_hand(first.app_key)
    assert [each.id for each in await memory.queue.claim("node", 10)] == [first.id]
    assert await memory.deployments.is_in_hand(first.app_key)
    second = await memory.submit(project)

    assert await memory.queue.claim("node", 10) == []
    assert (await _get(memory, second.id)).status is Status.QUEUED


async def test_a_deployment_that_may_run_is_claimed_with_its_submission(memory: Memory) -> None:
    project = await memory.project()
    await memory.apps.ensure(project, "production")
    await memory.queue.join("node", 60)
    submission = await memory.deployments.submit(a_request(project), request_key="one", claimed_by="node")
    made = submission.deployment

    assert (made.status, made.fence, submission.is_new) == (Status.RUNNING, 1, True)
    assert made == await _row_is_what_its_events_add_up_to(memory, made.id)
    history = await memory.deployments.events(made.id)
    assert [(each.event.kind, each.node) for each in history] == [
        ("deployment.queued", "door"),
        ("deployment.claimed", "node"),
        ("stage.started", "node"),
    ]
    assert await memory.queue.owned("node") == {made.id: False}
    assert await memory.queue.claim("node", 10) == [], "it is in hand"
    again = await memory.deployments.submit(a_request(project), request_key="one", claimed_by="node")
    assert (again.deployment, again.is_new) == (made, False)
    after = await memory.queue.advance(made, "node", [RESOLVED])
    assert after.commit_message == "A commit"


async def test_a_submission_is_only_queued_where_its_deployment_may_not_begin(memory: Memory) -> None:
    busy, held, free = [await memory.project(name=name) for name in ("busy", "held", "free")]
    await memory.queue.join("node", 60)
    await memory.queue.join("gone", -1)
    if memory.database.is_sqlite:  # where who joins is alone
        await memory.queue.join("node", 60)
    await memory.submit(busy)
    await memory.queue.claim("node", 10)
    hold = await memory.apps.hold((await memory.apps.ensure(held, "production")).app, 60)

    async def submitted(project: Project, node: str) -> Status:
        submission = await memory.deployments.submit(a_request(project), request_key=None, claimed_by=node)
        return submission.deployment.status

    assert hold is not None
    assert await submitted(busy, "node") is Status.QUEUED
    assert await submitted(held, "node") is Status.QUEUED
    assert await submitted(free, "gone") is Status.QUEUED
    assert await submitted(free, "node") is Status.RUNNING, "it takes the queued one's place"


async def test_of_racing_submissions_that_would_all_begin_one_does(memory: Memory) -> None:
    project = await memory.project()
    await memory.queue.join("node", 60)
    made = await asyncio.gather(
        *(memory.deployments.submit(a_request(project), request_key=None, claimed_by="node") for _ in range(20))
    )

    stored = await memory.deployments.of_project(project.id)
    assert {each.id for each in stored} == {each.deployment.id for each in made}
    assert Counter(each.status for each in stored) == {Status.RUNNING: 1, Status.QUEUED: 1, Status.SUPERSEDED: 18}
    assert sum(each.deployment.status is Status.RUNNING for each in made) == 1
    for each in stored:
        await _row_is_what_its_events_add_up_to(memory, each.id)


async def test_nodes_that_claim_at_once_share_the_work_and_nothing_is_claimed_twice(memory: Memory) -> None:
    """R-15: nobody takes what a live owner has just claimed."""
    names = ["a", "b", "c"]
    if memory.database.is_sqlite:
        names = ["a"]  # one process is all there is
    for name in names:
        await memory.queue.join(name, 60)
    projects = [await memory.project(name=f"shop-{n}") for n in range(30)]
    for _ in range(3):
        made = [await memory.submit(project) for project in projects]
        taken: Counter[str] = Counter()
        while await memory.deployments.counts() and sum(taken.values()) < len(made):
            claims = await asyncio.gather(*(memory.queue.claim(name, 60) for name in names * 3))
            taken.update(each.id for claim in claims for each in claim)
        assert taken == {each.id: 1 for each in made}
        assert {(await _get(memory, each.id)).fence for each in made} == {1}
        for each in made:
            node = await _node_of(memory.database, each.id)
            claimed = await _get(memory, each.id)
            await memory.queue.advance(claimed, node, _failure(claimed))


async def test_a_live_owner_is_not_robbed_and_a_dead_one_is_taken_over(memory: Memory) -> None:
    """R-15."""
    if memory.database.is_sqlite:
        pytest.skip("with SQLite one process is all there is")
    await memory.queue.join("dying", 60)
    await memory.queue.join("other", 60)
    mine = await _claimed(memory, "dying")
    assert await memory.queue.claim("other", 10) == []

    await _expire(memory.database, "dying")
    [taken] = await memory.queue.claim("other", 10)
    assert (taken.id, taken.fence) == (mine.id, 2)
    assert not await memory.queue.renew("dying", 60)
    assert await memory.queue.owned("dying") == {}
    assert await memory.queue.owned("other") == {mine.id: False}


async def test_a_claim_that_looked_before_another_node_claimed_does_not_rob_it(memory: Memory) -> None:
    """R-15: what was free when we looked may have a live owner when we lock it."""
    if memory.database.is_sqlite:
        pytest.skip("with SQLite one process is all there is")
    for name in ("dead", "fast", "slow"):
        await memory.queue.join(name, 60)
    orphan = await _claimed(memory, "dead")
    await _expire(memory.database, "dead")
    async with memory.database.write() as connection:
        # From here on looking at nodes takes a while, and the fast one comes in between.
        await connection.execute(sa.text("ALTER TABLE nodes RENAME TO real_nodes"))
        await connection.execute(
            sa.text("CREATE VIEW nodes AS SELECT * FROM real_nodes WHERE pg_sleep(0.5)::text IS NOT NULL")
        )
    slow = asyncio.create_task(memory.queue.claim("slow", 10))
    await asyncio.sleep(0.2)
    async with memory.database.write() as connection:
        taken = await event_log.write(
            connection, orphan, orphan.claim(node="fast", fence=2), at=memory.clock.now(), by="fast"
        )
        await connection.execute(sa.update(deployments).values(node="fast"))
    assert taken is not None

    assert await slow == []
    assert await _node_of(memory.database, orphan.id) == "fast"
    assert (await _get(memory, orphan.id)).fence == 2


async def test_a_restarted_process_takes_over_at_once_on_sqlite(memory: Memory) -> None:
    if not memory.database.is_sqlite:
        pytest.skip("with PostgreSQL a lease has to run out")
    await memory.queue.join("before", 1e9)
    mine = await _claimed(memory, "before")
    await memory.queue.join("after", 1e9)

    assert [(each.id, each.fence) for each in await memory.queue.claim("after", 10)] == [(mine.id, 2)]


async def test_a_stale_owner_can_write_nothing(memory: Memory) -> None:
    """R-15: a paused owner that wakes up is fenced off, also when it has its own name."""
    await memory.queue.join("node", 60)
    stale = await _claimed(memory, "node")
    await memory.queue.let_go(stale.id, "node")
    [fresh] = await memory.queue.claim("node", 10)
    assert fresh.fence == 2
    before = await memory.deployments.events(stale.id)

    for node in ("node", "nobody"):
        with pytest.raises(Lost):
            await memory.queue.advance(stale, node, [STARTED])
    with pytest.raises(Lost):
        await memory.queue.advance(fresh, "nobody", [STARTED])
    await memory.queue.let_go(fresh.id, "nobody")
    assert await memory.deployments.events(stale.id) == before
    assert await memory.queue.owned("node") == {fresh.id: False}


async def test_what_was_let_go_for_a_while_is_claimed_after_that_while(memory: Memory) -> None:
    await memory.queue.join("node", 60)
    mine = await _claimed(memory, "node")
    await memory.queue.let_go(mine.id, "node", look_again_in_s=3600)
    assert await memory.queue.claim("node", 10) == []

    async with memory.database.write() as connection:
        await connection.execute(sa.update(deployments).values(look_again_at=0.0))
    assert [each.id for each in await memory.queue.claim("node", 10)] == [mine.id]


async def test_an_advance_repeated_after_a_lost_answer_changes_nothing(memory: Memory) -> None:
    await memory.queue.join("node", 60)
    claimed = await _claimed(memory, "node")
    events = [STARTED, RESOLVED, StageFinished(stage=Stage.FETCH, took_s=0.1, next_step=Stage.BUILD)]
    first = await memory.queue.advance(claimed, "node", events)
    second = await memory.queue.advance(claimed, "node", events)

    assert first == second == await _get(memory, claimed.id)
    assert len(await memory.deployments.events(claimed.id)) == claimed.seq + 3


async def test_a_claim_whose_answer_was_lost_is_seen_and_can_be_let_go(memory: Memory) -> None:
    await memory.queue.join("node", 60)
    deployment = await memory.submit(await memory.project())
    with suppress(ConnectionError):
        await memory.queue.claim("node", 10)
        raise ConnectionError("the answer is lost")

    assert await memory.queue.claim("node", 10) == []
    assert await memory.queue.owned("node") == {deployment.id: False}
    await memory.queue.let_go(deployment.id, "node")
    assert [each.fence for each in await memory.queue.claim("node", 10)] == [2]


async def test_other_events_than_the_ones_written_are_not_taken_for_a_repeat(memory: Memory) -> None:
    await memory.queue.join("node", 60)
    claimed = await _claimed(memory, "node")
    await memory.queue.advance(claimed, "node", [STARTED])

    with pytest.raises(Lost):
        await memory.queue.advance(claimed, "node", [RESOLVED])


async def test_a_cancellation_between_two_writes_of_the_owner_stops_neither(memory: Memory) -> None:
    """R-03."""
    await memory.queue.join("node", 60)
    claimed = await _claimed(memory, "node")
    cancelled = await memory.deployments.decide(claimed, claimed.cancel(actor="token laptop"))
    assert await memory.queue.owned("node") == {claimed.id: True}

    advanced = await memory.queue.advance(claimed, "node", [STARTED])
    assert advanced.cancelled_by == "token laptop"
    assert advanced.seq == cancelled.seq + 1
    assert await memory.queue.advance(claimed, "node", [STARTED]) == advanced, "the lost answer of that write"
    await _row_is_what_its_events_add_up_to(memory, claimed.id)


async def test_a_decision_on_an_old_state_is_refused(memory: Memory) -> None:
    await memory.queue.join("node", 60)
    deployment = await memory.submit(await memory.project())
    await memory.queue.claim("node", 10)

    with pytest.raises(Conflict):
        await memory.deployments.decide(deployment, deployment.cancel(actor="token laptop"))
    assert (await _get(memory, deployment.id)).status is Status.RUNNING


async def test_racing_owner_and_canceller_lose_no_event(memory: Memory) -> None:
    """R-03, R-32."""
    await memory.queue.join("node", 60)
    for _ in range(5):
        claimed = await _claimed(memory, "node")

        async def carry(state: Deployment) -> None:
            for n in range(10):
                retried = StageFinished(stage=Stage.FETCH, took_s=float(n), next_step=Stage.FETCH)
                state = await memory.queue.advance(state, "node", [retried])

        async def cancel(deployment_id: str) -> None:
            while True:
                state = await _get(memory, deployment_id)
                with suppress(Conflict):
                    await memory.deployments.decide(state, state.cancel(actor="token laptop"))
                    return

        await asyncio.gather(carry(claimed), cancel(claimed.id))
        state = await _row_is_what_its_events_add_up_to(memory, claimed.id)
        assert state.cancelled_by == "token laptop"
        assert state.seq == claimed.seq + 10 + 1
        await memory.queue.advance(state, "node", state.end_abandoned())


async def test_characters_no_database_keeps_do_not_stop_a_deployment(memory: Memory) -> None:
    """A zero byte or half a surrogate pair in a commit message or a container's last words."""
    await memory.queue.join("node", 60)
    claimed = await _claimed(memory, "node")
    odd = CommitResolved(commit_sha=SHA, message="zero \0 half \ud800 end", author="\0", committed_at="")
    advanced = await memory.queue.advance(claimed, "node", [odd])
    again = await memory.queue.advance(claimed, "node", [odd])

    assert advanced == again == await _row_is_what_its_events_add_up_to(memory, claimed.id)
    assert advanced.commit_message.startswith("zero ")
    assert advanced.commit_message.endswith(" end")


async def test_a_cancelled_write_leaves_the_database_usable(memory: Memory) -> None:
    """A task that is cancelled in the middle of a transaction must not take the only writer with it."""
    project = await memory.project()
    for n in range(60):
        task = asyncio.create_task(memory.submit(project, key=f"key-{n}"))
        await asyncio.sleep(random.uniform(0, 0.01))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async with asyncio.timeout(20):
        last = await memory.submit(project)
    stored = await memory.deployments.of_project(project.id, limit=200)
    assert [each.id for each in stored if each.status is Status.QUEUED] == [last.id]
    for each in stored:
        await _row_is_what_its_events_add_up_to(memory, each.id)


async def test_fifty_writers_at_once_all_succeed(memory: Memory) -> None:
    """R-32."""
    await memory.queue.join("node", 60)
    projects = await asyncio.gather(*(memory.project(name=f"shop-{n}") for n in range(50)))

    async def write(number: int) -> None:
        for _ in range(4):
            await memory.submit(projects[number])
            await memory.projects.set_variables(projects[number].id, "production", {"A": "1"}, memory.clock.now())
            await memory.deployments.of_project(projects[number].id)

    await asyncio.gather(*(write(n) for n in range(50)))
    assert await memory.deployments.counts() == {Status.QUEUED: 50, Status.SUPERSEDED: 150}


def _failure(deployment: Deployment) -> Sequence[Event]:
    asked = CancellationRequested(actor="test")
    return [asked, *deployment.after(asked, deployment.created_at).end_abandoned()]


async def _claimed(memory: Memory, node: str) -> Deployment:
    await memory.submit(await memory.project())
    [claimed] = await memory.queue.claim(node, 1)
    return claimed


async def _get(memory: Memory, deployment_id: str) -> Deployment:
    found = await memory.deployments.get(deployment_id)
    assert found is not None
    return found


async def _node_of(database: Database, deployment_id: str) -> str:
    async with database.read() as connection:
        node = await connection.scalar(sa.select(deployments.c.node).where(deployments.c.id == deployment_id))
        assert isinstance(node, str)
        return node


async def _expire(database: Database, node: str) -> None:
    async with database.write() as connection:
        await connection.execute(sa.update(nodes).where(nodes.c.id == node).values(lease_until=0.0))


async def _row_is_what_its_events_add_up_to(memory: Memory, deployment_id: str) -> Deployment:
    stored = await _get(memory, deployment_id)
    events = await memory.deployments.events(deployment_id)
    assert [each.seq for each in events] == list(range(1, stored.seq + 1))
    replayed = replay(events)
    assert stored == Deployment(**{**vars(replayed), "number": stored.number})
    return stored
