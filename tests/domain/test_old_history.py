"""Rows of an older system are read without believing them, and settled without guessing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from klepaas.domain.old_findings import Problem, findings_of, twins
from klepaas.domain.old_row import OldRow, read_row, read_time
from klepaas.domain.settlement import Outcome, PastRun, PastSeen, Settlement, Source, settle
from klepaas.errors import Invalid

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEGAN = datetime(2025, 1, 20, 1, 11, 46, tzinfo=UTC)


def row(number: int = 14, **changes: Any) -> OldRow:
    fields = {
        "id": number,
        "github_owner": "K-Le-PaaS",
        "github_repo": "test01",
        "github_commit_sha": "559ec56d0ae598e95dc970b74767f19372d61af8",
        "status": "running",
        "created_at": "2025-01-20 10:11:46",
    }
    return read_row({**fields, **changes})


def run(number: int, after: timedelta, outcome: Outcome | None = Outcome.SUCCEEDED) -> PastRun:
    began = BEGAN + after
    ended = began + timedelta(seconds=45) if outcome is not None else None
    word = "success" if outcome is Outcome.SUCCEEDED else "fail" if outcome else "inprogress"
    return PastRun(id=str(number), what=f"run {number}", outcome=outcome, word=word, began_at=began, ended_at=ended)


def settled(*rows: OldRow, deploys: list[PastRun] | None = None, **seen: Any) -> list[Settlement]:
    found = settle(rows, PastSeen(deploys=deploys or [], **seen), NOW)
    return [found[each.old_id] for each in rows]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-01-20 10:11:46", BEGAN),
        ("2025-01-20T10:11:46.000000", BEGAN),
        ("2025-01-20 01:11:46Z", BEGAN),
        ("2025-01-20 01:11:46+00", BEGAN),
        ("2025-01-20 10:11:46.5+0900", BEGAN + timedelta(seconds=0.5)),
        ("2025-01-20 10:11", BEGAN - timedelta(seconds=46)),
        ("2025-13-40 10:11:46", None),
        ("yesterday", None),
        ("1737339106", None),
        ("", None),
        (None, None),
        ("0001-01-01 00:00:00", None),
        ("2025-01-20 10:11:46+25:99", None),
    ],
)
def test_a_time_without_a_zone_is_korean(text: str | None, time: datetime | None) -> None:
    assert read_time(text) == time


def test_a_row_that_is_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="no id"):
        row(id=None)
    with pytest.raises(Invalid, match="no repository"):
        row(github_owner="  ")


def test_a_row_is_the_same_one_after_its_status_changed_and_in_another_database() -> None:
    assert row().key == row(status="success", deployed_at="2025-01-20 10:12:00").key
    assert row().key == row(created_at="2025-01-20T10:11:46.000+09:00", github_owner="k-le-paas").key
    assert row().key != row(number=15).key


def test_what_is_wrong_with_a_row_is_said() -> None:
    def problems(**changes: Any) -> set[Problem]:
        return {each.problem for each in findings_of(row(**changes), NOW)}

    assert problems() == {Problem.STUCK}
    assert problems(created_at=None) == {Problem.STUCK, Problem.MISSING_TIME}
    assert problems(created_at="soon") == {Problem.STUCK, Problem.UNREADABLE_TIME}
    assert problems(status="success") == {Problem.MISSING_TIME, Problem.CONTRADICTION}
    assert problems(status="success", deployed_at="2025-01-20 10:12:31") == set()
    assert problems(status="success", deployed_at="2025-01-20 10:11:46") == {Problem.CONTRADICTION}
    assert problems(status="success", deployed_at="2025-01-20 01:12:31") == {Problem.CONTRADICTION}
    assert problems(status="success", deployed_at="2025-01-20 10:12:31", sourcedeploy_status="running") == {
        Problem.CONTRADICTION
    }
    assert problems(status="failed", deployed_at="2025-01-20 10:12:31") == {Problem.CONTRADICTION}
    assert problems(status="perhaps") == {Problem.UNREADABLE_STATUS}
    assert problems(github_commit_sha="559ec56") == {Problem.STUCK, Problem.NO_COMMIT}
    assert problems(created_at="2026-01-01 08:59:30") == set(), "it may still be running there"


def test_twins_are_the_same_commit_in_the_same_moment_and_nothing_else() -> None:
    """R-08: the older system wrote two rows for one deployment."""
    later = row(16, created_at="2025-01-20 11:11:46")
    rollback = row(17, is_rollback=True)
    staging = row(18, environment="staging")
    other = row(19, github_commit_sha="c" * 40)

    assert twins([row(15), row(14), later, rollback, staging, other]) == {"15": "14"}
    assert twins([row(1, github_commit_sha=""), row(2, github_commit_sha="")]) == {}


def test_the_one_run_around_a_row_says_how_it_ended() -> None:
    [won] = settled(row(), deploys=[run(1, timedelta(seconds=5))])
    [lost] = settled(row(status="success"), deploys=[run(1, timedelta(seconds=5), Outcome.FAILED)])

    assert (won.outcome, won.by) == (Outcome.SUCCEEDED, Source.PROVIDER)
    assert won.deployed_at == won.completed_at == BEGAN + timedelta(seconds=50)
    assert (lost.outcome, lost.deployed_at) == (Outcome.FAILED, None)


@pytest.mark.parametrize(
    "deploys",
    [
        [],
        [run(1, timedelta(seconds=5)), run(2, timedelta(minutes=5))],
        [run(1, timedelta(minutes=-3))],
        [run(1, timedelta(minutes=11))],
        [run(1, timedelta(seconds=5), None)],
    ],
    ids=["none", "two", "before", "long after", "goes on"],
)
def test_where_it_is_not_certain_it_is_unknown(deploys: list[PastRun]) -> None:
    [found] = settled(row(), deploys=deploys)

    assert (found.outcome, found.by) == (Outcome.UNKNOWN, Source.NOBODY)
    assert found.deployed_at is None
    assert found.reason


def test_one_run_is_never_the_proof_of_two_rows() -> None:
    near = row(16, created_at="2025-01-20 10:14:00", github_commit_sha="b" * 40)
    found = settled(row(), near, deploys=[run(1, timedelta(minutes=3))])

    assert [each.outcome for each in found] == [Outcome.UNKNOWN, Outcome.UNKNOWN]


def test_a_failed_build_with_nothing_deployed_is_a_failure() -> None:
    builds = [run(7, timedelta(seconds=5), Outcome.FAILED)]
    [failed] = settled(row(), builds=builds)
    [unclear] = settled(row(), builds=builds, deploys=[run(1, timedelta(minutes=5), None)])

    assert (failed.outcome, failed.by) == (Outcome.FAILED, Source.PROVIDER)
    assert unclear.outcome is Outcome.UNKNOWN


def test_a_built_image_alone_proves_nothing() -> None:
    """That it was built is not that it was deployed."""
    [found] = settled(row(image_name="r/i:t"), builds=[run(7, timedelta(seconds=5))], digests={"r/i:t": "sha256:1"})

    assert found.outcome is Outcome.UNKNOWN


def test_what_one_twin_recorded_whole_counts_for_both_unless_the_other_contradicts_it() -> None:
    whole = row(15, status="success", deployed_at="2025-01-20 10:12:31")
    failed = row(16, status="failed")
    alone = settle([row()], PastSeen(), NOW, twins={"14": [whole]})["14"]
    both = settle([row()], PastSeen(), NOW, twins={"14": [whole, failed]})["14"]

    assert (alone.outcome, alone.by) == (Outcome.SUCCEEDED, Source.RECORD)
    assert both.outcome is Outcome.UNKNOWN
