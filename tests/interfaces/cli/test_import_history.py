"""`klepaas history` with its verbs, and an older system's database from the file to the view that scripts read."""

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
import structlog

from klepaas.domain.actor import Scope
from klepaas.errors import Invalid, KlepaasError
from klepaas.interfaces.cli import old_database
from klepaas.interfaces.cli.old_batches import ROWS_AT_MOST, batches
from klepaas.interfaces.cli.old_database import OldDatabase
from klepaas.testing.ncp import StandInNcp
from tests.interfaces.api.doors import door_of, everything
from tests.interfaces.cli.conftest import Klepaas, Said
from tests.interfaces.cli.double import World as Double
from tests.operations import older_system
from tests.operations.older_system import PROJECT, PastAtNcp, row, sixteen, write_postgres, write_sqlite
from tests.workflows.world import World, world

PASSWORD = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """The server of these tests runs in this process: what it logs is not what the command says."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[plain], wrapper_class=structlog.make_filtering_bound_logger(30))


@pytest.fixture
def ncp() -> Iterator[StandInNcp]:
    with StandInNcp() as made:
        PastAtNcp(made).as_it_was()
        yield made


@pytest.fixture
async def here(tmp_path: Path, ncp: StandInNcp) -> AsyncIterator[World]:
    async with world(f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}", tmp_path) as made:
        past = replace(made.context.past, provider=older_system.asked(ncp))
        yield replace(made, context=replace(made.context, past=past))


@pytest.fixture
async def line(here: World, command: Klepaas, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A command line that is logged in to a klepaas of this test's own, as its operator."""
    door = door_of(here)
    token = await door.token(Scope.OPERATOR)
    async with door.served() as url:
        monkeypatch.setenv("KLEPAAS_URL", url)
        monkeypatch.setenv("KLEPAAS_TOKEN", token)

        async def said(*arguments: str) -> Said:
            return await anyio.to_thread.run_sync(lambda: command(*arguments))

        yield said


async def test_an_older_database_is_reported_then_imported_then_known(line: Any, here: World, tmp_path: Path) -> None:
    """R-08: what was stuck is settled by what Naver Cloud saw, or unknown."""
    file = write_sqlite(tmp_path / "old.db", sixteen(), [PROJECT])
    before = await everything(here)
    dry = await line("history", "import", "--from", str(file))
    assert (dry.code, await everything(here)) == (0, before)
    done = (await line("history", "import", "--from", str(file), "--apply", "--json")).json
    again = (await line("history", "import", "--from", str(file), "--apply", "--json")).json

    assert "Nothing was written" in dry.err
    for told in (
        "old.db: 1 projects, 16 rows, 2 duplicates, 11 stuck",
        "16 with Korean local times",
        "14 deployments: 2 failed, 7 succeeded, 5 unknown.",
        "klepaas projects create K-Le-PaaS/test01",
    ):
        assert told in dry.out
    assert (done["changed"], done["new"], done["outcomes"]) == (16, 16, {"failed": 2, "succeeded": 7, "unknown": 5})
    assert (again["changed"], again["new"], again["known"]) == (0, 0, 16)


async def test_imported_deployments_are_in_the_history_of_their_project(line: Any, here: World, tmp_path: Path) -> None:
    file = write_sqlite(tmp_path / "old.db", sixteen(), [PROJECT])
    await line("history", "import", "--from", str(file), "--apply")
    await line("projects", "create", "K-Le-PaaS/test01", "--target", "fake")
    shown = (await line("history", "test01", "--json", "-n", "5")).json
    rest = (await line("history", "test01", "--json", "--before", str(shown["next_before"]))).json
    unknown = (await line("history", "test01", "--status", "unknown")).out
    check = await line("history", "check")

    found = [each["imported"]["old_id"] for each in (*shown["deployments"], *rest["deployments"])]
    assert found == ["16", "14", "13", "12", "11", "10", "9", "7", "6", "5", "4", "3", "2", "1"]
    assert shown["deployments"][0]["imported"]["originals"][0]["created_at"] == "2025-01-21 02:00:00"
    assert shown["deployments"][0]["created_at"] == "2025-01-20T17:00:00Z"
    assert unknown.count("unknown") == 5
    assert (check.code, check.out.count("duplicate (imported)")) == (0, 2)
    assert "fits together" in check.err


async def test_an_imported_deployment_is_shown_by_its_id(line: Any, here: World, tmp_path: Path) -> None:
    file = write_sqlite(tmp_path / "old.db", sixteen(), [PROJECT])
    await line("history", "import", "--from", str(file), "--apply")
    await line("projects", "create", "K-Le-PaaS/test01", "--target", "fake")
    listed = (await line("history", "test01", "--json", "-n", "200")).json["deployments"]
    codes = {"succeeded": 0, "failed": 1, "unknown": 7}
    for each in listed:
        shown, watched = await line("status", each["id"]), await line("status", each["id"], "--watch", "--json")

        assert (shown.code, watched.code) == (codes[each["status"]],) * 2
        assert f"status      {each['status']}" in shown.out
        assert f"known from  {each['imported']['settled_by']}: " in shown.out
        assert watched.json == each
        assert (await line("logs", each["id"])).code == 4
    assert {each["status"] for each in listed} == set(codes)


async def test_a_postgres_of_an_older_system_is_read_the_same(
    line: Any, here: World, postgres_url: str, tmp_path: Path
) -> None:
    url = postgres_url.replace("+psycopg", "")
    write_postgres(url, sixteen(), [PROJECT])
    done = (await line("history", "import", "--from", url, "--apply", "--json")).json
    copied = write_sqlite(tmp_path / "old.db", sixteen(), [PROJECT])
    again = (await line("history", "import", "--from", str(copied), "--apply", "--json")).json

    assert (done["new"], done["outcomes"]) == (16, {"failed": 2, "succeeded": 7, "unknown": 5})
    assert (again["new"], again["known"]) == (0, 16), "the same rows, moved to another database"


async def test_a_check_that_finds_something_in_our_own_record_fails(line: Any, here: World) -> None:
    project = await here.project()
    deployment = await here.deploy(project)
    async with here.database.write() as connection:
        await connection.execute(sa.text(f"UPDATE deployments SET status = 'failed' WHERE id = '{deployment.id}'"))
    found = await line("history", "check", "shop", "--json")

    assert (found.code, found.json["ok"]) == (1, False)
    assert {each["deployment_id"] for each in found.json["complaints"]} == {deployment.id}


def test_a_history_is_listed_by_the_name_of_its_project_whatever_it_is(klepaas: Klepaas, world: Double) -> None:
    by_name = klepaas("history", "good")

    assert by_name.out == klepaas("history", "list", "good").out
    assert klepaas("history", "-n", "1", "good").code == 0
    assert klepaas("history").code == 2
    for name in ("import", "check", "list"):
        klepaas("history", "list", name)
        assert world.requests[-1][1] == f"projects/{name}/deployments"
    assert klepaas("history", "--help").code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has no table deployment_histories"),
        (b"not a database, but long enough to be read as one" * 30, "cannot be read as a SQLite database"),
        (None, "There is no file"),
    ],
    ids=["empty", "text", "missing"],
)
def test_what_is_no_database_is_said(tmp_path: Path, command: Klepaas, content: bytes | None, told: str) -> None:
    file = tmp_path / "old.db"
    if content is not None:
        file.write_bytes(content)
    said = command("history", "import", "--from", str(file))

    assert said.code in {2, 4}
    assert told in said.err


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("CREATE TABLE users (id INTEGER)", "There are: users"),
        ("CREATE TABLE deployment_histories (id INTEGER, status TEXT)", "lacks github_owner, github_repo"),
        ("CREATE TABLE deployment_events (id INTEGER)", "is a klepaas database"),
    ],
)
def test_a_database_of_something_else_is_said(tmp_path: Path, command: Klepaas, statement: str, told: str) -> None:
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)
    said = command("history", "import", "--from", str(file))

    assert (said.code, said.out) == (2, "")
    assert told in said.err


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u:{PASSWORD}@127.0.0.1:1/old",
        f"postgres://u:{PASSWORD}@127.0.0.1:x/old",
        f"postgresql://u:{PASSWORD}@127.0.0.1:1/old?sslmode=perhaps",
        f"postgresql://u:{PASSWORD}%20%@127.0.0.1:1/old",
        f"postgresql://127.0.0.1:1/old?password={PASSWORD}",
        f"postgresql://u:{PASSWORD}%zz@127.0.0.1:1/old",
        f"postgresql://127.0.0.1:1/old?password={PASSWORD}%zz",
        f"postgresql://u:12/{PASSWORD}@127.0.0.1:1/old",
        f"postgresql://u:12?{PASSWORD}@127.0.0.1:1/old",
        f"postgresql://u:12#{PASSWORD}@127.0.0.1:1/old",
        f"mysql://u:{PASSWORD}@127.0.0.1/old",
    ],
)
def test_the_password_of_an_address_is_never_shown(command: Klepaas, address: str) -> None:
    """S-05."""
    for more in ((), ("--json",)):
        said = command("history", "import", "--from", address, *more)

        assert said.code in {2, 7}
        assert PASSWORD not in said.out + said.err


def test_reading_leaves_the_file_and_its_folder_as_they_were(tmp_path: Path) -> None:
    file = write_sqlite(tmp_path / "old.db", sixteen(), [PROJECT])
    before = hashlib.sha256(file.read_bytes()).digest()
    found = old_database.read(str(file))

    assert len(found.deployments) == 16
    assert list(tmp_path.iterdir()) == [file]
    assert hashlib.sha256(file.read_bytes()).digest() == before
    with closing(sqlite3.connect(file)) as living, living:
        living.execute("DELETE FROM deployment_histories WHERE id = 16")
        living.commit()
        assert len(old_database.read(f"sqlite:///{file}").deployments) == 15, "also what is in its journal only"


def test_whatever_a_column_holds_can_be_sent(tmp_path: Path) -> None:
    odd = row(1, error_message=b"\x00\xff", total_duration=float("inf"), github_commit_message="a\0b")
    found = old_database.read(str(write_sqlite(tmp_path / "old.db", [odd]))).deployments[0]

    assert found["error_message"] == {"hex": "00ff"}
    assert found["github_commit_message"] == "a\\x00b"
    assert found["total_duration"] == "inf"
    assert json.loads(json.dumps(found)) == found


def test_neighbours_in_time_are_sent_together() -> None:
    """A run at the provider is a row's own only when no other row is near it."""
    times = [f"2025-01-20 {hour:02d}:{minute:02d}:00" for hour in range(10) for minute in range(0, 60, 5)]
    rows = [row(number, started_at=time, created_at=time) for number, time in enumerate(times) if "03:" not in time]
    other = row(900, github_repo="other")
    parts = [part for part, _ in batches(OldDatabase(name="old", deployments=[other, *rows], projects=[]))]

    assert sorted(len(part) for part in parts) == [1, 108]
    spread = [row(number) for number in range(1, 15)] * 6
    assert (
        max(len(part) for part, _ in batches(OldDatabase(name="o", deployments=spread, projects=[]))) < 2 * ROWS_AT_MOST
    )


def test_every_refusal_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KlepaasError) as caught:
        old_database.read(str(tmp_path))
    assert isinstance(caught.value, Invalid)
    assert caught.value.hint
