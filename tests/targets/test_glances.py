"""What was seen of a container a moment ago is believed only as long as nobody of us changed it."""

from datetime import UTC, datetime

import pytest

from klepaas.domain.observation import Health, Observation
from klepaas.domain.release import Release
from klepaas.targets.local import glances as module
from klepaas.targets.local.container import Container
from klepaas.targets.local.glances import Glances
from tests.targets.releases import a_release, an_app

SEEN = Container(
    id="c1",
    labels={},
    image_digest="sha256:a",
    state="running",
    status="running",
    pid=1,
    exit_code=0,
    out_of_memory=False,
    restarts=0,
    started_at=datetime(2026, 1, 5, tzinfo=UTC),
    restart_policy="always",
)

WELL = Observation(at=datetime(2026, 1, 5, tzinfo=UTC), health=Health.HEALTHY, detail="")


@pytest.fixture
def release() -> Release:
    return a_release(an_app(), 1)


def test_what_was_seen_just_now_is_believed_for_a_moment(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    glances = Glances()
    glances.keep(release, SEEN, since=glances.changes(release))
    assert glances.of(release) is SEEN

    monkeypatch.setattr(module, "BELIEVED_S", 0.0)
    assert glances.of(release) is None


def test_a_look_that_lasted_across_a_change_is_not_believed(release: Release) -> None:
    glances = Glances()
    since = glances.changes(release)
    with glances.changing(release.id):
        glances.keep(release, SEEN, since=glances.changes(release))
        assert glances.of(release) is None, "seen while it was changed"
    glances.keep(release, SEEN, since=since)

    assert glances.of(release) is None


def test_what_we_did_ourselves_is_taken_for_a_look_once(release: Release) -> None:
    glances = Glances()
    glances.keep_ours(release, SEEN, WELL)

    assert [glances.take_ours(release), glances.take_ours(release)] == [(SEEN, WELL), (None, None)]
    assert glances.of(release) is SEEN


def test_what_an_app_answered_is_believed_for_less_long_than_that_it_runs(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_BELIEVED_S", 0.0)
    glances = Glances()
    glances.keep_ours(release, SEEN, WELL)

    assert glances.take_ours(release) == (SEEN, None)


def test_a_change_ends_what_we_knew_of_our_own_doing(release: Release) -> None:
    glances = Glances()
    glances.keep_ours(release, SEEN, WELL)
    with glances.changing(release.id):
        pass

    assert glances.take_ours(release) == (None, None)
