"""The published vectors of the signature, and that what is signed is what is sent."""

import httpx
import pytest

from klepaas.settings import NcpSettings
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import Service, endpoints_of
from klepaas.targets.ncp.nks import token
from klepaas.targets.ncp.signing import Keys, signature
from tests.targets_ncp.gateway import KEYS, Script, client_of, result


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/project", "jmoxoX3QPC5SiA+K1jkI8mi4vMKiEwR6T+6lzI/pwHQ="),
        (
            "GET",
            "/api/v1/project?pageNo=1&pageSize=100&projectName=demo",
            "nBmbBQm5HnK53tNKqFcHnPbxbxnA9/NAYXw94XhOM9w=",
        ),
        ("POST", "/api/v1/project/101/build", "qzi/aRKyKR1OSXIi94wuGs0QB5i9I8i1lQ41xpCpCOw="),
        ("DELETE", "/api/v1/project/101/build", "cZ0Gjm6Ipa+rxszvk/xGlXw0dIniL84L8ZdjNsGCSrE="),
        ("POST", "/api/v1/project/9/stage/8/scenario/7/deploy", "BlFUE8lCU5QzCIgZl6YgpNXXSSf4GVOjwFtntVU+/Hw="),
    ],
)
def test_the_signature_is_that_of_the_reference(method: str, target: str, expected: str) -> None:
    assert signature(method, target, 1700000000000, KEYS) == expected


def test_the_signature_is_that_of_the_official_authenticator() -> None:
    target = "/iam/krs-v1/user?clusterUuid=D11328F1-ECA9-4F1B-BA22-921F61D9C5FF"
    keys = Keys(access="access", secret="secret")

    assert signature("GET", target, 1668407407855, keys) == "emeahfW4CmzsxIQ5ip0cd9yqERXJ+ZJsRfQpGNmKdXk="


def test_a_token_for_a_cluster_is_signed_over_its_path() -> None:
    import base64
    import json

    made = token("D11328F1", KEYS, region="KRS", timestamp_ms=1668407407855)
    claim = json.loads(base64.b64decode(made.removeprefix("k8s-ncp-v1.")))

    assert list(claim) == ["timestamp", "accessKey", "signature", "path"]
    assert claim["path"] == "/iam/krs-v1/user?clusterUuid=D11328F1"
    assert claim["signature"] == signature("GET", claim["path"], 1668407407855, KEYS)


@pytest.mark.parametrize("name", ["demo", "a b", "한글", "a&b=c", "a%2Fb", "x+y"])
async def test_what_is_signed_is_what_is_sent(name: str) -> None:
    client, script = client_of(result({}))
    await client.get(Service.SOURCE_BUILD, "/project", query={"projectName": name, "pageNo": 1})
    [request] = script.asked
    target = request.url.raw_path.decode()

    assert "?projectName=" in target
    assert request.headers["x-ncp-apigw-signature-v2"] == signature(
        "GET", target, request.headers["x-ncp-apigw-timestamp"], KEYS
    )
    assert request.headers["x-ncp-region_code"] == "KR"
    await client.close()


async def test_a_path_of_the_endpoint_is_signed_too() -> None:
    settings = NcpSettings(sourcebuild_endpoint="http://127.0.0.1:1/build")
    script = Script([result({})])
    client = NcpClient(KEYS, endpoints_of(settings), transport=script, budgets=Budgets(60))
    await client.get(Service.SOURCE_BUILD, "/project")
    [request] = script.asked

    assert request.url.path == "/build/api/v1/project"
    assert request.headers["x-ncp-apigw-signature-v2"] == signature(
        "GET", "/build/api/v1/project", request.headers["x-ncp-apigw-timestamp"], KEYS
    )
    await client.close()


async def test_a_start_has_no_body_and_no_content_type() -> None:
    client, script = client_of(result({}))
    await client.change(Service.SOURCE_BUILD, "POST", "/project/1/build")

    assert script.asked[0].content == b""
    assert "content-type" not in script.asked[0].headers
    await client.close()


async def test_a_cancellation_carries_its_body() -> None:
    client, script = client_of(result({}))
    await client.change(Service.SOURCE_BUILD, "DELETE", "/project/1/build", {"buildId": "b"})

    assert script.asked[0].content == b'{"buildId": "b"}'
    await client.close()


async def test_every_try_is_signed_anew() -> None:
    client, script = client_of(httpx.ConnectError("no"), httpx.Response(503), result({"ok": 1}))

    assert await client.get(Service.SOURCE_COMMIT, "/repository") == {"ok": 1}
    assert [each.headers["x-ncp-apigw-signature-v2"] for each in script.asked] == [
        signature("GET", "/api/v1/repository", each.headers["x-ncp-apigw-timestamp"], KEYS) for each in script.asked
    ]
    await client.close()
