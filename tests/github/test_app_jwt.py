import time

import jwt
import pytest

from klepaas.domain.github_app import GitHubApp
from klepaas.errors import AuthenticationFailed
from klepaas.github import app_jwt
from klepaas.testing.github.app_jwt import pem, shared_key

APP = GitHubApp(app_id="910001", private_key=pem(shared_key()))


async def test_the_app_says_who_it_is_for_less_than_ten_minutes() -> None:
    text = await app_jwt.AppJwt().of(APP)

    claims = jwt.decode(text, shared_key().public_key(), algorithms=["RS256"], options={"verify_iat": False})
    assert claims["iss"] == "910001"
    assert claims["exp"] - time.time() < 600
    assert claims["iat"] < time.time() - 30, "clocks differ, and GitHub refuses one from the future"


async def test_a_statement_is_signed_again_when_it_grows_old_or_the_app_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signer, now = app_jwt.AppJwt(), time.time()
    first = await signer.of(APP)

    assert await signer.of(APP) == first
    assert await signer.of(GitHubApp(app_id="2", private_key=APP.private_key)) != first
    monkeypatch.setattr(time, "time", lambda: now + 400)
    later = jwt.decode(await signer.of(APP), options={"verify_signature": False})
    assert later["iat"] > now


async def test_a_key_that_is_none_says_so_and_not_itself() -> None:
    with pytest.raises(AuthenticationFailed, match="cannot be read") as refused:
        await app_jwt.AppJwt().of(GitHubApp(app_id="1", private_key="c4n4ry"))

    assert "c4n4ry" not in str(refused.value) + str(refused.value.__cause__)
