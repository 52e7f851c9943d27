"""The rules of a deployment, as sentences."""

from datetime import UTC, datetime
from typing import Any

import pytest

from klepaas.domain.deployment import ABANDON, Deployment, Failure, queued, replay
from klepaas.domain.events import (
    DeploymentClaimed,
    DeploymentFailed,
    DeploymentQueued,
    DeploymentSucceeded,
    Event,
    ImagePinned,
    Recorded,
    ReleaseCreated,
    StageStarted,
    TrafficShifted,
    event_from,
)
from klepaas.domain.observation import TrafficAnswer
from klepaas.domain.status import NEXT, Stage, Status
from klepaas.errors import Conflict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_deployment(*events: Event, **changes: Any) -> Deployment:
    first: dict[str, Any] = {
        "project_id": "prj_1",
        "environment": "production",
        "branch": "main",
        "trigger": "manual",
        "actor": "token test",
        "first_step": "fetch",
    }
    state = queued("dep_1", DeploymentQueued(**{**first, **changes}), NOON)
    for event in events:
        state = state.after(event, NOON)
    return state


CLAIMED = DeploymentClaimed(node="node_a", fence=1)
RELEASED = (
    CLAIMED,
    ImagePinned(image_digest="sha256:1", image_ref="klepaas/shop:1", reused=False),
    ReleaseCreated(release_id="rel_1", number=1, image_digest="sha256:1", commit_sha="a" * 40),
)


def an_answer(release_id: str | None, status: int | None = 200) -> TrafficAnswer:
    return TrafficAnswer(at=NOON, took_ms=1, url="http://127.0.0.1:1/", status=status, release_id=release_id)


def test_a_deployment_cannot_succeed_before_its_release_was_seen_answering() -> None:
    with pytest.raises(Conflict):
        a_deployment(*RELEASED).succeed()


@pytest.mark.parametrize(("release_id", "status"), [("rel_0", 200), (None, 200), ("rel_1", None), ("rel_1", 500)])
def test_another_releases_answer_and_an_error_are_no_evidence(release_id: str | None, status: int | None) -> None:
    assert not an_answer(release_id, status).is_served_by("rel_1")
    assert not an_answer(None, 200).is_served_by(None)


def test_success_carries_the_answer_that_proves_it() -> None:
    answer = an_answer("rel_1")
    assert answer.is_served_by("rel_1")
    (event,) = a_deployment(*RELEASED, TrafficShifted(release_id="rel_1", evidence=answer.as_dict())).succeed()

    assert isinstance(event, DeploymentSucceeded)
    assert event.evidence["answer"]["release_id"] == "rel_1"


def test_a_queued_deployment_is_cancelled_at_once() -> None:
    deployment = a_deployment()

    for event in deployment.cancel(actor="kim"):
        deployment = deployment.after(event, NOON)

    assert (deployment.status, deployment.finished_at) == (Status.CANCELLED, NOON)


def test_a_running_deployment_is_asked_to_cancel_and_ends_when_everything_is_undone() -> None:
    deployment = a_deployment(CLAIMED)

    (event,) = deployment.cancel(actor="kim")

    assert event.leads_to is None


def test_asking_twice_for_a_cancellation_is_one_request() -> None:
    deployment = a_deployment(CLAIMED)
    (event,) = deployment.cancel(actor="kim")

    assert [] == deployment.after(event, NOON).cancel(actor="lee")


def test_a_live_deployment_cannot_be_cancelled() -> None:
    shifted = TrafficShifted(release_id="rel_1", evidence={})

    with pytest.raises(Conflict):
        a_deployment(*RELEASED, shifted).cancel(actor="kim")


@pytest.mark.parametrize("status", [s for s in Status if s.is_terminal])
def test_nothing_follows_a_terminal_state(status: Status) -> None:
    assert not NEXT[status]


def test_a_failure_names_its_stage_and_is_undone_before_it_ends() -> None:
    failure = Failure(stage="build", code="build_failed", message="No.", hint="", evidence={}, ends_as=Status.FAILED)
    deployment = a_deployment(CLAIMED, StageStarted(stage=Stage.BUILD, fence=1))
    (event,) = deployment.give_up(Stage.BUILD, failure)
    deployment = deployment.after(event, NOON)
    (end,) = deployment.end_abandoned()

    assert (deployment.status, deployment.step) == (Status.RUNNING, ABANDON)
    assert isinstance(end, DeploymentFailed)
    assert (end.stage, end.code) == ("build", "build_failed")


def test_an_unknown_outcome_stays_unknown_while_it_is_looked_at_again() -> None:
    deployment = a_deployment(CLAIMED)
    (event,) = deployment.lose_sight(Stage.PROMOTE, code="deadline_passed", message="Away.")
    deployment = deployment.after(event, NOON).after(DeploymentClaimed(node="node_b", fence=2), NOON)

    assert (deployment.status, deployment.fence) == (Status.UNKNOWN, 2)


def test_an_unknown_outcome_cannot_be_given_up_as_cancelled() -> None:
    failure = Failure(stage="verify", code="cancelled", message="", hint="", evidence={}, ends_as=Status.CANCELLED)
    deployment = a_deployment(CLAIMED)
    (event,) = deployment.lose_sight(Stage.VERIFY, code="deadline_passed", message="Away.")

    with pytest.raises(Conflict):
        deployment.after(event, NOON).give_up(Stage.VERIFY, failure)


def test_a_superseded_deployment_cannot_run() -> None:
    deployment = a_deployment()
    (event,) = deployment.supersede(by="dep_2", reason="newer")

    with pytest.raises(Conflict):
        deployment.after(event, NOON).after(CLAIMED, NOON)


def test_replaying_its_stored_history_gives_the_same_deployment() -> None:
    events = RELEASED
    state = a_deployment(*events)
    first = DeploymentQueued(
        project_id="prj_1",
        environment="production",
        branch="main",
        trigger="manual",
        actor="token test",
        first_step="fetch",
    )
    history = [
        Recorded(deployment_id="dep_1", seq=n, at=NOON, node="n", event=event_from(e.kind, e.data()))
        for n, e in enumerate([first, *events], start=1)
    ]

    assert state == replay(history)
