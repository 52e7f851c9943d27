"""An App says who it is by a signed token, and gets tokens of its installations."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from klepaas.testing.github import App, StandInGitHub, StandInRepository
from klepaas.testing.github.app_jwt import new_key


def signed(app: App, key: rsa.RSAPrivateKey | None = None, **claims: Any) -> str:
    now = int(time.time())
    parts = [{"alg": "RS256", "typ": "JWT"}, {"iss": str(app.app_id), "iat": now - 60, "exp": now + 540, **claims}]
    text = ".".join(_text(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_text((key or app.key).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def as_app(github: StandInGitHub, method: str, path: str, body: Any = None, **claims: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {signed(github.app, **claims)}"}
    return httpx.request(method, github.api_url + path, json=body, headers=headers)


def get(github: StandInGitHub, path: str, token: str) -> httpx.Response:
    return httpx.get(github.api_url + path, headers={"authorization": f"Bearer {token}"})


def minted(github: StandInGitHub, installation: int, **body: Any) -> str:
    answer = as_app(github, "POST", f"/app/installations/{installation}/access_tokens", body)
    assert 201 == answer.status_code, answer.text
    token: str = answer.json()["token"]
    return token


def test_an_app_that_signs_with_its_key_is_known(github: StandInGitHub) -> None:
    assert github.app.app_id == as_app(github, "GET", "/app").json()["id"]
    assert github.app.app_id == as_app(github, "GET", "/app", iss=github.app.client_id).json()["id"]


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": -5}, "numeric value representing the future time"),
        ({"exp": 1500}, "too far in the future"),
        ({"iat": 300}, "'iat'"),
        ({"exp": "soon"}, "numeric value"),
        ({"iss": "77"}, "Integration not found"),
    ],
)
def test_a_signed_token_with_a_wrong_claim_is_refused(
    github: StandInGitHub, claims: dict[str, Any], words: str
) -> None:
    now = int(time.time())
    answer = as_app(github, "GET", "/app", **{k: now + v if isinstance(v, int) else v for k, v in claims.items()})

    assert 401 == answer.status_code
    assert words in answer.json()["message"]


def test_another_key_and_another_method_are_refused(github: StandInGitHub) -> None:
    head, claims, signature = signed(github.app).split(".")
    unsigned = f"{_text(json.dumps({'alg': 'none'}).encode())}.{claims}."
    altered = f"{head}.{_text(json.dumps({'iss': str(github.app.app_id)}).encode())}.{signature}"

    for token in (signed(github.app, new_key()), unsigned, altered):
        assert 401 == get(github, "/app", token).status_code


def test_a_token_of_an_installation_reaches_its_repositories_only(
    github: StandInGitHub, shop: StandInRepository
) -> None:
    other = github.create_repository("team/other")
    token = minted(github, github.install("team", repositories=[shop]))

    assert 200 == get(github, "/repos/team/shop", token).status_code
    assert 404 == get(github, "/repos/team/other", token).status_code
    listed = get(github, "/installation/repositories", token).json()
    assert [shop.id] == [repository["id"] for repository in listed["repositories"]]
    assert other.id != shop.id


def test_a_token_is_narrowed_to_repositories_and_permissions(github: StandInGitHub, shop: StandInRepository) -> None:
    other = github.create_repository("team/other")
    installation = github.install("team")
    token = minted(github, installation, repository_ids=[shop.id], permissions={"contents": "read"})
    by_name = minted(github, installation, repositories=["other"])

    assert 200 == get(github, "/repos/team/shop/branches/main", token).status_code
    assert 404 == get(github, "/repos/team/other", token).status_code
    assert 403 == get(github, "/repos/team/shop/deployments", token).status_code
    assert 404 == get(github, "/repos/team/shop", by_name).status_code
    assert other.id == get(github, "/repos/team/other", by_name).json()["id"]


def test_nobody_gets_more_than_the_installation_has(github: StandInGitHub, shop: StandInRepository) -> None:
    other = github.create_repository("else/where")
    path = f"/app/installations/{github.install('team', repositories=[shop])}/access_tokens"

    assert 422 == as_app(github, "POST", path, {"repository_ids": [other.id]}).status_code
    assert 422 == as_app(github, "POST", path, {"permissions": {"administration": "write"}}).status_code


def test_a_token_ends_after_an_hour_or_sooner_when_told(github: StandInGitHub, shop: StandInRepository) -> None:
    installation = github.install("team", repositories=[shop])
    token = minted(github, installation)
    github.advance(timedelta(minutes=59))
    assert 200 == get(github, "/repos/team/shop", token).status_code

    github.advance(timedelta(minutes=2))

    assert 401 == get(github, "/repos/team/shop", token).status_code
    github.advance(timedelta(minutes=-61))
    github.token_lifetime = timedelta(minutes=5)
    answer = as_app(github, "POST", f"/app/installations/{installation}/access_tokens").json()
    left = datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=4) < left <= timedelta(minutes=5)


def test_a_suspended_installation_is_refused_until_it_is_not(github: StandInGitHub, shop: StandInRepository) -> None:
    installation = github.install("team", repositories=[shop])
    token = minted(github, installation)
    github.suspend(installation)

    assert 403 == get(github, "/repos/team/shop", token).status_code
    assert 403 == as_app(github, "POST", f"/app/installations/{installation}/access_tokens").status_code
    github.unsuspend(installation)
    assert 200 == get(github, "/repos/team/shop", token).status_code


def test_a_removed_installation_ends_its_tokens(github: StandInGitHub, shop: StandInRepository) -> None:
    installation = github.install("team", repositories=[shop])
    token = minted(github, installation)
    github.uninstall(installation)

    assert 401 == get(github, "/repos/team/shop", token).status_code
    assert 404 == as_app(github, "POST", f"/app/installations/{installation}/access_tokens").status_code
    assert 404 == as_app(github, "GET", "/repos/team/shop/installation").status_code


def test_the_installation_of_a_repository_is_found(github: StandInGitHub, shop: StandInRepository) -> None:
    installation = github.install("team", repositories=[shop])

    assert installation == as_app(github, "GET", "/repos/team/shop/installation").json()["id"]
    assert [installation] == [found["id"] for found in as_app(github, "GET", "/app/installations").json()]


def test_an_app_is_made_from_a_manifest(github: StandInGitHub) -> None:
    manifest = {
        "name": "Our klepaas",
        "url": "https://klepaas.example",
        "redirect_url": "https://klepaas.example/done",
        "hook_attributes": {"url": "https://klepaas.example/webhook"},
        "default_permissions": {"contents": "read"},
        "default_events": ["push"],
    }
    form = {"manifest": json.dumps(manifest)}
    sent_back = httpx.post(f"{github.url}/settings/apps/new?state=s3", data=form).headers["location"]
    query = httpx.URL(sent_back).params
    path = f"{github.api_url}/app-manifests/{query['code']}/conversions"

    made = httpx.post(path)

    assert "s3" == query["state"]
    assert 201 == made.status_code
    assert {"contents": "read", "metadata": "read"} == made.json()["permissions"]
    assert made.json()["pem"].startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert made.json()["webhook_secret"]
    assert 404 == httpx.post(path).status_code
