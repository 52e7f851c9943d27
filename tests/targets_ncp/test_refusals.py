"""What Naver Cloud says no with, and what klepaas says of it; R-18, R-27, S-05."""

import time
from datetime import timedelta
from email.utils import formatdate

import httpx
import pytest

from klepaas.errors import (
    AnswerLost,
    AuthenticationFailed,
    KlepaasError,
    NetworkTimeout,
    PermissionMissing,
    Rejected,
    Unavailable,
)
from klepaas.targets.ncp.endpoints import Service
from tests.targets_ncp.gateway import KEYS, client_of, error, result

BUILD = Service.SOURCE_BUILD


async def failure_of(*answers: httpx.Response | Exception, method: str = "GET") -> KlepaasError:
    client, _ = client_of(*answers)
    with pytest.raises(KlepaasError) as caught:
        await (client.get(BUILD, "/project") if method == "GET" else client.change(BUILD, method, "/project", {}))
    await client.close()
    return caught.value


@pytest.mark.parametrize(
    ("answer", "kind", "begins"),
    [
        (error(401, "200", "Authentication Failed"), AuthenticationFailed, "NCP REST error 401: Authentication Failed"),
        (error(401, "210", "Permission Denied"), PermissionMissing, "NCP REST error 401: Permission Denied"),
        (
            error(400, 330900, "unknown"),
            Rejected,
            "NCP REST error 400: unknown (SourceBuild, code 330900). The scenario",
        ),
        (error(404, "300", "Not Found Exception"), Rejected, "NCP REST error 404: Not Found Exception"),
        (error(200, "310400", "Odd"), Rejected, "NCP REST error 200: Odd (SourceBuild, code 310400)"),
        (httpx.Response(413, text="<html>no</html>"), Rejected, "NCP REST error 413: Request Entity Too Large"),
        (error(500, "900", "Unexpected Error"), Unavailable, "NCP REST error 500: Unexpected Error"),
    ],
)
async def test_every_refusal_keeps_its_prefix_its_code_and_a_sentence(
    answer: httpx.Response, kind: type[KlepaasError], begins: str
) -> None:
    refused = await failure_of(answer)

    assert type(refused) is kind
    assert refused.message.startswith(begins)
    assert refused.evidence["status"] == answer.status_code


async def test_the_other_envelope_is_read_too() -> None:
    refused = await failure_of(httpx.Response(400, json={"responseError": {"returnCode": "1", "returnMessage": "Bad"}}))

    assert refused.message == "NCP REST error 400: Bad (SourceBuild, code 1)."


@pytest.mark.parametrize("minutes", [7, -9])
async def test_a_wrong_clock_is_said(minutes: int) -> None:
    date = formatdate(time.time() - minutes * 60, usegmt=True)
    refused = await failure_of(error(401, "200", "Authentication Failed", date=date))

    assert (
        f"clock is {abs(minutes)}.0 minutes {'ahead of' if minutes > 0 else 'behind'} Naver Cloud's" in refused.message
    )
    assert abs(refused.evidence["clock_skew_s"] - minutes * 60) <= 2


async def test_a_right_clock_is_not_blamed() -> None:
    refused = await failure_of(error(401, "200", "Authentication Failed", date=formatdate(usegmt=True)))

    assert "clock" not in refused.message


async def test_the_clock_can_be_asked_for() -> None:
    client, _ = client_of(result({}, date=formatdate(time.time() - 60, usegmt=True)))
    await client.get(BUILD, "/project")

    assert client.clock_skew is not None
    assert abs(client.clock_skew - timedelta(seconds=60)) <= timedelta(seconds=2)
    await client.close()


async def test_no_sentence_holds_a_credential() -> None:
    """S-05: also when the provider, or what stands between, sends it back."""
    said = f"key {KEYS.access} secret {KEYS.secret} password git-password-1 Basic dXNlcjpwYXNzd29yZA== \x1b[31m"
    for answer in (
        error(400, 1, said, said),
        error(500, 1, said),
        httpx.Response(403, text=said),
        httpx.ConnectError(said[:4]),
    ):
        refused = await failure_of(answer)
        text = f"{refused.message} {refused.hint} {refused.evidence} {refused!r} {refused.__cause__!r}"

        assert not [each for each in (KEYS.access, KEYS.secret, "git-password-1", "dXNlcjpwYX", "\x1b") if each in text]


async def test_reading_is_repeated() -> None:
    client, script = client_of(httpx.ReadError("x"), httpx.Response(504), result({"project": []}))

    assert await client.get(BUILD, "/project") == {"project": []}
    assert len(script.asked) == 3
    await client.close()


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("gone"),
        httpx.Response(503),
        httpx.Response(504),
        httpx.Response(200, text="<html>"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_a_change_is_never_sent_twice_and_its_fate_is_said_to_be_unknown(
    method: str, answer: httpx.Response | Exception
) -> None:
    client, script = client_of(answer)
    with pytest.raises(AnswerLost, match="not known whether it was done"):
        await client.change(BUILD, method, "/project", {})

    assert len(script.asked) == 1
    await client.close()


async def test_a_change_that_never_left_is_not_said_to_be_lost() -> None:
    refused = await failure_of(httpx.ConnectTimeout("no"), method="POST")

    assert type(refused) is NetworkTimeout


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_short_429_is_waited_for(method: str) -> None:
    """It was refused before it did anything, so that a change may be sent again too."""
    client, script = client_of(error(429, "410", "Throttle Limited", **{"retry-after": "1"}), result({"ok": 1}))
    asked = client.get(BUILD, "/x") if method == "GET" else client.change(BUILD, method, "/x")

    assert await asked == {"ok": 1}
    assert len(script.asked) == 2
    await client.close()


async def test_a_long_429_is_told_with_its_time_and_nobody_asks_meanwhile() -> None:
    client, script = client_of(error(429, "400", "Quota Exceeded", **{"retry-after": "600"}))
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await client.get(BUILD, "/project")
        assert caught.value.retry_after is not None
        assert timedelta(seconds=590) < caught.value.retry_after <= timedelta(seconds=600)

    assert len(script.asked) == 1
    await client.close()


async def test_one_services_429_does_not_stop_another() -> None:
    client, _ = client_of(error(429, "400", "Quota Exceeded", **{"retry-after": "600"}), result({"ok": 1}))
    with pytest.raises(Unavailable):
        await client.get(BUILD, "/project")

    assert await client.get(Service.SOURCE_DEPLOY, "/project") == {"ok": 1}
    await client.close()


async def test_an_endless_answer_is_refused() -> None:
    refused = await failure_of(httpx.Response(200, content=b" " * (17 * 2**20)))

    assert "far too large" in refused.message


async def test_nothing_is_followed() -> None:
    """S-09."""
    refused = await failure_of(httpx.Response(302, headers={"location": "http://169.254.169.254/"}))

    assert isinstance(refused, Rejected)
