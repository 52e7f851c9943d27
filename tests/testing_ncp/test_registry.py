"""The registry: its tokens, pushes over HTTP, and the same with the registry program behind it."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from klepaas.testing.ncp import StandInNcp, image_program
from tests.testing_ncp.conftest import Cloud

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(params=["own", "program"])
def registry(request: pytest.FixtureRequest) -> Iterator[StandInNcp]:
    if request.param == "program" and image_program.installed() is None:
        pytest.skip("needs the package docker-registry")
    with StandInNcp(registry=request.param) as ncp:
        yield ncp


def test_the_manifest_is_shown_to_who_brings_a_token(registry: StandInNcp) -> None:
    digest, cloud = registry.create_image("team-shop", "t1"), Cloud(registry)
    asked = cloud.http.get(f"http://{registry.registry_host}/v2/team-shop/manifests/t1", auth=None)
    found = cloud.manifest("team-shop", "t1")

    host = registry.registry_host
    assert 401 == asked.status_code
    scope = "repository:team-shop:pull"
    challenge = f'Bearer realm="http://{host}/token",service="{host}",scope="{scope}"'
    assert challenge == asked.headers["www-authenticate"]
    assert (200, digest, MANIFEST) == (
        found.status_code,
        found.headers["docker-content-digest"],
        found.headers["content-type"],
    )
    assert f"sha256:{hashlib.sha256(found.content).hexdigest()}" == digest
    assert [404, 404] == [cloud.manifest(*what).status_code for what in (("team-shop", "t2"), ("other", "t1"))]
    assert {"team-shop": ["t1"]} == registry.images
    cloud.close()


def test_an_image_that_was_deleted_is_gone(registry: StandInNcp) -> None:
    registry.create_image("team-shop", "t1")
    registry.create_image("team-shop", "t2")
    registry.delete_image("team-shop", "t1")

    assert {"team-shop": ["t2"]} == registry.images
    assert None is registry.digest_of("team-shop", "t1")


def test_blobs_and_manifests_are_pushed_in_pieces(registry: StandInNcp) -> None:
    cloud, base = Cloud(registry), f"http://{registry.registry_host}"
    keys = (registry.access_key, registry.secret_key)
    params = {"service": registry.registry_host, "scope": "repository:app:pull,push"}
    token = cloud.http.get(f"{base}/token", params=params, auth=keys).json()["access_token"]
    http = httpx.Client(headers={"authorization": f"Bearer {token}"}, base_url=base, verify=False)

    def push(blob: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        begun = http.post("/v2/app/blobs/uploads/")
        sent = http.patch(begun.headers["location"], content=blob[:3])
        where = httpx.URL(sent.headers["location"]).copy_merge_params({"digest": digest})
        assert (202, 202, 201) == (begun.status_code, sent.status_code, http.put(where, content=blob[3:]).status_code)
        assert 200 == http.head(f"/v2/app/blobs/{digest}").status_code
        assert blob == http.get(f"/v2/app/blobs/{digest}").content
        return {"mediaType": "application/octet-stream", "size": len(blob), "digest": digest}

    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": push(b"{ }"), "layers": [push(b"layer")]}
    put = http.put("/v2/app/manifests/t1", json=body, headers={"content-type": MANIFEST})
    wrong = {**body, "layers": [{**body["layers"][0], "digest": f"sha256:{'0' * 64}"}]}  # type: ignore[index]

    assert 201 == put.status_code
    assert put.headers["docker-content-digest"] == registry.digest_of("app", "t1")
    assert {"name": "app", "tags": ["t1"]} == http.get("/v2/app/tags/list").json()
    assert not http.put("/v2/app/manifests/t2", json=wrong, headers={"content-type": MANIFEST}).is_success
    assert 401 == http.delete("/v2/app/manifests/t1").status_code
    http.close()
    cloud.close()


def test_tokens_are_for_a_scope_and_a_time(ncp: StandInNcp, cloud: Cloud) -> None:
    ncp.create_image("team-shop", "t1")
    url, keys = f"http://{ncp.registry_host}/token", (ncp.access_key, ncp.secret_key)
    params = {"service": ncp.registry_host, "scope": "repository:other:pull"}
    other = cloud.http.get(url, params=params, auth=keys).json()["token"]
    params["scope"] = "repository:team-shop:pull"
    token = cloud.http.get(url, params=params, auth=keys).json()["token"]
    codes = [cloud.manifest("team-shop", "t1", given).status_code for given in (token, other, "nonsense")]
    ncp.advance(timedelta(minutes=6))

    assert [200, 401, 401] == codes
    assert 401 == cloud.manifest("team-shop", "t1", token).status_code
    assert 401 == cloud.http.get(url, params=params, auth=(ncp.access_key, "wrong")).status_code
    assert 400 == cloud.http.get(url, params={"service": "else"}, auth=keys).status_code
    basic = cloud.http.get(f"http://{ncp.registry_host}/v2/team-shop/manifests/t1", auth=keys)
    assert 401 == basic.status_code
