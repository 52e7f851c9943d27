"""A stand-in of this test's own, and a client that signs as the reference says, written apart from the stand-in."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import pytest

from klepaas.testing.ncp import StandInNcp

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - name: shop
        image: IMAGE
"""

FILES = {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n", "k8s/deployment.yaml": DEPLOYMENT}


class Signed(httpx.Auth):
    """Signs path and query as they go over the wire."""

    def __init__(self, access_key: str, secret_key: str, *, header: str = "v2", ahead_ms: int = 0) -> None:
        self._access_key, self._secret_key = access_key, secret_key
        self._header, self._ahead_ms = header, ahead_ms

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        timestamp = str(int(time.time() * 1000) + self._ahead_ms)
        words = f"{request.method} {request.url.raw_path.decode()}\n{timestamp}\n{self._access_key}"
        digest = hmac.new(self._secret_key.encode(), words.encode(), hashlib.sha256).digest()
        request.headers["x-ncp-apigw-timestamp"] = timestamp
        request.headers["x-ncp-iam-access-key"] = self._access_key
        request.headers[f"x-ncp-apigw-signature-{self._header}"] = base64.b64encode(digest).decode()
        yield request


class Cloud:
    """The stand-in's services in the hands of somebody who may do everything."""

    def __init__(self, ncp: StandInNcp) -> None:
        self.ncp = ncp
        # No TLS here; making what it needs takes longer than most of these tests.
        self.http = httpx.Client(auth=Signed(ncp.access_key, ncp.secret_key), trust_env=False, verify=False)

    def close(self) -> None:
        self.http.close()

    def ask(self, door: Any, method: str, path: str, body: Any = None) -> httpx.Response:
        base = self.ncp.url(door) + ("" if door == "nks" else "/api/v1")
        return self.http.request(method, base + path, **({} if body is None else {"json": body}))

    def result(self, door: Any, method: str, path: str, body: Any = None) -> Any:
        answer = self.ask(door, method, path, body)
        assert 200 == answer.status_code, answer.text
        found = answer.json()
        assert ["result"] == list(found)
        return found["result"]

    def error(self, door: Any, method: str, path: str, body: Any = None) -> tuple[int, str | int]:
        answer = self.ask(door, method, path, body)
        return answer.status_code, answer.json()["error"]["errorCode"]

    # The chain

    def build_project(self, name: str = "build-team-shop", tag: str = "t1", **parts: Any) -> int:
        found: int = self.result("sourcebuild", "POST", "/project", {**build_body(name, tag), **parts})["id"]
        return found

    def deploy_project(self, name: str = "deploy-team-shop", **config: Any) -> tuple[int, int, int]:
        project = self.result("sourcedeploy", "POST", "/project", {"name": name})["id"]
        cluster = self.result("sourcedeploy", "GET", "/kubernetes/cluster")["clusterList"][0]["id"]
        body = {"name": "production", "type": "KubernetesService", "config": {"clusterNo": cluster}}
        stage = self.result("sourcedeploy", "POST", f"/project/{project}/stage", body)["id"]
        path = f"/project/{project}/stage/{stage}/scenario"
        scenario = self.result("sourcedeploy", "POST", path, scenario_body(**config))["id"]
        return project, stage, scenario

    def pipeline(self, build: int, deploy: tuple[int, int, int], **parts: Any) -> int:
        body = {**pipeline_body(build, deploy), **parts}
        found: int = self.result("sourcepipeline", "POST", "/project", body)["projectId"]
        return found

    def build(self, project: int) -> str:
        found: str = self.result("sourcebuild", "POST", f"/project/{project}/build")["buildId"]
        return found

    def build_state(self, project: int, build: str) -> Any:
        history = self.result("sourcebuild", "GET", f"/project/{project}/history")["history"]
        return next((one for one in history if one["buildId"] == build), None)

    def deploy(self, ids: tuple[int, int, int]) -> int:
        path = f"/project/{ids[0]}/stage/{ids[1]}/scenario/{ids[2]}/deploy"
        found: int = self.result("sourcedeploy", "POST", path)["historyId"]
        return found

    def deploy_state(self, project: int, history: int) -> Any:
        return self.result("sourcedeploy", "GET", f"/project/{project}/history/{history}")

    def manifest(self, name: str, reference: str, token: str | None = None) -> httpx.Response:
        """By the registry's token flow, or with a token."""
        url = f"http://{self.ncp.registry_host}"
        if token is None:
            params = {"service": self.ncp.registry_host, "scope": f"repository:{name}:pull"}
            keys = (self.ncp.access_key, self.ncp.secret_key)
            token = self.http.get(f"{url}/token", params=params, auth=keys).json()["token"]
        headers = {"authorization": f"Bearer {token}", "accept": "application/vnd.docker.distribution.manifest.v2+json"}
        return self.http.get(f"{url}/v2/{name}/manifests/{reference}", headers=headers, auth=None)


def build_body(name: str = "build-team-shop", tag: str = "t1") -> dict[str, Any]:
    images = {"dockerfile": "Dockerfile", "registry": "trial-registry", "image": "team-shop", "tag": tag}
    platform = {"os": {"id": 1}, "runtime": {"id": 1, "version": {"id": 1}}}
    return {
        "name": name,
        "source": {"type": "SourceCommit", "config": {"repository": "team-shop", "branch": "main"}},
        "env": {
            "compute": {"id": 1},
            "platform": {"type": "SourceBuild", "config": platform},
            "docker": {"use": True, "id": 1},
            "timeout": 60,
        },
        "cmd": {"pre": [], "build": [], "post": [], "dockerbuild": {"use": True, **images}},
        "artifact": {"use": False},
        "cache": {"use": False},
    }


def scenario_body(**config: Any) -> dict[str, Any]:
    manifest = {
        "type": "SourceCommit",
        "repository": "team-shop",
        "branch": "main",
        "path": ["k8s/deployment.yaml"],
    }
    return {"name": "deploy-app", "config": {"strategy": "rolling", "manifest": manifest, **config}}


def pipeline_body(build: int, deploy: tuple[int, int, int]) -> dict[str, Any]:
    ids = dict(zip(("projectId", "stageId", "scenarioId"), deploy, strict=True))
    return {
        "name": "pipeline-team-shop",
        "tasks": [
            {"name": "build", "type": "SourceBuild", "config": {"projectId": build}, "linkedTasks": []},
            {"name": "deploy", "type": "SourceDeploy", "config": ids, "linkedTasks": ["build"]},
        ],
        "trigger": {},
    }


def with_image(tag: str, host: str) -> dict[str, str]:
    """The manifest that deploys this tag."""
    return {"k8s/deployment.yaml": DEPLOYMENT.replace("IMAGE", f"{host}/team-shop:{tag}")}


def k8s_token(ncp: StandInNcp, *, ahead_ms: int = 0) -> str:
    path = f"/iam/v1/user?clusterUuid={ncp.cluster.uuid}"
    timestamp = str(int(time.time() * 1000) + ahead_ms)
    words = f"GET {path}\n{timestamp}\n{ncp.access_key}".encode()
    signature = base64.b64encode(hmac.new(ncp.secret_key.encode(), words, hashlib.sha256).digest()).decode()
    said = {"timestamp": timestamp, "accessKey": ncp.access_key, "signature": signature, "path": path}
    return "k8s-ncp-v1." + base64.b64encode(json.dumps(said).encode()).decode()


@pytest.fixture
def ncp() -> Iterator[StandInNcp]:
    with StandInNcp() as ncp:
        yield ncp


@pytest.fixture
def cloud(ncp: StandInNcp) -> Iterator[Cloud]:
    cloud = Cloud(ncp)
    yield cloud
    cloud.close()


@pytest.fixture
def shop(ncp: StandInNcp) -> None:
    """A repository with an app whose manifest names tag `t1`."""
    ncp.create_repository("team-shop", {**FILES, **with_image("t1", ncp.registry_host)})
