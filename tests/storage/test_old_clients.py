"""The views that scripts of the older systems read: their names, columns, words and queries."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.domain.deployment import Deployment, Failure
from klepaas.domain.events import (
    DeploymentSucceeded,
    Event,
    ImagePinned,
    ReleaseCreated,
    StageStarted,
    TrafficShifted,
)
from klepaas.domain.project import Project
from klepaas.domain.repository import parse_repository
from klepaas.domain.status import Stage, Status
from tests.storage.worlds import NOW, SHA, Memory

DIGEST = "sha256:" + "a" * 64
HISTORIES = [
    "id",
    "user_id",
    "github_owner",
    "github_repo",
    "github_commit_sha",
    "github_commit_message",
    "environment",
    "status",
    "sourcedeploy_status",
    "image_name",
    "is_rollback",
    "rollback_from_id",
    "started_at",
    "completed_at",
    "deployed_at",
    "total_duration",
    "error_message",
    "created_at",
]
INTEGRATIONS = [
    "id",
    "user_id",
    "github_owner",
    "github_repo",
    "github_installation_id",
    "sc_project_id",
    "sc_repo_name",
    "build_project_id",
    "deploy_project_id",
    "pipeline_id",
    "branch",
    "auto_deploy_enabled",
    "created_at",
    "updated_at",
]


@pytest.fixture
async def project(memory: Memory) -> Project:
    await memory.queue.join("node", 60)
    return await memory.project(owner=await memory.owner("u1"), repository=parse_repository("K-Le-PaaS/test01"))


async def test_the_views_have_the_columns_they_always_had(memory: Memory) -> None:
    async with memory.database.read() as connection:
        for view, columns in (("deployment_histories", HISTORIES), ("user_project_integrations", INTEGRATIONS)):
            result = await connection.execute(sa.text(f"SELECT * FROM {view}"))
            assert list(result.keys()) == columns


async def test_a_project_is_found_by_owner_and_repository(memory: Memory, project: Project) -> None:
    [row] = await _ask(
        memory,
        "SELECT * FROM user_project_integrations WHERE github_owner = 'K-Le-PaaS' AND github_repo = 'test01'",
    )
    assert (row.id, row.user_id, row.branch) == (project.number, "u1", "main")
    assert not row.auto_deploy_enabled
    await memory.projects.retire(project.id, NOW)
    assert await _ask(memory, "SELECT * FROM user_project_integrations") == []


async def test_the_newest_successes_are_listed_without_rollbacks_and_rollbacks_without_them(
    memory: Memory, project: Project
) -> None:
    first = await _succeeded(memory, project)
    await _failed(memory, project)
    second = await _succeeded(memory, project)
    rollback = await _succeeded(memory, project, rollback_of=second.id)

    successes = await _ask(
        memory,
        "SELECT github_commit_sha, deployed_at, status, is_rollback, id FROM deployment_histories "
        "WHERE github_owner = 'K-Le-PaaS' AND github_repo = 'test01' AND status = 'success' "
        "AND is_rollback = false ORDER BY created_at DESC LIMIT 10",
    )
    assert [row.id for row in successes] == [second.number, first.number]
    assert {row.github_commit_sha for row in successes} == {SHA}
    rollbacks = await _ask(
        memory,
        "SELECT * FROM deployment_histories WHERE is_rollback = true ORDER BY created_at DESC LIMIT 10",
    )
    assert [(row.id, row.rollback_from_id) for row in rollbacks] == [(rollback.number, second.number)]


async def test_a_success_has_its_times_and_its_image(memory: Memory, project: Project) -> None:
    deployment = await _succeeded(memory, project)
    assert deployment.started_at is not None
    assert deployment.finished_at is not None
    [row] = await _ask(memory, "SELECT * FROM deployment_histories")

    assert (row.status, row.sourcedeploy_status, row.error_message) == ("success", "success", None)
    assert row.image_name == f"klepaas/shop:{SHA}"
    assert _time(row.deployed_at) == deployment.live_at
    assert _time(row.completed_at) == deployment.finished_at
    assert row.total_duration == pytest.approx(
        (deployment.finished_at - deployment.started_at).total_seconds(), abs=0.002
    )


async def test_what_has_not_ended_is_pending_or_running_and_was_never_deployed(
    memory: Memory, project: Project
) -> None:
    await memory.submit(project)
    assert await _words(memory) == [("pending", None, None)]
    [running] = await memory.queue.claim("node", 1)
    assert await _words(memory) == [("running", None, None)]
    await memory.queue.advance(
        running, "node", running.lose_sight(Stage.RELEASE, code="engine_unavailable", message="The engine is gone.")
    )
    assert await _words(memory) == [("running", None, "The outcome is not known yet: The engine is gone.")]
    [row] = await _ask(memory, "SELECT deployed_at, completed_at, total_duration FROM deployment_histories")
    assert tuple(row) == (None, None, None)


async def test_every_other_end_is_failed_and_says_how(memory: Memory, project: Project) -> None:
    await _failed(memory, project)
    await _failed(memory, project, ends_as=Status.ROLLED_BACK)
    queued = await memory.submit(project)
    await memory.submit(project, environment="staging")
    newer = await memory.submit(project, environment="staging")
    await memory.deployments.decide(queued, queued.cancel(actor="token laptop"))
    await memory.deployments.decide(newer, newer.cancel(actor="token laptop"))

    words = await _words(memory)
    assert {status for status, _, _ in words} == {"failed"}
    assert [message for _, _, message in words] == [
        "It did not answer.",
        "Rolled back automatically: It did not answer.",
        "Cancelled by token laptop.",
        "Superseded by a newer deployment of the same app.",
        "Cancelled by token laptop.",
    ]


async def test_times_can_be_reckoned_with_as_scripts_do(memory: Memory, project: Project) -> None:
    """`julianday` and `datetime` on SQLite, plain subtraction on PostgreSQL."""
    await _succeeded(memory, project)
    reckoned = (
        "(julianday(completed_at) - julianday(started_at)) * 86400 AS took, datetime(created_at) AS made "
        "FROM deployment_histories WHERE created_at < datetime('now', '-10 minutes')"
        if memory.database.is_sqlite
        else "EXTRACT(EPOCH FROM completed_at - started_at) AS took, created_at AS made "
        "FROM deployment_histories WHERE created_at < NOW()"
    )
    [row] = await _ask(memory, f"SELECT total_duration, {reckoned}")

    assert float(row.took) == pytest.approx(row.total_duration, abs=0.002)
    assert str(row.made).startswith("2026-03-01 12:00:0")


async def _succeeded(memory: Memory, project: Project, **changes: object) -> Deployment:
    submitted = await memory.submit(project, **changes)
    release_id = await memory.release(project, submitted)
    await memory.queue.claim("node", 1)
    return await _advance(
        memory,
        submitted.id,
        StageStarted(stage=Stage.RELEASE, fence=1),
        ImagePinned(image_digest=DIGEST, image_ref=f"klepaas/shop:{SHA}", reused=False),
        ReleaseCreated(release_id=release_id, number=1, image_digest=DIGEST, commit_sha=SHA),
        TrafficShifted(release_id=release_id, evidence={}),
        DeploymentSucceeded(release_id=release_id, image_digest=DIGEST, evidence={}),
    )


async def _failed(memory: Memory, project: Project, ends_as: Status = Status.FAILED) -> None:
    submitted = await memory.submit(project)
    [deployment] = await memory.queue.claim("node", 1)
    failure = Failure(
        stage=Stage.VERIFY, code="not_healthy", message="It did not answer.", hint="", evidence={}, ends_as=ends_as
    )
    deployment = await _advance(memory, submitted.id, *deployment.give_up(Stage.VERIFY, failure))
    await _advance(memory, submitted.id, *deployment.end_abandoned())


async def _advance(memory: Memory, deployment_id: str, *events: Event) -> Deployment:
    deployment = await memory.deployments.get(deployment_id)
    assert deployment is not None
    return await memory.queue.advance(deployment, "node", events)


async def _words(memory: Memory) -> list[tuple[str, str | None, str | None]]:
    rows = await _ask(memory, "SELECT status, sourcedeploy_status, error_message FROM deployment_histories ORDER BY id")
    return [tuple(row) for row in rows]


async def _ask(memory: Memory, query: str) -> Sequence[sa.Row[Any]]:
    async with memory.database.read() as connection:
        return (await connection.execute(sa.text(query))).all()


def _time(stored: object) -> datetime:
    """SQLite gives a view's times as text, without a zone."""
    return stored if isinstance(stored, datetime) else datetime.fromisoformat(f"{stored}+00:00")
