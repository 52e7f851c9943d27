"""R-04: every delivery is decided once, and answered with what the first one led to, whatever happens in between."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.domain.github import Received
from klepaas.domain.verdict import Outcome
from klepaas.errors import DatabaseUnavailable, Invalid
from klepaas.operations import intake as intakes
from klepaas.operations import projects
from klepaas.operations.intake import Intake, decide, refuse
from klepaas.operations.projects import Registration
from klepaas.storage import tables
from klepaas.watchers import inbox as inboxes
from klepaas.watchers.inbox import Inbox
from tests.deliveries.conftest import Decider, hooked
from tests.deliveries.payloads import push, to_bytes
from tests.workflows.world import PATIENCE_S, World

BUDGET = timedelta(seconds=20)


def received(here: World, delivery_id: str = "d-1", body: bytes | None = None, **changes: Any) -> Received:
    body = to_bytes(push()) if body is None else body
    now = here.context.clock.now()
    return replace(Received(id=delivery_id, event="push", body=body, received_at=now), **changes)


async def deploying(here: World) -> Decider:
    project = await here.project()
    return Decider(project, Outcome.DEPLOYED, "by push", "dep_1")


def inbox(here: World, intake: Intake, *, alone: bool = True, leads: bool = True) -> Inbox:
    async def leading() -> bool:
        return leads

    return Inbox(context=here.context, intake=intake, leads=leading, keep=timedelta(days=30), alone=alone)


async def decided(here: World, delivery_id: str = "d-1") -> Any:
    """The delivery once the inbox shows that it was decided."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await here.context.deliveries.get(delivery_id)
            if found is not None and found.decided_at is not None:
                return found
            await asyncio.sleep(0.01)


async def test_fifty_arrivals_at_once_are_one_delivery(here: World) -> None:
    """R-04: concurrently."""
    decider = await deploying(here)
    intake = Intake(here.context, decider, budget=BUDGET)

    answers = await asyncio.gather(*(intake.receive(received(here)) for _ in range(50)))

    assert decider.asked == ["d-1"]
    assert all(answer["deploy"]["deployment_id"] == "dep_1" for answer in answers)
    assert len(await here.context.deliveries.list(None)) == 1


async def test_a_repeat_after_its_end_is_answered_with_the_first_ones_deployment(here: World) -> None:
    """R-04: after completion, also by a process that was started since."""
    decider = await deploying(here)
    intake = Intake(here.context, decider, budget=BUDGET)
    first = await intake.receive(received(here))
    await decided(here)

    repeated = await intake.receive(received(here))
    started_since = await Intake(here.context, decider, budget=BUDGET).receive(received(here))

    assert repeated == started_since == first
    assert decider.asked == ["d-1"]


async def test_two_processes_that_get_the_same_delivery_store_it_once(here: World) -> None:
    decider = await deploying(here)
    processes = [Intake(here.context, decider, budget=BUDGET) for _ in range(4)]

    answers = await asyncio.gather(*(each.receive(received(here)) for each in processes))

    assert {answer["deploy"]["deployment_id"] for answer in answers} == {"dep_1"}
    assert len(await here.context.deliveries.list(None)) == 1
    assert len((await decided(here)).decisions) == 1


async def test_it_is_on_disk_before_anybody_decides(alone: World) -> None:
    seen: list[bool] = []

    async def look(context: Any, told: Any, delivery_id: str) -> Any:
        seen.append(await context.deliveries.get(delivery_id) is not None)
        return []

    await Intake(alone.context, look, budget=BUDGET).receive(received(alone))

    assert seen == [True]


async def test_what_the_rules_refuse_is_stored_with_what_it_means(here: World) -> None:
    project = await here.project()
    intake = Intake(here.context, decide, refuse=refuse, budget=BUDGET)
    told = received(here, body=to_bytes(push(ref="refs/heads/topic")))
    await intake.receive(replace(told, id="d-0"))  # by which the repository's ids become known
    await decided(here, "d-0")

    answer = await intake.receive(told)
    found = await here.context.deliveries.get("d-1")

    assert answer == {"status": "ignored", "reason": "not main branch", "branch": "topic"}
    assert found is not None
    assert (found.answer, found.decided_at) == (answer, told.received_at), "nobody waited for a second write"
    assert [each.verdict.project_id for each in found.decisions] == [project.id]
    assert await intake.receive(told) == answer


async def test_the_same_refused_delivery_fifty_times_at_once_is_one(here: World) -> None:
    """R-04."""
    await here.project()
    intake = Intake(here.context, decide, refuse=refuse, budget=BUDGET)
    told = received(here, body=to_bytes(push(ref="refs/heads/topic")))
    await intake.receive(replace(told, id="d-0"))

    answers = await asyncio.gather(*(intake.receive(told) for _ in range(50)))

    assert {answer["reason"] for answer in answers} == {"not main branch"}
    assert [each.id for each in await here.context.deliveries.list(None)] == ["d-1", "d-0"]


async def test_rules_that_cannot_be_read_now_are_no_reason_to_lose_a_delivery(alone: World) -> None:
    async def unread(*_: Any) -> Any:
        raise DatabaseUnavailable("The database does not answer.")

    intake = Intake(alone.context, await deploying(alone), refuse=unread, budget=BUDGET)

    assert (await intake.receive(received(alone)))["status"] == "triggered"


async def test_a_sender_is_not_kept_waiting_and_the_decision_goes_on(here: World) -> None:
    decider = await deploying(here)
    decider.gate = asyncio.Event()
    intake = Intake(here.context, decider, budget=timedelta(milliseconds=50))

    first = await intake.receive(received(here))
    repeated = await intake.receive(received(here))
    decider.gate.set()
    found = await decided(here)

    assert first == repeated == {"status": "accepted", "delivery_id": "d-1"}
    assert found.answer["deploy"]["deployment_id"] == "dep_1"
    assert decider.asked == ["d-1"]


async def test_a_sender_that_hangs_up_loses_nothing(alone: World) -> None:
    decider = await deploying(alone)
    decider.gate = asyncio.Event()
    intake = Intake(alone.context, decider, budget=BUDGET)
    sender = asyncio.create_task(intake.receive(received(alone)))
    async with asyncio.timeout(PATIENCE_S):
        while not decider.asked:
            await asyncio.sleep(0.01)
    sender.cancel()
    await asyncio.wait({sender})
    decider.gate.set()

    assert (await decided(alone)).answer["status"] == "triggered"


async def test_what_a_process_left_behind_is_decided_by_the_next_one(here: World) -> None:
    """R-04: after a restart; in the order they came."""
    for number in range(3):
        await here.context.deliveries.add(received(here, f"d-{number}"), repository="acme/shop", answer=None)
    decider = await deploying(here)
    intake = Intake(here.context, decider, budget=BUDGET)

    await inbox(here, intake).look()

    assert sorted(decider.asked) == ["d-0", "d-1", "d-2"]
    for number in range(3):
        assert (await decided(here, f"d-{number}")).answer["status"] == "triggered"
    await inbox(here, intake).look()
    assert len(decider.asked) == 3


async def test_a_delivery_in_another_process_s_hands_is_left_to_it_for_a_while(here: World) -> None:
    decider = await deploying(here)
    intake = Intake(here.context, decider, budget=BUDGET)
    old = here.context.clock.now() - timedelta(minutes=1)
    await here.context.deliveries.add(received(here, "old", received_at=old), repository=None, answer=None)
    await here.context.deliveries.add(received(here, "new"), repository=None, answer=None)

    await inbox(here, intake, alone=False).look()

    assert decider.asked == ["old"]


async def test_what_cannot_be_decided_now_is_accepted_and_decided_later(
    alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "LOOK_EVERY_S", 0.02)
    decider = await deploying(alone)
    decider.fault = RuntimeError("a fault of ours")
    intake = Intake(alone.context, decider, budget=BUDGET)

    answer = await intake.receive(received(alone))
    working = asyncio.create_task(inbox(alone, intake).run())
    async with asyncio.timeout(PATIENCE_S):
        while len(decider.asked) < 3:  # tried again, and again
            await asyncio.sleep(0.01)
    decider.fault = None
    found = await decided(alone)
    working.cancel()

    assert answer == {"status": "accepted", "delivery_id": "d-1"}
    assert found.answer["status"] == "triggered"


async def test_one_that_never_can_be_decided_is_asked_ever_more_seldom(alone: World) -> None:
    decider = await deploying(alone)
    decider.fault = RuntimeError("a fault of ours")
    watcher = inbox(alone, Intake(alone.context, decider, budget=BUDGET))
    await alone.context.deliveries.add(received(alone), repository=None, answer=None)

    for _ in range(5):
        await watcher.look()

    assert len(decider.asked) == 1


async def test_who_does_not_lead_leaves_the_inbox_alone(alone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "LOOK_EVERY_S", 0.01)
    decider = await deploying(alone)
    await alone.context.deliveries.add(received(alone), repository=None, answer=None)
    working = asyncio.create_task(inbox(alone, Intake(alone.context, decider, budget=BUDGET), leads=False).run())
    await asyncio.sleep(0.1)
    working.cancel()

    assert decider.asked == []


async def test_what_could_not_be_stored_is_not_answered_as_if_it_were(alone: World) -> None:
    decider = await deploying(alone)

    class Away:
        async def add(self, *_: Any, **__: Any) -> None:
            raise DatabaseUnavailable("The database does not answer.")

    alone.context = replace(alone.context, deliveries=Away())  # type: ignore[arg-type]
    async with hooked(alone, decider) as hook:
        answer = await hook.send()

    assert (answer.status_code, answer.json()) == (503, {"detail": "The database does not answer."})
    assert decider.asked == []


async def test_what_cannot_be_read_is_not_stored(alone: World) -> None:
    intake = Intake(alone.context, await deploying(alone), budget=BUDGET)

    with pytest.raises(Invalid):
        await intake.receive(received(alone, body=b"{"))

    assert await alone.context.deliveries.list(None) == []


async def test_a_flood_is_stored_and_decided_as_time_allows(alone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intakes, "HELD_AT_MOST", 5)
    decider = await deploying(alone)
    decider.gate = asyncio.Event()
    intake = Intake(alone.context, decider, budget=timedelta(milliseconds=50))

    answers = await asyncio.gather(*(intake.receive(received(alone, f"d-{number}")) for number in range(20)))
    decider.gate.set()
    await inbox(alone, intake).look()

    assert {answer["status"] for answer in answers} == {"accepted"}
    for number in range(20):
        await decided(alone, f"d-{number}")


async def test_the_same_head_told_by_many_deliveries_is_one_deployment(here: World) -> None:
    """R-04, by the real rules: reordered, concurrently and after its end."""
    rules = {"pushes": "every_push"}
    wanted = Registration(repository="acme/shop", target="fake", auto_deploy=True, rules=rules)
    await projects.register(here.context, here.actor, wanted)
    async with hooked(here) as hook:
        answers = [
            *await asyncio.gather(*(hook.send(delivery=f"d-{number}") for number in (*range(9, -1, -1), *range(10)))),
            await hook.send(delivery="d-3"),
            await hook.send(delivery="afterwards"),
        ]

    async with here.database.read() as connection:
        count = await connection.scalar(sa.select(sa.func.count()).select_from(tables.deployments))
        known = await connection.scalar(sa.select(tables.deployments.c.id))
    assert count == 1
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["deploy"]["deployment_id"] for answer in answers} == {known}


async def test_a_repository_of_1500_projects_keeps_no_sender_waiting(alone: World) -> None:
    """R-20: acknowledged within the budget, decided for all of them."""
    template = await projects.register(
        alone.context,
        alone.actor,
        Registration(repository="acme/shop", name="first", target="fake", rules={"pushes": "every_push"}),
    )
    async with alone.database.write() as connection:
        row = (await connection.execute(sa.select(tables.projects))).one()._asdict()
        copies = [{**row, "number": row["number"] + n, "id": f"prj_{n}", "name": f"copy-{n}"} for n in range(1, 1500)]
        await connection.execute(sa.insert(tables.projects), copies)
    intake = Intake(alone.context, decide, refuse=refuse, budget=timedelta(milliseconds=800))
    told = [received(alone, f"d-{n}", to_bytes(push(ref=f"refs/heads/topic/{n}"))) for n in range(3)]

    answers = await asyncio.gather(*(intake.receive(each) for each in told))
    found = [await decided(alone, each.id) for each in told]

    assert {answer["status"] for answer in answers} <= {"accepted", "ignored"}
    assert [len(each.decisions) for each in found] == [1500] * 3
    assert template.id in {each.verdict.project_id for each in found[0].decisions}
