"""What klepaas does when GitHub is slow, away, wants to be left alone or no longer takes a token."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from klepaas.domain.connection import Credential
from klepaas.domain.github import StatusState
from klepaas.errors import (
    AuthenticationFailed,
    KlepaasError,
    NetworkTimeout,
    Outside,
    Rejected,
    RepositoryNotFound,
    Unavailable,
)
from klepaas.github import rest
from klepaas.github.budget import Budget
from klepaas.github.client import GitHub
from klepaas.github.rest import RestApi, Shown
from klepaas.operations.code_host import Place
from klepaas.testing.github import StandInGitHub, StandInRepository
from tests.github.conftest import Asked
from tests.github.credentials import Credentials

MINTED = "access_tokens"
STRANGER = Shown(who="a test", account="nobody")


async def told(github: GitHub, place: Place, sha: str) -> None:
    await github.set_status(place, sha, context="klepaas", state=StatusState.PENDING, description="", url=None)


# Tokens of installations.


async def test_many_who_ask_at_once_share_one_token(
    github: GitHub, installed: Place, shop: StandInRepository, asked: Asked
) -> None:
    found = await asyncio.gather(*(github.head(installed, "main") for _ in range(20)))

    assert {each.sha for each in found if each} == {shop.head()}
    assert asked("POST", MINTED) == 1


async def test_one_who_gives_up_takes_the_token_from_nobody(
    github: GitHub, installed: Place, hub: StandInGitHub
) -> None:
    first, second = (asyncio.create_task(github.head(installed, "main")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()

    assert await second is not None
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_token_is_kept_until_shortly_before_its_end(
    github: GitHub, installed: Place, hub: StandInGitHub, asked: Asked
) -> None:
    hub.token_lifetime = timedelta(minutes=3)
    await github.head(installed, "main")
    await github.head(installed, "main")
    assert asked("POST", MINTED) == 1

    assert installed.connection is not None
    await github.git_credential(installed.connection, installed)  # git may take longer than this one lasts
    assert asked("POST", MINTED) == 2
    hub.token_lifetime = timedelta(seconds=100)
    await github.git_credential(installed.connection, installed)
    await github.head(installed, "main")
    assert asked("POST", MINTED) == 4


async def test_a_token_github_forgot_early_is_minted_once_more(
    github: GitHub, installed: Place, hub: StandInGitHub, shop: StandInRepository, asked: Asked
) -> None:
    await told(github, installed, shop.head())
    hub.world.tokens.clear()

    await told(github, installed, shop.head())

    assert asked("POST", MINTED) == 2
    assert len(shop.statuses(shop.head())) == 2


async def test_each_token_opens_what_its_request_needs_and_no_more(
    github: GitHub, installed: Place, hub: StandInGitHub, shop: StandInRepository
) -> None:
    hub.create_repository("team/other")
    await github.head(installed, "main")
    await told(github, installed, shop.head())
    await github.pull_requests(installed, shop.head())

    minted = list(hub.world.tokens.values())

    assert {each.repositories for each in minted} == {frozenset({shop.id})}
    assert sorted(tuple(dict(each.permissions or {}).items()) for each in minted) == [
        (("metadata", "read"), ("contents", "read")),
        (("metadata", "read"), ("pull_requests", "read")),
        (("metadata", "read"), ("statuses", "write")),
    ]


async def test_an_installation_that_is_gone_is_said_to_be(github: GitHub, installed: Place, hub: StandInGitHub) -> None:
    assert installed.connection is not None
    hub.uninstall(int(installed.connection.installation_id or 0))

    with pytest.raises(Outside) as refused:
        await github.head(installed, "main")
    assert refused.value.evidence["status"] == 404


# Rate limits.


@pytest.mark.parametrize("status", [403, 429])
async def test_nobody_asks_while_told_to_wait(github: GitHub, by_token: Place, hub: StandInGitHub, status: int) -> None:
    hub.faults.limit(1, status=status, retry_after_s=40)
    with pytest.raises(Unavailable) as limited:
        await github.head(by_token, "main")
    assert limited.value.retry_after == timedelta(seconds=40)
    hub.forget_requests()

    with pytest.raises(Unavailable) as waiting:
        await github.head(by_token, "main")

    assert hub.requests == []
    assert waiting.value.retry_after is not None
    assert timedelta(seconds=35) < waiting.value.retry_after <= timedelta(seconds=40)


async def test_a_secondary_limit_that_does_not_say_how_long_holds_a_minute(
    github: GitHub, by_token: Place, hub: StandInGitHub
) -> None:
    hub.faults.limit(1, retry_after_s=None)

    with pytest.raises(Unavailable) as limited:
        await github.head(by_token, "main")

    assert limited.value.retry_after == timedelta(seconds=60)


async def test_the_end_of_the_hour_ends_an_exhausted_limit(github: GitHub, by_token: Place, hub: StandInGitHub) -> None:
    hub.faults.exhaust(1, reset_after_s=30)

    with pytest.raises(Unavailable) as limited:
        await github.repository(by_token)

    assert limited.value.retry_after is not None
    assert timedelta(seconds=20) < limited.value.retry_after <= timedelta(seconds=40)


async def test_one_credentials_limit_is_not_anothers(
    github: GitHub, credentials: Credentials, hub: StandInGitHub, shop: StandInRepository
) -> None:
    first, second = credentials.token(shop), credentials.token(shop, hub.create_token("other"))
    hub.faults.limit(1)
    with pytest.raises(Unavailable):
        await github.repository(first)

    assert (await github.repository(second)).repository_id == shop.id


async def test_polling_leaves_a_reserve_to_deployments(
    github: GitHub, by_token: Place, hub: StandInGitHub, shop: StandInRepository
) -> None:
    hub.requests_per_hour = 10
    seen = await github.head(by_token, "main")
    assert seen is not None
    for _ in range(7):
        await told(github, by_token, shop.head())
    hub.forget_requests()

    with pytest.raises(Unavailable):
        await github.head(by_token, "main", etag=seen.etag)

    assert hub.requests == []
    await told(github, by_token, shop.head())


def test_repeated_secondary_limits_hold_longer_and_longer_up_to_an_end() -> None:
    budget = Budget()
    answer = httpx.Response(429, json={"message": "You have exceeded a secondary rate limit."})

    rests = [budget.note(answer) for _ in range(6)]

    assert rests == [60, 120, 240, 480, 900, 900]
    budget.note(httpx.Response(200))
    assert budget.note(answer) == 60


def test_a_refusal_that_is_about_no_limit_holds_nobody() -> None:
    budget = Budget()

    assert budget.note(httpx.Response(403, json={"message": "Resource not accessible by integration"})) is None
    budget.check(is_polling=True, who="a test")


# Failures.


async def test_reading_outlasts_a_moment_of_trouble(
    github: GitHub, place: Place, shop: StandInRepository, hub: StandInGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "FIRST_REST_S", 0.01)
    hub.faults.fail(1, status=502, path="/repos/*")
    hub.faults.cut(1, path="/repos/*")

    assert (await github.repository(place)).repository_id == shop.id


async def test_telling_is_never_repeated_by_itself(
    github: GitHub, by_token: Place, shop: StandInRepository, hub: StandInGitHub
) -> None:
    """R-20: it was done although nobody said so; whoever repeats it looks first."""
    hub.faults.lose_answer(1, methods=["POST"])

    with pytest.raises(Unavailable):
        await told(github, by_token, shop.head())

    assert len(shop.statuses(shop.head())) == 1


async def test_a_github_that_stays_away_is_unavailable(
    github: GitHub, place: Place, hub: StandInGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "FIRST_REST_S", 0.01)
    hub.faults.down = True

    with pytest.raises(Unavailable, match="cannot be reached"):
        await github.repository(place)


async def test_a_github_that_hangs_is_given_up(
    github: GitHub, by_token: Place, hub: StandInGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "ANSWER_WITHIN_S", 0.2)
    monkeypatch.setattr(rest, "FIRST_REST_S", 0.01)
    hub.faults.hang()
    try:
        with pytest.raises(NetworkTimeout):
            await github.repository(by_token)
    finally:
        hub.faults.clear()


# Other servers, and what is no GitHub at all.


@pytest.fixture
def server() -> Iterator[Callable[..., str]]:
    """The address of a server that answers everything with one status, body and headers; `seen` gets its headers."""
    running: list[ThreadingHTTPServer] = []

    def answering(status: int = 200, body: object = None, seen: list[dict[str, str]] | None = None, **more: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if seen is not None:
                    seen.append(dict(self.headers))
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None: ...

        running.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=running[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_port}"

    yield answering
    for each in running:
        each.shutdown()
        each.server_close()


async def test_a_token_is_not_sent_on_to_another_server(server: Callable[..., str]) -> None:
    """S-09, S-10: neither to another host nor to another port or scheme of the same one."""
    seen: list[dict[str, str]] = []
    thief = server(200, {}, seen)
    shown = Shown(who="a test", account="a", secret="ghp_c4n4ry0000000000000000")
    for there in (
        f"{thief}/repos/a/b",
        thief.replace("127.0.0.1", "localhost"),
        "https://127.0.0.1/x",
        "//evil.test/x",
    ):
        api = RestApi(server(301, {}, Location=there))
        with pytest.raises(Rejected, match="not sent on"):
            await api.get("/repos/a/b", shown=shown)
        await api.close()

    assert seen == []


async def test_a_redirect_without_end_is_left(server: Callable[..., str]) -> None:
    api = RestApi(server(302, {}, Location="/round"))

    with pytest.raises(Rejected, match="without end"):
        await api.get("/repos/a/b", shown=STRANGER)
    await api.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"message": "Bad credentials"}, AuthenticationFailed),
        (403, {"message": "Resource not accessible by integration"}, Rejected),
        (404, {"message": "Not Found"}, RepositoryNotFound),
        (409, {"message": "Git Repository is empty."}, Rejected),
        (422, {"message": "Validation Failed"}, Rejected),
        (451, {"message": "Repository access blocked"}, Rejected),
        (500, {"message": "Server Error"}, Unavailable),
        (503, b"<html>", Unavailable),
        (304, b"", Rejected),
        (300, b"", Rejected),
        (204, b"", Rejected),
        (200, b"<html>a portal</html>", Rejected),
        (200, [], Rejected),
        (200, {"id": "x"}, Rejected),
        (200, {"owner": None, "name": "b", "id": 1}, Rejected),
        (200, b"x" * 1000, Rejected),
    ],
)
async def test_every_answer_is_one_of_our_errors(
    server: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: object,
    error: type[KlepaasError],
) -> None:
    monkeypatch.setattr(rest, "FIRST_REST_S", 0.01)
    github = GitHub(server(status, body), app=_no_app, open_credential=_no_credential)

    with pytest.raises(error):
        await github.repository(Place(owner="a", name="b"))
    await github.close()


async def test_an_answer_without_end_is_cut(server: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_ANSWER_BYTES", 1000)
    api = RestApi(server(200, b"1" * 5000))

    with pytest.raises(Rejected, match="too large"):
        await api.get("/repos/a/b", shown=STRANGER)
    await api.close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500])
async def test_no_error_holds_the_token_even_when_github_repeats_it(
    server: Callable[..., str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """S-05."""
    monkeypatch.setattr(rest, "FIRST_REST_S", 0.01)
    canary = "c4n4ry-token-of-no-known-shape"
    message = f"The token {canary} and ghs_c4n4ry00000000000000000000000 are bad\n\x1b[31m"
    api = RestApi(server(status, {"message": message}))

    with pytest.raises(KlepaasError) as refused:
        await api.get("/user", shown=Shown(who="the connection forge", account="a", secret=canary))
    await api.close()

    error: BaseException | None = refused.value
    while error is not None:
        told = str(error) + repr(getattr(error, "evidence", "")) + getattr(error, "hint", "")
        assert "c4n4ry" not in told
        assert "\x1b" not in told
        error = error.__cause__


def test_nothing_is_opened_before_the_first_question() -> None:
    api = RestApi("http://127.0.0.1:1")

    assert api._http is None


async def _no_app() -> None:
    return None


async def _no_credential(_: str) -> Credential:
    raise AssertionError("nobody asks")
