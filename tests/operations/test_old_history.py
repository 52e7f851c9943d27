"""The stuck rows and duplicates of an older system's notes, imported: each ends settled or unknown, none invented."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.settlement import Outcome, Source
from klepaas.errors import NotAllowed, NotFound
from klepaas.operations import old_history, past_deployments, projects
from klepaas.operations.old_history import OldRows, Report
from klepaas.operations.past import NoProvider, Provider
from klepaas.operations.ports.owners import Owner
from klepaas.operations.projects import Registration
from klepaas.targets.ncp import client as ncp_client
from klepaas.testing.ncp import StandInNcp
from tests.interfaces.api.doors import everything
from tests.operations import older_system
from tests.operations.older_system import IMAGE, OPEN, PROJECT, TWINS, PastAtNcp, began, sha, sixteen
from tests.workflows.world import World, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}", tmp_path) as made:
        yield made


@pytest.fixture
async def either(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(database_url, tmp_path) as made:
        yield made


@pytest.fixture
def ncp(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInNcp]:
    monkeypatch.setattr(ncp_client, "FIRST_REST_S", 0.001)
    with StandInNcp() as made:
        PastAtNcp(made).as_it_was()
        made.create_image(IMAGE, sha(1))
        yield made


def asking(here: World, provider: Provider) -> World:
    past = replace(here.context.past, provider=provider)
    return replace(here, context=replace(here.context, past=past))


def old(rows: list[dict[str, Any]], **changes: Any) -> OldRows:
    return OldRows(**{"source": "old.db", "deployments": rows, "projects": [PROJECT], **changes})


async def imported(here: World, rows: list[dict[str, Any]], *, apply: bool = True, **changes: Any) -> Report:
    return await old_history.import_rows(here.context, here.actor, old(rows, **changes), apply=apply)


async def view(
    here: World, query: str = "SELECT * FROM deployment_histories ORDER BY created_at DESC, id"
) -> list[Any]:
    async with here.database.read() as connection:
        return list(await connection.execute(sa.text(query)))


async def test_stuck_rows_and_twins_end_settled_or_unknown_and_none_is_invented(either: World, ncp: StandInNcp) -> None:
    """R-08: eleven of sixteen say `running`, five `success` without a date."""
    there = asking(either, older_system.asked(ncp))
    rows = sixteen(ncp.registry_host)
    assert sum(each["status"] == "running" for each in rows) == len(OPEN) == 11
    report = await imported(there, rows)

    assert report.changed == 16
    shown = {line.imported.old_id: line.imported for line in report.lines if line.imported.twin_of is None}
    twin_of = {line.imported.old_id: line.imported.twin_of for line in report.lines if line.imported.twin_of}
    assert twin_of == {str(twin): shown[str(first)].id for twin, first in TWINS.items()}
    ended = {int(old_id): each.outcome for old_id, each in shown.items()}
    assert {number for number, outcome in ended.items() if outcome is Outcome.SUCCEEDED} == {1, 2, 3, 7, 12, 14, 16}
    assert {number for number, outcome in ended.items() if outcome is Outcome.FAILED} == {4, 5}
    assert {number for number, outcome in ended.items() if outcome is Outcome.UNKNOWN} == {6, 9, 10, 11, 13}
    runs = {f"SourceDeploy run {run.id}": run for run in ncp.world.deploy_projects[12_777].deploys}
    for each in shown.values():
        if each.outcome is Outcome.UNKNOWN:
            assert (each.settled_by, each.deployed_at, each.completed_at) == (Source.NOBODY, None, None)
            continue
        run = runs[each.evidence["run"]["run"]]
        assert each.settled_by is Source.PROVIDER
        assert (run.status == "success") == (each.outcome is Outcome.SUCCEEDED)
        assert each.completed_at == run.ended_at
        assert each.deployed_at == (run.ended_at if run.status == "success" else None)
    assert shown["1"].image_digest == ncp.digest_of(IMAGE, sha(1))
    assert shown["2"].evidence["image"] == {
        "image_ref": f"{ncp.registry_host}/{IMAGE}:{sha(2)}",
        "digest": None,
        "in_registry": False,
    }
    assert "80109" in shown["9"].reason
    assert "80209" in shown["9"].reason


async def test_scripts_see_one_row_a_deployment_with_its_times_and_no_lie(either: World, ncp: StandInNcp) -> None:
    await imported(asking(either, older_system.asked(ncp)), sixteen(ncp.registry_host))
    rows = await view(either)

    assert Counter(each.status for each in rows) == {"success": 7, "failed": 2, "unknown": 5}
    assert all(each.id < 0 for each in rows)
    assert all((each.deployed_at is not None) == (each.status == "success") for each in rows)
    assert all(each.total_duration == pytest.approx(50) for each in rows if each.status == "success")
    assert all(each.error_message for each in rows if each.status != "success")
    [rollback] = [each for each in rows if each.is_rollback]
    [undone] = [each for each in rows if each.id == rollback.rollback_from_id]
    assert undone.github_commit_sha == sha(14), "the row it names is a twin of this one"


async def test_a_dry_run_says_the_same_and_writes_nothing(here: World, ncp: StandInNcp) -> None:
    there = asking(here, older_system.asked(ncp))
    before = await everything(here)
    dry = await imported(there, sixteen(), apply=False)
    assert await everything(here) == before
    real = await imported(there, sixteen())

    assert dry.changed == 0
    assert [(line.imported.id, line.imported.outcome) for line in dry.lines] == [
        (line.imported.id, line.imported.outcome) for line in real.lines
    ]


async def test_a_second_import_adds_nothing_and_asks_only_about_what_is_unknown(here: World, ncp: StandInNcp) -> None:
    there = asking(here, older_system.asked(ncp))
    await imported(there, sixteen())
    before = await view(here)
    ncp.forget_requests()
    again = await imported(there, [*sixteen(), *sixteen()], source="copy-of-old.db")

    assert [line for line in again.lines if line.is_new or line.is_settled] == []
    assert await view(here) == before
    assert {request.path.rpartition("/")[2] for request in ncp.requests if "sourcedeploy" in request.door} == {
        "history"
    }
    async with here.database.read() as connection:
        assert await connection.scalar(sa.text("SELECT count(*) FROM imported_deployments")) == 16


async def test_what_nobody_could_be_asked_is_unknown_and_a_later_import_settles_it(
    here: World, ncp: StandInNcp
) -> None:
    provider = older_system.asked(ncp)
    ncp.faults.fail(times=None, status=503, door="sourcedeploy")
    first = await imported(asking(here, provider), sixteen())
    ncp.faults.clear()
    second = await imported(asking(here, provider), sixteen())

    assert {line.imported.outcome for line in first.lines} == {Outcome.UNKNOWN}
    assert all("does not" in line.imported.reason or "503" in line.imported.reason for line in first.lines)
    assert sum(line.is_settled for line in second.lines if line.imported.twin_of is None) == 9
    assert Counter(each.status for each in await view(here)) == {"success": 7, "failed": 2, "unknown": 5}


async def test_without_keys_only_what_was_written_down_whole_is_believed(here: World) -> None:
    """A bare `success`, the clean-up's date and a date in UTC are not."""
    ended = older_system.local(began(1) + timedelta(seconds=50))
    utc = began(4).strftime("%Y-%m-%d %H:%M:%S")
    whole = {"deployed_at": ended, "completed_at": ended, "total_duration": 50.0, "sourcedeploy_status": "success"}
    rows = [
        older_system.row(1, status="success", **whole),
        older_system.row(2, status="success"),
        older_system.row(3, status="success", deployed_at=older_system.local(began(3))),
        older_system.row(4, status="success", deployed_at=utc, completed_at=utc),
        older_system.row(5, status="failed", error_message="image pull failed"),
        older_system.row(6, status="running", sourcedeploy_status="success"),
    ]
    report = await imported(asking(here, NoProvider()), rows)

    assert [line.imported.outcome.value for line in report.lines] == [
        "succeeded",
        "unknown",
        "unknown",
        "unknown",
        "failed",
        "unknown",
    ]
    assert report.lines[0].imported.deployed_at == began(1) + timedelta(seconds=50)
    assert "KLEPAAS_NCP_ACCESS_KEY" in report.lines[1].imported.reason
    assert any("in UTC" in each.text for each in report.lines[3].imported.findings)


async def test_the_provider_is_believed_before_the_record(here: World, ncp: StandInNcp) -> None:
    ended = older_system.local(began(4) + timedelta(seconds=50))
    said = older_system.row(4, status="success", deployed_at=ended, completed_at=ended)
    report = await imported(asking(here, older_system.asked(ncp)), [said])

    assert report.lines[0].imported.outcome is Outcome.FAILED
    assert report.lines[0].imported.settled_by is Source.PROVIDER


async def test_originals_are_kept_word_for_word_also_when_they_changed_in_between(here: World) -> None:
    first = older_system.row(1)
    later = {**first, "status": "failed", "error_message": "it broke\nlate"}
    await imported(here, [first])
    again = await imported(here, [later])

    found = (await here.context.past.imported.known([again.lines[0].imported.key])).popitem()[1]
    assert found.originals == (first, later)
    assert found.originals[0]["created_at"] == "2025-01-20 11:00:00"
    assert found.created_at == began(1)
    assert found.outcome is Outcome.FAILED


async def test_nothing_imported_is_ever_work_for_the_engine(here: World) -> None:
    """Unknown is an end for an imported row: no claim, no blocked app, no report to GitHub."""
    project = await projects.register(
        here.context, here.actor, Registration(repository="K-Le-PaaS/test01", name="test01", target="fake")
    )
    await imported(here, sixteen())
    async with here.node():
        ended = await here.ended(await here.deploy(project))
    shown = await past_deployments.of_project(here.context, project, limit=100)

    assert ended.status.value == "succeeded"
    assert {each.outcome for each in shown} == {Outcome.UNKNOWN}
    assert len(shown) == 14
    assert sum((await here.context.deployments.counts()).values()) == 1


async def test_pages_go_through_a_history_in_the_order_of_time_whenever_rows_came(either: World) -> None:
    project = await projects.register(
        either.context, either.actor, Registration(repository="k-le-paas/TEST01", name="test01", target="fake")
    )
    rows = [*sixteen()[8:], {**older_system.row(99), "created_at": None, "started_at": None}, *sixteen()[:8]]
    for part in (rows[:9], rows[9:]):
        await imported(either, part)
    seen: list[str] = []
    before = None
    while page := await past_deployments.of_project(either.context, project, before_number=before, limit=3):
        seen += [each.old_id for each in page]
        before = page[-1].number

    assert seen == ["16", "14", "13", "12", "11", "10", "9", "7", "6", "5", "4", "3", "2", "1", "99"]


async def test_rows_that_cannot_be_told_apart_are_refused_with_a_reason(here: World) -> None:
    rows = [older_system.row(1), {**older_system.row(2), "github_repo": None}, {**older_system.row(3), "id": None}]
    report = await imported(here, rows)

    assert report.changed == 1
    assert report.refused == ["Row 2 names no repository.", "A row has no id by which it could be told from others."]


async def test_only_the_operator_imports_and_only_the_owner_sees_it(here: World) -> None:
    """S-04: also not by a project of the same repository."""
    admin = Actor(owner_id=here.actor.owner_id, scope=Scope.ADMIN, label="token admin")
    with pytest.raises(NotAllowed):
        await old_history.import_rows(here.context, admin, old([older_system.row(1)]), apply=True)
    with pytest.raises(NotFound, match="no owner named"):
        await imported(here, [older_system.row(1)], owner="nobody")
    report = await imported(here, [older_system.row(1)])
    stranger = Actor(owner_id="own_2", scope=Scope.ADMIN, label="token stranger")
    await here.context.owners.add(Owner(id="own_2", name="stranger", created_at=here.context.clock.now()))
    theirs = await projects.register(
        here.context, stranger, Registration(repository="K-Le-PaaS/test01", name="test01", target="fake")
    )

    assert await past_deployments.of_project(here.context, theirs) == []
    assert report.projects == {"K-Le-PaaS/test01": []}
    assert await past_deployments.find(here.context, stranger, report.lines[0].imported.id) is None
    assert await past_deployments.check(here.context, stranger) == []


async def test_a_check_finds_what_was_bent_by_hand_in_our_own_record_and_nothing_else(here: World) -> None:
    project = await here.project()
    async with here.node():
        good, bad, late = [await here.ended(await here.deploy(project)) for _ in range(3)]
    assert await past_deployments.check(here.context, here.actor) == []
    async with here.database.write() as connection:
        for statement in (
            f"UPDATE deployments SET status = 'failed', error_message = 'x' WHERE id = '{bad.id}'",
            f"DELETE FROM deployment_events WHERE deployment_id = '{late.id}' AND seq = 2",
            f"UPDATE deployments SET finished_at = NULL WHERE id = '{late.id}'",
        ):
            await connection.execute(sa.text(statement))
    await imported(here, sixteen())
    found = await past_deployments.check(here.context, here.actor)
    own = {(each.deployment_id, each.problem) for each in found if not each.is_past}

    assert good.status.value == "succeeded"
    assert own == {(bad.id, "contradiction"), (late.id, "contradiction")}
    assert good.id not in {each.deployment_id for each in found}
    assert sum(each.problem == "duplicate" for each in found) == 2
    assert sum(each.problem == "stuck" for each in found) == 11
    assert await past_deployments.check(here.context, here.actor, project.name) != found


async def test_a_delivery_that_led_to_two_rows_is_a_duplicate(either: World) -> None:
    project = await either.project()
    first, second = [await either.deploy(project, delivery_id="72d3162e") for _ in range(2)]
    [found] = await past_deployments.check(either.context, either.actor, "shop")

    assert (found.deployment_id, found.problem, found.is_past) == (second.id, "duplicate", False)
    assert first.id in found.text


async def test_a_row_that_changed_there_and_is_still_unknown_keeps_both_texts(here: World) -> None:
    first = older_system.row(1)
    await imported(here, [first])
    again = await imported(here, [{**first, "updated_at": "2025-01-21 00:00:00"}])
    third = await imported(here, [{**first, "updated_at": "2025-01-21 00:00:00"}])

    assert (again.changed, third.changed) == (1, 0)
    assert len(again.lines[0].imported.originals) == 2


async def test_a_twin_that_comes_later_ends_as_the_first_one_did(here: World, ncp: StandInNcp) -> None:
    there = asking(here, older_system.asked(ncp))
    await imported(there, [older_system.row(14)])
    again = await imported(there, [older_system.row(14), older_system.row(15)])

    assert [(line.is_new, line.imported.outcome) for line in again.lines] == [
        (False, Outcome.SUCCEEDED),
        (True, Outcome.SUCCEEDED),
    ]
    assert len(await view(here)) == 1


async def test_an_end_that_is_kept_is_never_taken_back(either: World, ncp: StandInNcp) -> None:
    """Two imports at once, one of which could not ask: what is known stays known."""
    told = (await imported(asking(either, older_system.asked(ncp)), [older_system.row(1)])).lines[0].imported
    blind = replace(told, outcome=Outcome.UNKNOWN, settled_by=Source.NOBODY, deployed_at=None)

    assert await either.context.past.imported.keep([blind]) == 0
    assert [each.status for each in await view(either)] == ["success"]
