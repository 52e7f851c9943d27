"""Which image a tag names, and what is said when the registry does not let us see; R-08, S-09."""

import hashlib
import json

import httpx
import pytest

from klepaas.errors import AuthenticationFailed, Invalid, KlepaasError, PermissionMissing, Rejected, Unavailable
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.challenge import Challenge, challenges
from klepaas.targets.ncp.registry import Registry
from tests.targets_ncp.gateway import KEYS, Script

HOST = "acme.kr.ncr.ntruss.com"
MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
REALM = f"https://{HOST}/auth/token"
FOUND = httpx.Response(200, content=MANIFEST, headers={"docker-content-digest": DIGEST})
TOKEN = httpx.Response(200, json={"token": "a-token"})


def asks(realm: str = REALM, scope: str = 'scope="repository:shop:pull,push"') -> httpx.Response:
    return httpx.Response(401, headers={"www-authenticate": f'Bearer realm="{realm}",service="NCR",{scope}'})


def registry_of(*answers: httpx.Response | Exception, host: str = HOST, **more: object) -> tuple[Registry, Script]:
    script = Script(answers)
    return Registry(host, KEYS, transport=script, budgets=Budgets(6000), **more), script  # type: ignore[arg-type]


async def failure_of(*answers: httpx.Response | Exception) -> KlepaasError:
    registry, _ = registry_of(*answers)
    with pytest.raises(KlepaasError) as caught:
        await registry.find("shop", "v1")
    await registry.close()
    return caught.value


async def test_a_tag_leads_to_a_digest_by_way_of_a_token() -> None:
    registry, script = registry_of(asks(), TOKEN, FOUND)
    found = await registry.find("shop", "v1")
    token, again = script.asked[1:]

    assert found is not None
    assert (found.digest, found.reference) == (DIGEST, f"{HOST}/shop:v1")
    assert dict(token.url.params) == {"service": "NCR", "scope": "repository:shop:pull,push"}
    assert token.headers["authorization"].startswith("Basic ")
    assert again.headers["authorization"] == "Bearer a-token"
    assert "authorization" not in script.asked[0].headers
    await registry.close()


async def test_a_token_is_used_again() -> None:
    registry, script = registry_of(asks(), TOKEN, FOUND)
    for _ in range(3):
        await registry.find("shop", "v1")

    assert script.lines.count("GET /auth/token") == 1
    assert len(script.asked) == 5
    await registry.close()


async def test_only_404_is_missing() -> None:
    registry, _ = registry_of(asks(), TOKEN, httpx.Response(404))

    assert await registry.find("shop", "v1") is None
    await registry.close()


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([asks(), httpx.Response(401)], AuthenticationFailed),
        ([asks(), httpx.Response(403)], PermissionMissing),
        ([asks(), TOKEN, httpx.Response(401)], AuthenticationFailed),
        ([asks(), TOKEN, httpx.Response(403)], PermissionMissing),
        ([httpx.Response(403)], PermissionMissing),
        ([httpx.Response(401)], AuthenticationFailed),
        ([asks(), httpx.Response(404)], Rejected),
        ([httpx.Response(503)], Unavailable),
        ([httpx.Response(302, headers={"location": "http://127.0.0.1/"})], Rejected),
    ],
)
async def test_what_is_not_shown_is_not_called_missing(answers: list[httpx.Response], kind: type[KlepaasError]) -> None:
    refused = await failure_of(*answers)

    assert type(refused) is kind
    assert refused.evidence["status"] == answers[-1].status_code


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.example/token",
        "http://acme.kr.ncr.ntruss.com/token",
        "https://ncr.ntruss.com.evil.example/token",
        "https://evilncr.ntruss.com/token",
        "https://customer.apigw.ntruss.com/token",
        "https://user:pass@acme.kr.ncr.ntruss.com/token",
        "http://127.0.0.1/token",
        "http://169.254.169.254/token",
        "",
        "::",
    ],
)
async def test_the_keys_are_shown_to_nobody_else(realm: str) -> None:
    """S-09: whatever the registry says."""
    registry, script = registry_of(asks(realm), TOKEN, FOUND)
    with pytest.raises(Rejected, match="keys stay here"):
        await registry.find("shop", "v1")

    assert len(script.asked) == 1
    await registry.close()


@pytest.mark.parametrize("realm", ["https://kr.ncr.ntruss.com/t", "https://auth.example/t"])
async def test_navers_own_and_the_operators_hosts_may_give_tokens(realm: str) -> None:
    registry, _ = registry_of(asks(realm), TOKEN, FOUND, auth_hosts=["auth.example"])

    assert await registry.find("shop", "v1") is not None
    await registry.close()


async def test_a_registry_that_wants_basic_gets_it() -> None:
    registry, script = registry_of(httpx.Response(401, headers={"www-authenticate": 'Basic realm="x"'}), FOUND)

    assert await registry.find("shop", "v1") is not None
    assert script.asked[1].headers["authorization"].startswith("Basic ")
    await registry.close()


@pytest.mark.parametrize("reference", ["v1", f"sha256:{'0' * 64}"])
async def test_an_image_that_is_not_what_it_is_called_is_refused(reference: str) -> None:
    lying = httpx.Response(200, content=MANIFEST, headers={"docker-content-digest": f"sha256:{'0' * 64}"})
    registry, _ = registry_of(lying)
    with pytest.raises(Rejected, match="something else"):
        await registry.find("shop", reference)
    await registry.close()


@pytest.mark.parametrize(("image", "reference"), [("../x", "v1"), ("shop", "../x"), ("shop", "a b"), ("a?b", "v1")])
async def test_no_other_address_can_be_asked_for(image: str, reference: str) -> None:
    registry, script = registry_of(FOUND)
    with pytest.raises(Invalid):
        await registry.find(image, reference)

    assert script.asked == []
    await registry.close()


async def test_tags_come_page_by_page() -> None:
    first = httpx.Response(
        200, content=json.dumps({"tags": ["a"]}), headers={"link": '</v2/shop/tags/list?n=1&last=a>; rel="next"'}
    )
    registry, script = registry_of(first, httpx.Response(200, json={"tags": ["b"]}))

    assert await registry.tags("shop") == ["a", "b"]
    assert script.asked[1].url.query == b"n=1&last=a"
    await registry.close()


async def test_no_tags_are_none() -> None:
    registry, _ = registry_of(httpx.Response(200, json={"name": "shop", "tags": None}))

    assert await registry.tags("shop") == []
    await registry.close()


def test_challenges_are_read_with_their_quotes() -> None:
    header = r'Bearer realm="https://a/b,c",service="x \"y\"",scope="repository:a:pull,push", Basic realm=plain'

    assert challenges(header) == [
        Challenge("bearer", {"realm": "https://a/b,c", "service": 'x "y"', "scope": "repository:a:pull,push"}),
        Challenge("basic", {"realm": "plain"}),
    ]


@pytest.mark.parametrize("header", ["", "=", ",,,", 'Bearer realm="', "Negotiate", "Bearer a=b=c", "\x00"])
def test_odd_challenges_do_no_harm(header: str) -> None:
    challenges(header)
