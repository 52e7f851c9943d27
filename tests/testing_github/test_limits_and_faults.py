"""Budgets, conditional requests, and everything that can go wrong with a request."""

import threading
import time
from datetime import timedelta

import httpx
import pytest

from klepaas.testing.github import Fault, Kind, StandInGitHub, StandInRepository

HEAD = "/repos/team/shop/branches/main"


def test_requests_count_and_what_is_not_modified_does_not(
    github: StandInGitHub, shop: StandInRepository, dana: httpx.Client
) -> None:
    first = dana.get(HEAD)
    again = dana.get(HEAD, headers={"if-none-match": first.headers["etag"]})
    shop.commit({"a": "a"})
    changed = dana.get(HEAD, headers={"if-none-match": first.headers["etag"]})

    assert (200, 304, 200) == (first.status_code, again.status_code, changed.status_code)
    assert b"" == again.content
    assert ["4999", "4999", "4998"] == [a.headers["x-ratelimit-remaining"] for a in (first, again, changed)]
    assert [True, False, True] == [request.counted for request in github.requests]
    assert 4998 == dana.get("/rate_limit").json()["resources"]["core"]["remaining"]


def test_a_new_token_makes_the_old_tag_worthless(github: StandInGitHub, shop: StandInRepository) -> None:
    installation = github.install("team", repositories=[shop])

    def ask(tag: str = "") -> httpx.Response:
        token = github.create_installation_token(installation)
        headers = {"authorization": f"Bearer {token}", "if-none-match": tag}
        return httpx.get(github.api_url + HEAD, headers=headers)

    assert 200 == ask(ask().headers["etag"]).status_code


def test_a_spent_budget_is_refused_until_it_begins_anew(
    github: StandInGitHub, shop: StandInRepository, dana: httpx.Client
) -> None:
    github.requests_per_hour = 2
    answers = [dana.get(HEAD) for _ in range(3)]

    assert [200, 200, 403] == [answer.status_code for answer in answers]
    assert "0" == answers[2].headers["x-ratelimit-remaining"]
    assert "rate limit exceeded" in answers[2].json()["message"]
    github.advance(timedelta(hours=1, seconds=1))
    assert 200 == dana.get(HEAD).status_code


def test_the_log_says_with_which_token(github: StandInGitHub, shop: StandInRepository, dana: httpx.Client) -> None:
    dana.get(HEAD)
    httpx.get(github.url + HEAD)
    httpx.get(github.url + HEAD, headers={"authorization": "Bearer nonsense"})
    token = github.create_installation_token(github.install("team"))
    httpx.get(github.url + HEAD, headers={"authorization": f"token {token}"})

    assert [(HEAD, "user", 200), (HEAD, "none", 404), (HEAD, "bad", 401), (HEAD, "installation", 200)] == [
        (request.path, request.token, request.status) for request in github.requests
    ]


def test_the_next_requests_fail_and_then_no_more(
    github: StandInGitHub, shop: StandInRepository, dana: httpx.Client
) -> None:
    github.faults.fail(2, status=503, path="*/branches/*")

    assert 200 == dana.get("/repos/team/shop").status_code
    assert [503, 503, 200] == [dana.get(HEAD).status_code for _ in range(3)]


def test_a_fraction_of_requests_fails_by_the_seed(
    github: StandInGitHub, shop: StandInRepository, dana: httpx.Client
) -> None:
    github.faults.fail(fraction=0.5)

    def run() -> list[int]:
        github.faults.use_seed(3)
        return [dana.get(HEAD).status_code for _ in range(20)]

    first = run()
    assert {200, 502} == set(first)
    assert first == run()


def test_limits_say_how_long_to_wait(github: StandInGitHub, shop: StandInRepository, dana: httpx.Client) -> None:
    github.faults.limit(1, status=429, retry_after_s=7)
    github.faults.exhaust(1, reset_after_s=90)
    secondary, primary, fine = (dana.get(HEAD) for _ in range(3))

    assert (429, "7") == (secondary.status_code, secondary.headers["retry-after"])
    assert "secondary rate limit" in secondary.json()["message"]
    assert (403, "0") == (primary.status_code, primary.headers["x-ratelimit-remaining"])
    assert "retry-after" not in primary.headers
    assert 200 == fine.status_code


def test_a_cut_connection_does_nothing_and_a_lost_answer_everything(
    github: StandInGitHub, shop: StandInRepository, dana: httpx.Client
) -> None:
    path = f"/repos/team/shop/statuses/{shop.head()}"
    github.faults.cut(1)
    with pytest.raises(httpx.TransportError):
        dana.post(path, json={"state": "success", "context": "cut"})
    github.faults.lose_answer(1, methods=["POST"])
    with pytest.raises(httpx.TransportError):
        dana.post(path, json={"state": "success", "context": "lost"})

    assert ["lost"] == [status.context for status in shop.statuses(shop.head())]
    assert [0, 0] == [request.status for request in github.requests]
    assert 200 == dana.get(HEAD).status_code


def test_a_request_hangs_until_the_fault_is_cleared(
    github: StandInGitHub, shop: StandInRepository, dana: httpx.Client
) -> None:
    fault = github.faults.add(Fault(kind=Kind.HANG, path="*/branches/*", times=2))
    with pytest.raises(httpx.ReadTimeout):
        dana.get(HEAD, timeout=0.2)
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.get(github.url + HEAD, timeout=30)
        ended.set()

    threading.Thread(target=ask).start()
    while fault.times:  # until it has arrived
        time.sleep(0.01)
    assert not ended.wait(0.2)
    github.faults.clear()
    assert ended.wait(10)


def test_it_ends_while_requests_hang(github: StandInGitHub) -> None:
    fault = github.faults.hang(1)

    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.get(github.url, timeout=30)

    asking = threading.Thread(target=ask)
    asking.start()
    while fault.times:
        time.sleep(0.01)

    github.stop()

    asking.join(10)
    assert not asking.is_alive()


def test_git_fails_like_everything_else(github: StandInGitHub, shop: StandInRepository, dana: httpx.Client) -> None:
    github.faults.fail(path="*.git/*")

    assert 502 == httpx.get(f"{shop.clone_url}/info/refs?service=git-upload-pack").status_code
    assert 200 == dana.get(HEAD).status_code
