"""The cluster as its API server shows it."""

import base64
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from klepaas.testing.ncp import StandInNcp
from tests.testing_ncp.conftest import Cloud, k8s_token

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.fixture
def cluster(ncp: StandInNcp) -> Iterator[httpx.Client]:
    """As its kubeconfig leads there."""
    about = YAML(typ="safe", pure=True).load(ncp.kubeconfig)["clusters"][0]["cluster"]
    authority = base64.b64decode(about["certificate-authority-data"]).decode()
    headers = {"authorization": f"Bearer {k8s_token(ncp)}"}
    context = ssl.create_default_context(cadata=authority)
    with httpx.Client(base_url=about["server"], headers=headers, verify=context, trust_env=False) as client:
        yield client


@pytest.fixture
def deployed(ncp: StandInNcp, cloud: Cloud, shop: None) -> str:
    """The digest that is deployed."""
    digest = ncp.create_image("team-shop", "t1")
    cloud.deploy(cloud.deploy_project())
    ncp.wait_for_runs()
    return digest


def test_the_rollout_is_seen_in_the_cluster(cluster: httpx.Client, deployed: str) -> None:
    found = cluster.get(f"{DEPLOYMENTS}/shop").json()
    pods = cluster.get("/api/v1/namespaces/default/pods", params={"labelSelector": "app=shop"}).json()["items"]

    assert found["metadata"]["generation"] == found["status"]["observedGeneration"]
    assert [2, 2, 2] == [found["status"][name] for name in ("replicas", "updatedReplicas", "readyReplicas")]
    assert [True, True] == [pod["status"]["containerStatuses"][0]["ready"] for pod in pods]
    assert {deployed} == {pod["status"]["containerStatuses"][0]["imageID"].rpartition("@")[2] for pod in pods}
    others = cluster.get("/api/v1/namespaces/default/pods", params={"labelSelector": "app=other"}).json()
    assert [] == others["items"]


def test_a_crash_is_seen_in_the_cluster(ncp: StandInNcp, cloud: Cloud, shop: None, cluster: httpx.Client) -> None:
    ncp.create_image("team-shop", "t1")
    ncp.faults.end_runs("deploy", "fail")
    cloud.deploy(cloud.deploy_project())
    ncp.wait_for_runs()

    pods = cluster.get("/api/v1/namespaces/default/pods").json()["items"]
    states = [pod["status"]["containerStatuses"][0]["state"] for pod in pods]
    assert [{"waiting": {"reason": "CrashLoopBackOff"}}] * 2 == states
    assert 0 == cluster.get(f"{DEPLOYMENTS}/shop").json()["status"]["readyReplicas"]


@pytest.mark.parametrize("token", ["nonsense", "k8s-ncp-v1.nonsense", "late"])
def test_a_stranger_learns_nothing(ncp: StandInNcp, cluster: httpx.Client, token: str) -> None:
    shown = k8s_token(ncp, ahead_ms=-400_000) if token == "late" else token
    answer = cluster.get(DEPLOYMENTS, headers={"authorization": f"Bearer {shown}"})

    assert (401, "Unauthorized") == (answer.status_code, answer.json()["reason"])


def test_a_deployment_is_scaled_and_removed(ncp: StandInNcp, cluster: httpx.Client, deployed: str) -> None:
    merge = {"content-type": "application/merge-patch+json"}
    scaled = cluster.patch(f"{DEPLOYMENTS}/shop", json={"spec": {"replicas": 5}}, headers=merge)
    pods = len(ncp.cluster.pods())
    cluster.delete(f"{DEPLOYMENTS}/shop")

    assert (200, 5, 5) == (scaled.status_code, scaled.json()["status"]["readyReplicas"], pods)
    assert 404 == cluster.get(f"{DEPLOYMENTS}/shop").status_code
    assert [] == ncp.cluster.pods()


def test_pods_pull_with_their_secret_when_the_registry_wants_one(
    ncp: StandInNcp, cluster: httpx.Client, cloud: Cloud, deployed: str
) -> None:
    ncp.cluster.pull_secret = "ncp-cr"
    ids = ncp.deploy_projects[0]
    ncp.start_deploy(ids.name)
    ncp.wait_for_runs()
    secret: dict[str, Any] = {"metadata": {"name": "ncp-cr"}, "type": "kubernetes.io/dockerconfigjson", "data": {}}
    made = [cluster.post("/api/v1/namespaces/default/secrets", json=secret).status_code for _ in range(2)]
    pull = {"spec": {"template": {"spec": {"imagePullSecrets": [{"name": "ncp-cr"}]}}}}
    merge = {"content-type": "application/merge-patch+json"}
    answer = cluster.patch(f"{DEPLOYMENTS}/shop", json=pull, headers=merge).json()

    assert ("fail", "ImagePullBackOff") == (ncp.deploys[-1].status, ncp.deploys[-1].trouble)
    assert [201, 409] == made
    assert "NewReplicaSetAvailable" == answer["status"]["conditions"][1]["reason"]


def test_what_the_cluster_does_not_know_is_refused(cluster: httpx.Client) -> None:
    bad = {"metadata": {"name": "x"}, "spec": {"replicas": 1}}

    assert 404 == cluster.get("/apis/example.org/v1/things").status_code
    assert 404 == cluster.get(f"{DEPLOYMENTS}/none").status_code
    assert (422, "Invalid") == (
        (answer := cluster.post(DEPLOYMENTS, json=bad)).status_code,
        answer.json()["reason"],
    )
    assert "v1.29.9" == cluster.get("/version").json()["gitVersion"]
