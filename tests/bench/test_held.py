"""When a websocket counts as dropped too early."""

from bench.held import Session, dropped_too_early


def early(*sessions: Session) -> int:
    return dropped_too_early(sessions, switches=[100.0, 200.0], drain_s=4.0, slack_s=0.5)


def test_a_websocket_may_end_when_its_release_was_drained() -> None:
    assert early(Session(opened_at=50, alive_at=103.6, ended="closed")) == 0
    assert early(Session(opened_at=150, alive_at=204.1, ended="silent")) == 0


def test_one_that_ends_while_its_release_is_drained_was_dropped() -> None:
    assert early(Session(opened_at=50, alive_at=103.4, ended="closed")) == 1
    assert early(Session(opened_at=150, alive_at=201.0, ended="silent")) == 1


def test_one_that_ends_without_a_switch_away_from_its_release_was_dropped() -> None:
    assert early(Session(opened_at=50, alive_at=60, ended="closed")) == 1
    assert early(Session(opened_at=201, alive_at=300, ended="closed")) == 1


def test_one_that_is_open_at_the_end_was_not_dropped() -> None:
    assert early(Session(opened_at=50, alive_at=60, ended="open")) == 0
