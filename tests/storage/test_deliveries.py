"""The inbox of webhooks: what was answered is on disk, one flush serves a crowd, and each owner sees their part."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.domain.github import Received, RepositoryName
from klepaas.domain.project import Project
from klepaas.domain.repository import parse_repository
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.errors import DatabaseUnavailable
from klepaas.operations.ports.deliveries import Known
from klepaas.storage.database import Database
from klepaas.storage.deliveries import DeliveryTable
from klepaas.storage.projects import ProjectTable
from klepaas.storage.shared import Shared
from klepaas.storage.tables import deliveries
from tests.storage.worlds import NOW, Memory


@pytest.fixture
def table(database: Database) -> DeliveryTable:
    return DeliveryTable(database)


def received(delivery_id: str, *, at: datetime = NOW, body: bytes = b"{}") -> Received:
    return Received(id=delivery_id, event="push", body=body, received_at=at, headers={"user-agent": "é"})


def verdict(project: Project, outcome: Outcome = Outcome.IGNORED, **changes: Any) -> Verdict:
    verdict = Verdict(project_id=project.id, environment="production", outcome=outcome, reason="not main branch")
    return replace(verdict, **changes)


async def add(table: DeliveryTable, delivery_id: str, **changes: Any) -> Known | None:
    return await table.add(received(delivery_id, **changes), repository="acme/shop", answer=None)


async def test_a_delivery_comes_back_as_it_came(table: DeliveryTable) -> None:
    body = bytes(range(256))

    assert await add(table, "d-1", body=body) is None

    found = await table.get("d-1")
    assert found is not None
    assert (found.event, found.repository, found.received_at) == ("push", "acme/shop", NOW)
    assert found.headers == {"user-agent": "é"}
    assert (found.decided_at, found.answer, found.decisions) == (None, None, ())
    assert await table.body("d-1") == body
    assert await table.get("d-2") is await table.body("d-2") is None


async def test_a_known_delivery_changes_nothing_and_brings_its_answer(table: DeliveryTable, memory: Memory) -> None:
    await add(table, "d-1")

    before = await add(table, "d-1", body=b"other")
    await table.decided("d-1", answer={"status": "ignored"}, verdicts=[], at=NOW)
    after = await add(table, "d-1")

    assert (before, after) == (Known(answer=None), Known(answer={"status": "ignored"}))
    assert await table.body("d-1") == b"{}"


async def test_a_crowd_shares_its_transactions(
    table: DeliveryTable, database: Database, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await memory.project()
    began = 0
    name = "write_at_once" if database.is_sqlite else "execute_at_once"
    write = getattr(database, name)

    async def counted(*what: Any, **how: Any) -> Any:
        nonlocal began
        began += 1
        return await write(*what, **how)

    monkeypatch.setattr(database, name, counted)

    await asyncio.gather(*(add(table, f"d-{number}") for number in range(200)))
    await asyncio.gather(
        *(
            table.decided(f"d-{number}", answer={"n": number}, verdicts=[verdict(project)], at=NOW)
            for number in range(200)
        )
    )

    assert began < 20
    found = await table.list(None, limit=1000)
    assert {each.id: each.answer for each in found} == {f"d-{number}": {"n": number} for number in range(200)}
    assert all(len(each.decisions) == 1 for each in found)


async def test_each_of_a_crowd_keeps_its_own_body(table: DeliveryTable) -> None:
    bodies = {f"d-{number}": bytes([number]) * number for number in (7, 0, 3, 200, 1)}

    await asyncio.gather(*(add(table, delivery_id, body=body) for delivery_id, body in bodies.items()))

    assert {delivery_id: await table.body(delivery_id) for delivery_id in bodies} == bodies


async def test_one_that_cannot_be_stored_takes_no_other_with_it(table: DeliveryTable) -> None:
    good = [add(table, f"d-{number}") for number in range(5)]
    outcomes = await asyncio.gather(*good, add(table, None), return_exceptions=True)  # type: ignore[arg-type]

    assert outcomes[:5] == [None] * 5
    assert isinstance(outcomes[5], sa.exc.StatementError | sa.exc.IntegrityError)
    assert len(await table.list(None)) == 5


async def test_a_sender_that_is_gone_leaves_the_others_their_answers(table: DeliveryTable) -> None:
    first, second, third = [asyncio.create_task(add(table, f"d-{number}")) for number in range(3)]
    await asyncio.sleep(0)
    second.cancel()

    assert await asyncio.gather(first, third) == [None, None]
    assert await add(table, "d-4") is None


async def test_without_a_database_nothing_is_promised(database: Database, table: DeliveryTable) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("ALTER TABLE deliveries RENAME TO gone"))

    with pytest.raises((DatabaseUnavailable, sa.exc.ProgrammingError)):
        await add(table, "d-1")

    async with database.write() as connection:
        await connection.execute(sa.text("ALTER TABLE gone RENAME TO deliveries"))
    assert await add(table, "d-1") is None


async def test_a_delivery_may_come_with_what_it_means(table: DeliveryTable, memory: Memory) -> None:
    project = await memory.project()
    first: dict[str, Any] = {"answer": {"n": 1}, "verdicts": [verdict(project)]}
    second: dict[str, Any] = {"answer": {"n": 2}, "verdicts": []}

    new = await asyncio.gather(
        *(table.add(received(f"d-{number}"), repository="acme/shop", **first) for number in range(10))
    )
    again = await table.add(received("d-1"), repository="acme/shop", **second)
    found = await table.get("d-1")

    assert new == [None] * 10
    assert again == Known(answer={"n": 1})
    assert found is not None
    assert (found.answer, found.decided_at) == ({"n": 1}, NOW)
    assert [each.verdict for each in found.decisions] == [verdict(project)]


def repository_of(project: Project) -> RepositoryName:
    repository = project.repository
    return RepositoryName(
        owner=repository.owner or "", name=repository.name or "", repository_id=None, installation_id=None
    )


async def change_elsewhere(memory: Memory, project: Project) -> None:
    """As another process would."""
    other = Database(memory.database.url.render_as_string(hide_password=False))
    changed = replace(project, branch="next")
    await ProjectTable(other, memory.projects._sealer).change(changed, unchanged_since=project.updated_at)
    await other.close()


async def test_what_was_decided_on_a_state_that_is_over_is_stored_undecided(
    table: DeliveryTable, memory: Memory, database: Database
) -> None:
    """Another process changed the project, and this one has it in memory."""
    if database.is_sqlite:
        pytest.skip("one process writes there")
    project = await memory.project()
    meant: dict[str, Any] = {"repository": "acme/shop", "answer": {"n": 1}, "verdicts": [verdict(project)]}
    before = await memory.projects.recall(repository_of(project))
    await change_elsewhere(memory, project)

    told = await table.add(received("d-1"), **meant, as_of=before.as_of)
    now = await memory.projects.recall(repository_of(project))
    again = await table.add(received("d-2"), **meant, as_of=now.as_of)
    once_more = await table.add(received("d-2"), **meant, as_of=before.as_of)
    first, second = await table.get("d-1"), await table.get("d-2")

    assert [each.branch for each in before.projects] == [project.branch]
    assert told == Known(answer=None)
    assert first is not None
    assert (first.decided_at, first.answer, first.decisions) == (None, None, ())
    assert [each.branch for each in now.projects] == ["next"]
    assert again is None
    assert second is not None
    assert second.answer == {"n": 1}
    assert once_more == Known(answer={"n": 1})


async def test_of_many_written_at_once_only_those_whose_state_is_over_are_undecided(
    table: DeliveryTable, memory: Memory, database: Database
) -> None:
    if database.is_sqlite:
        pytest.skip("one process writes there")
    projects = [
        await memory.project(name=name, repository=parse_repository(f"acme/{name}")) for name in ("a", "b", "c")
    ]
    recalled = {each.name: await memory.projects.recall(repository_of(each)) for each in projects}
    await change_elsewhere(memory, projects[1])

    told = await asyncio.gather(
        *(
            table.add(
                received(f"{each.name}-{number}"),
                repository=None,
                answer={"n": 1},
                verdicts=[verdict(each)],
                as_of=recalled[each.name].as_of,
            )
            for number in range(3)
            for each in projects
        ),
        add(table, "nobody's"),
    )
    found = {each.id: each for each in await table.list(None)}

    assert told == [None, Known(answer=None), None] * 3 + [None]
    assert {id_ for id_, each in found.items() if each.answer is None} == {"b-0", "b-1", "b-2", "nobody's"}
    assert {id_ for id_, each in found.items() if not each.decisions} == {"b-0", "b-1", "b-2", "nobody's"}


async def test_a_repository_that_gets_its_first_project_is_another_state(
    table: DeliveryTable, memory: Memory, database: Database
) -> None:
    if database.is_sqlite:
        pytest.skip("one process writes there")
    name = RepositoryName(owner="Acme", name="Shop", repository_id=7, installation_id="42")
    before = await memory.projects.recall(name)
    other = Database(database.url.render_as_string(hide_password=False))
    await Memory(other).project(repository=parse_repository("acme/shop"))
    await other.close()

    told = await table.add(received("d-1"), repository=None, answer={}, as_of=before.as_of)

    assert before.projects == []
    assert told == Known(answer=None)


async def test_what_was_decided_last_counts_also_when_it_is_written_together(
    table: DeliveryTable, memory: Memory
) -> None:
    project = await memory.project()
    await asyncio.gather(*(add(table, f"d-{number}") for number in range(3)))

    await asyncio.gather(
        *(
            table.decided(f"d-{number}", answer={"n": turn}, verdicts=[verdict(project, reason=f"turn {turn}")], at=NOW)
            for turn in range(3)
            for number in (2, 0, 1)
        )
    )

    found = await table.list(None)
    assert [each.answer for each in found] == [{"n": 2}] * 3
    assert [each.decisions[0].verdict.reason for each in found] == ["turn 2"] * 3


async def test_deciding_again_is_what_it_means_now(table: DeliveryTable, memory: Memory) -> None:
    project = await memory.project()
    deployment = await memory.submit(project)
    await add(table, "d-1")
    await table.decided("d-1", answer={"n": 1}, verdicts=[verdict(project)], at=NOW)

    meant = verdict(project, Outcome.DEPLOYED, reason="by push", deployment_id=deployment.id)
    await table.decided("d-1", answer={"n": 2}, verdicts=[meant], at=NOW + timedelta(minutes=1))

    found = await table.get("d-1")
    assert found is not None
    assert found.answer == {"n": 2}
    assert [each.verdict for each in found.decisions] == [replace(meant, deployment_number=deployment.number)]
    assert found.decisions[0].at == NOW + timedelta(minutes=1)


async def test_an_owner_sees_what_meant_something_for_their_projects(table: DeliveryTable, memory: Memory) -> None:
    ours, theirs = await memory.project(name="ours"), await memory.project(name="theirs")
    for delivery_id, projects in {"a": [ours], "b": [theirs], "c": [ours, theirs], "d": []}.items():
        await add(table, delivery_id)
        await table.decided(delivery_id, answer={}, verdicts=[verdict(each) for each in projects], at=NOW)

    seen = await table.list(ours.owner_id)

    assert [each.id for each in seen] == ["c", "a"]
    assert {d.verdict.project_id for each in seen for d in each.decisions} == {ours.id}
    assert [each.id for each in await table.list(None)] == ["d", "c", "b", "a"]
    assert [each.id for each in await table.list(None, project_id=theirs.id)] == ["c", "b"]
    assert await table.list(ours.owner_id, project_id=theirs.id) == []


async def test_pages_go_on_where_the_last_one_ended(table: DeliveryTable) -> None:
    for number in range(5):
        await add(table, f"d-{number}")
    first = await table.list(None, limit=2)

    second = await table.list(None, before_number=first[-1].number, limit=2)

    assert [each.id for each in (*first, *second)] == ["d-4", "d-3", "d-2", "d-1"]


async def test_what_is_undecided_is_found_in_the_order_it_came(table: DeliveryTable) -> None:
    for number in range(4):
        await add(table, f"d-{number}", at=NOW + timedelta(seconds=number))
    await table.decided("d-1", answer={}, verdicts=[], at=NOW)

    found = await table.undecided(received_before=NOW + timedelta(seconds=3), after=0, limit=10)
    page = await table.undecided(received_before=NOW + timedelta(hours=1), after=found[0].number, limit=1)

    assert [each.id for each in found] == ["d-0", "d-2"]
    assert [each.id for each in page] == ["d-2"]


async def test_known_ids_are_told_from_others(table: DeliveryTable) -> None:
    await add(table, "d-1")

    assert await table.known(["d-1", "d-2"]) == {"d-1"}
    assert await table.known([]) == set()


async def test_only_what_is_old_and_decided_is_forgotten(table: DeliveryTable, memory: Memory) -> None:
    project = await memory.project()
    for delivery_id, at in (("old", NOW), ("old, undecided", NOW), ("new", NOW + timedelta(days=2))):
        await add(table, delivery_id, at=at)
        if delivery_id != "old, undecided":
            await table.decided(delivery_id, answer={}, verdicts=[verdict(project)], at=at)

    assert await table.prune(received_before=NOW + timedelta(days=1)) == 1

    assert [each.id for each in await table.list(None)] == ["new", "old, undecided"]
    assert await table.prune(received_before=NOW + timedelta(days=1)) == 0


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from klepaas.domain.github import Received
from klepaas.storage.database import Database
from klepaas.storage.deliveries import DeliveryTable

async def client(table, name):
    for number in range(100_000):
        id = f"{name}-{number}"
        await table.add(
            Received(id=id, event="push", body=b"x" * 8000, received_at=datetime.now(UTC)), repository=None, answer=None
        )
        print(id, flush=True)

async def main():
    table = DeliveryTable(Database(sys.argv[1]))
    await asyncio.gather(*(client(table, name) for name in range(16)))

asyncio.run(main())
"""


async def test_every_answered_delivery_survives_the_death_of_the_process(database: Database) -> None:
    """Part 2 of the inbox: stored durably before it is answered. Killed in the middle of its transactions."""
    url = database.url.render_as_string(hide_password=False)
    argv = [sys.executable, "-c", WRITER, url]
    answered: list[str] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                answered.append(line.strip())
                if len(answered) == 300:
                    child.kill()  # what it had printed by then is read to the end
        finally:
            child.kill()
    if answered and not answered[-1].partition("-")[2]:
        answered.pop()  # a line the kill cut off

    assert len(answered) >= 300
    async with database.read() as connection:
        stored = set(await connection.scalars(sa.select(deliveries.c.id)))
    assert set(answered) <= stored


async def test_on_sqlite_a_transaction_is_on_disk_when_it_is_over(database: Database) -> None:
    """What makes an answer a promise even when the power goes."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL does so unless it is told otherwise")

    def synchronous(connection: sqlite3.Connection) -> Any:
        return connection.execute("PRAGMA synchronous").fetchone()

    assert await database.write_at_once(synchronous) == (2,)  # FULL


async def test_a_transaction_at_once_that_fails_leaves_nothing_behind(database: Database, memory: Memory) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL has statements at once")

    def work(connection: sqlite3.Connection) -> None:
        insert(connection, "d-1")
        raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        await database.write_at_once(work)

    assert await DeliveryTable(database).list(None) == []
    assert await add(DeliveryTable(database), "d-2") is None
    assert [each.id for each in await DeliveryTable(database).list(None)] == ["d-2"]


def insert(connection: sqlite3.Connection, delivery_id: str) -> None:
    values = "(?, 'push', '{}', x'7b7d', '2026-10-06 00:00:00.000000')"
    connection.execute(f"INSERT INTO deliveries (id, event, headers, body, received_at) VALUES {values}", [delivery_id])


async def test_transactions_at_once_and_other_writes_take_turns(database: Database, memory: Memory) -> None:
    """R-32: fifty of each, and no `database is locked`."""
    table = DeliveryTable(database)
    project = await memory.project()

    await asyncio.gather(
        *(add(table, f"d-{number}") for number in range(50)),
        *(memory.projects.set_variables(project.id, "production", {f"V{number}": "x"}, NOW) for number in range(50)),
    )

    assert len(await table.list(None, limit=100)) == 50
    assert len(await memory.projects.variable_names(project.id, "production")) == 50


async def test_a_connection_that_was_lost_while_it_rested_is_replaced(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("a file is always there")
    table = DeliveryTable(database)
    await add(table, "d-1")
    lose = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    async with database.read() as connection:
        await connection.execute(lose)

    assert await add(table, "d-2") is None


async def test_a_program_that_keeps_sqlites_lock_is_waited_for(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL locks rows")
    table, other = DeliveryTable(database), sqlite3.connect(str(database.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    adding = asyncio.create_task(add(table, "d-1"))
    await asyncio.sleep(0.1)
    assert not adding.done()

    other.execute("COMMIT")
    other.close()

    assert await adding is None


async def test_a_cancelled_transaction_at_once_ends_before_the_next_write(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL has statements at once")
    table = DeliveryTable(database)
    for number in range(20):
        writing = asyncio.create_task(
            database.write_at_once(lambda connection, n=number: insert(connection, f"c-{n}"))  # type: ignore[misc]
        )
        await asyncio.sleep(0.001 * (number % 3))
        writing.cancel()
        await asyncio.wait({writing})
        await add(table, f"d-{number}")

    assert len([each for each in await table.list(None, limit=100) if each.id.startswith("d-")]) == 20


async def test_a_transaction_at_once_cancelled_twice_is_written_all_the_same(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL has statements at once")
    begun = threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        begun.set()
        time.sleep(0.3)
        insert(connection, "c-1")

    writing = asyncio.create_task(database.write_at_once(work, is_long=True))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(2):
        writing.cancel()
        await asyncio.sleep(0.01)
    await add(DeliveryTable(database), "d-1")

    assert writing.cancelled()
    assert {each.id for each in await DeliveryTable(database).list(None)} == {"c-1", "d-1"}


async def test_a_cancelled_transaction_at_once_that_then_fails_is_nobody_elses_fault(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL has statements at once")

    def work(connection: sqlite3.Connection) -> None:
        insert(connection, "c-1")
        time.sleep(0.1)
        raise ValueError("changed my mind")

    writing = asyncio.create_task(database.write_at_once(work, is_long=True))
    await asyncio.sleep(0.03)
    writing.cancel()
    await asyncio.wait({writing})

    assert await add(DeliveryTable(database), "d-1") is None
    assert [each.id for each in await DeliveryTable(database).list(None)] == ["d-1"]


async def test_who_asks_while_one_reads_gets_what_is_read_after() -> None:
    value, reads, gate = 1, 0, asyncio.Event()

    async def read(_: str) -> int:
        nonlocal reads
        reads += 1
        seen = value
        await gate.wait()
        return seen

    shared = Shared(read)
    first = asyncio.create_task(shared.ask("a"))
    while not reads:
        await asyncio.sleep(0)
    value = 2
    later = [asyncio.create_task(shared.ask("a")) for _ in range(50)]
    await asyncio.sleep(0)
    gate.set()

    assert await first == 1
    assert await asyncio.gather(*later) == [2] * 50
    assert reads == 2


async def test_a_read_that_fails_fails_for_those_who_asked_for_it() -> None:
    fails = True

    async def read(_: str) -> int:
        if fails:
            raise ValueError("away")
        return 1

    shared = Shared(read)
    outcomes = await asyncio.gather(*(shared.ask("a") for _ in range(3)), return_exceptions=True)
    fails = False

    assert [str(each) for each in outcomes] == ["away"] * 3
    assert await shared.ask("a") == 1
