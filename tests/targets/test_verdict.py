"""R-21: whatever a probe meets, the verdict and the words say which it was."""

import pytest

from klepaas.domain.project import ProjectSettings
from klepaas.targets.local.probe import Answer, Failure
from klepaas.targets.local.sockets import Listener
from klepaas.targets.local.verdict import verdict_of


def _status(status: int, path: str = "/health", location: str = "") -> tuple[bool, str, str]:
    answer = Answer(took_ms=1, status=status, headers={"location": location} if location else {})
    settings = ProjectSettings(health_path=path)
    verdict = verdict_of(answer, settings, host="shop.example.org", port=8080, listening=None)
    return verdict.ready, verdict.clause, verdict.sentence


def _failure(failure: Failure, *listening: Listener | None, heard: str = "") -> str:
    seen = None if listening == (None,) else [listener for listener in listening if listener]
    answer = Answer(took_ms=2000, failure=failure, heard=heard)
    verdict = verdict_of(answer, ProjectSettings(), host="localhost", port=8080, listening=seen)
    assert not verdict.ready
    return verdict.sentence


@pytest.mark.parametrize(
    ("status", "path", "ready"),
    [
        (200, "/health", True),
        (204, "/health", True),
        (301, "/health", True),
        (400, "/health", False),
        (401, "/health", False),
        (404, "/health", False),
        (429, "/health", False),
        (500, "/health", False),
        (200, "/", True),
        (404, "/", True),
        (401, "/", True),
        (500, "/", False),
        (503, "/", False),
    ],
)
def test_a_chosen_path_must_answer_2xx_or_3xx_and_the_default_anything_below_500(
    status: int, path: str, ready: bool
) -> None:
    assert _status(status, path)[0] is ready


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "login"),
        (403, "forbidden"),
        (404, "no such path"),
        (421, "shop.example.org"),
        (400, "shop.example.org"),
        (429, "limits how often"),
        (500, "its log says more"),
    ],
)
def test_each_bad_status_is_named_with_its_usual_cause(status: int, words: str) -> None:
    _, clause, sentence = _status(status)

    assert clause == f"HTTP {status}"
    assert f"HTTP {status}" in sentence
    assert words in sentence


def test_a_redirect_says_where_to() -> None:
    assert "redirect to https://x.test/" in _status(301, location="https://x.test/")[1]


def test_listening_on_loopback_only_is_named_with_its_address() -> None:
    sentence = _failure(Failure.CLOSED, Listener("127.0.0.1", 8080))

    assert "127.0.0.1:8080 inside its container" in sentence
    assert "Listen on 0.0.0.0:8080" in sentence


def test_listening_on_ipv6_loopback_only_is_named() -> None:
    assert "[::1]:8080" in _failure(Failure.CLOSED, Listener("::1", 8080))


def test_listening_on_ipv6_only_is_named() -> None:
    assert "IPv6 only" in _failure(Failure.CLOSED, Listener("::", 8080))


def test_listening_on_another_port_names_it_and_how_to_choose_it() -> None:
    sentence = _failure(Failure.CLOSED, Listener("0.0.0.0", 3000))

    assert "0.0.0.0:3000" in sentence
    assert "port to 3000" in sentence


def test_listening_on_another_port_and_loopback_only_says_both() -> None:
    sentence = _failure(Failure.CLOSED, Listener("127.0.0.1", 3000))

    assert "port to 3000" in sentence
    assert "use 0.0.0.0" in sentence


def test_listening_nowhere_says_so() -> None:
    assert "Nothing listens" in _failure(Failure.CLOSED)
    assert "Nothing listens" in _failure(Failure.SLOW)


def test_where_the_kernel_cannot_be_asked_both_usual_causes_are_named() -> None:
    sentence = _failure(Failure.REFUSED, None)

    assert "nothing listens there, or it listens on 127.0.0.1 only" in sentence


def test_not_http_shows_what_came_instead() -> None:
    assert "SSH-2.0" in _failure(Failure.NOT_HTTP, Listener("0.0.0.0", 8080), heard="SSH-2.0")


def test_too_slow_is_told_apart_from_not_listening() -> None:
    assert "no answer within 2 s" in _failure(Failure.SLOW, Listener("0.0.0.0", 8080))


def test_accepting_and_closing_is_told_apart_from_not_listening() -> None:
    assert "closes them without an HTTP answer" in _failure(Failure.CLOSED, Listener("0.0.0.0", 8080))
