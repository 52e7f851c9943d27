"""Signatures, envelopes, and how strict bodies are read."""

import time
from typing import Any

import httpx
import pytest

from klepaas.testing.ncp import KeyPair, StandInNcp, signature
from tests.testing_ncp.conftest import Cloud, Signed, build_body, pipeline_body, scenario_body

VECTORS = [
    ("GET", "/api/v1/project", "jmoxoX3QPC5SiA+K1jkI8mi4vMKiEwR6T+6lzI/pwHQ="),
    (
        "GET",
        "/api/v1/project?pageNo=1&pageSize=100&projectName=demo",
        "nBmbBQm5HnK53tNKqFcHnPbxbxnA9/NAYXw94XhOM9w=",
    ),
    ("POST", "/api/v1/project/101/build", "qzi/aRKyKR1OSXIi94wuGs0QB5i9I8i1lQ41xpCpCOw="),
    ("DELETE", "/api/v1/project/101/build", "cZ0Gjm6Ipa+rxszvk/xGlXw0dIniL84L8ZdjNsGCSrE="),
    ("POST", "/api/v1/project/9/stage/8/scenario/7/deploy", "BlFUE8lCU5QzCIgZl6YgpNXXSSf4GVOjwFtntVU+/Hw="),
]


@pytest.mark.parametrize(("method", "target", "expected"), VECTORS)
def test_signatures_are_those_of_the_reference(method: str, target: str, expected: str) -> None:
    assert expected == signature(method, target, "1700000000000", KeyPair("EXAMPLE-ACCESS", "example-secret"))


def test_the_signature_is_that_of_the_published_vector() -> None:
    target = "/iam/krs-v1/user?clusterUuid=D11328F1-ECA9-4F1B-BA22-921F61D9C5FF"

    made = signature("GET", target, "1668407407855", KeyPair("access", "secret"))

    assert "emeahfW4CmzsxIQ5ip0cd9yqERXJ+ZJsRfQpGNmKdXk=" == made


@pytest.mark.parametrize(
    ("signed", "status"),
    [
        ({}, 200),
        ({"header": "v1"}, 200),
        ({"header": "v3"}, 401),
        ({"secret_key": "wrong"}, 401),
        ({"access_key": "nobody"}, 401),
        ({"ahead_ms": 290_000}, 200),
        ({"ahead_ms": 301_000}, 401),
        ({"ahead_ms": -301_000}, 401),
    ],
)
def test_a_request_is_taken_by_its_signature(
    ncp: StandInNcp, cloud: Cloud, signed: dict[str, Any], status: int
) -> None:
    auth = Signed(**{"access_key": ncp.access_key, "secret_key": ncp.secret_key, **signed})

    for query in ("", "?pageNo=1&pageSize=5", "?projectName=%EA%B0%80%20b+c&x="):
        answer = cloud.http.get(f"{ncp.url('sourcebuild')}/api/v1/project{query}", auth=auth)
        assert status == answer.status_code, query
        assert status == 200 or answer.json()["error"]["errorCode"] == "200"


def test_a_signature_without_the_query_is_refused(ncp: StandInNcp, cloud: Cloud) -> None:
    timestamp = str(int(time.time() * 1000))
    headers = {
        "x-ncp-apigw-timestamp": timestamp,
        "x-ncp-iam-access-key": ncp.access_key,
        "x-ncp-apigw-signature-v2": signature(
            "GET", "/api/v1/project", timestamp, KeyPair(ncp.access_key, ncp.secret_key)
        ),
    }
    url = f"{ncp.url('sourcedeploy')}/api/v1/project"

    assert 401 == cloud.http.get(f"{url}?pageNo=1", headers=headers, auth=None).status_code
    assert 200 == cloud.http.get(url, headers=headers, auth=None).status_code


def test_an_unsigned_request_is_refused(ncp: StandInNcp, cloud: Cloud) -> None:
    answer = cloud.http.get(f"{ncp.url('nks')}/vnks/v2/clusters", auth=None)

    said = {"errorCode": "200", "message": "Authentication Failed", "details": "Invalid authentication information."}
    assert (401, {"error": said}) == (answer.status_code, answer.json())


def test_answers_are_as_the_sdk_cuts_them(cloud: Cloud) -> None:
    made = cloud.ask("sourcecommit", "POST", "/repository", {"name": "team-shop"})
    refused = cloud.ask("sourcecommit", "POST", "/repository", {"name": "team-shop"})

    assert b'{"result": true}' == made.content
    assert "application/json;charset=UTF-8" == made.headers["content-type"]
    assert (400, 310405) == (refused.status_code, refused.json()["error"]["errorCode"])


NO_PATHS = [
    ("sourcedeploy", "GET", "/project/12001"),
    ("sourcedeploy", "PUT", "/project/12001/target"),
    ("sourcebuild", "POST", "/project/20001/run"),
    ("sourcebuild", "GET", "/project/20001/build/1"),
    ("sourcebuild", "GET", "/project/20001/history/1"),
    ("sourcepipeline", "POST", "/project/2001/run"),
    ("sourcecommit", "POST", "/projects/1/repositories"),
    ("sourcecommit", "PUT", "/repository"),
]


def test_paths_that_the_service_does_not_have_are_not_found(cloud: Cloud, shop: None) -> None:
    cloud.pipeline(cloud.build_project(), cloud.deploy_project())

    for door, method, path in NO_PATHS:
        assert (404, "300") == cloud.error(door, method, path), (door, method, path)


def test_repositories_are_found_by_name_and_id(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    found = cloud.result("sourcecommit", "GET", "/repository/team-shop")
    same = cloud.result("sourcecommit", "GET", f"/repository/id/{found['id']}")
    listed = cloud.result("sourcecommit", "GET", "/repository?repositoryName=shop")
    branches = cloud.result("sourcecommit", "GET", "/repository/team-shop/branch")

    assert found == same
    assert ncp.repositories["team-shop"].clone_url == found["git"]["https"]
    assert (1, ["team-shop"]) == (listed["total"], [one["name"] for one in listed["repository"]])
    assert {"default": "main", "branch": ["main"]} == branches
    assert True is cloud.result("sourcecommit", "DELETE", f"/repository/id/{found['id']}")
    assert 404 == cloud.error("sourcecommit", "GET", "/repository/team-shop")[0]


NO_NAMES = ["a.b", "a/b", "", "x" * 101, "가", "a\n"]


def test_names_have_the_services_alphabet_and_length(cloud: Cloud) -> None:
    for name in NO_NAMES:
        assert (400, 310400) == cloud.error("sourcecommit", "POST", "/repository", {"name": name}), name
        assert (400, 330400) == cloud.error("sourcedeploy", "POST", "/project", {"name": name}), name


def _without(body: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = body
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return body


def _with(body: dict[str, Any], value: Any, *path: Any) -> dict[str, Any]:
    inner = body
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return body


NO_BUILD_PROJECTS: list[tuple[Any, int]] = [
    (build_body(name="x" * 81), 320400),
    (_without(build_body(), "source"), 320400),
    (_without(build_body(), "env", "docker", "id"), 320400),
    (_with(build_body(), "1", "env", "compute", "id"), 320400),
    (_with(build_body(), 99, "env", "compute", "id"), 320400),
    (_with(build_body(), 3600, "env", "timeout"), 320400),
    (_with(build_body(), [{"name": "A", "value": "b"}], "env", "envVars"), 320400),
    (_with(build_body(), False, "env", "docker", "use"), 320400),
    (_with(build_body(), "Team-Shop", "cmd", "dockerbuild", "image"), 320400),
    (_with(build_body(), "team/shop", "cmd", "dockerbuild", "image"), 320400),
    (_with(build_body(), "-t", "cmd", "dockerbuild", "tag"), 320400),
    (_with(build_body(), "t" * 81, "cmd", "dockerbuild", "tag"), 320400),
    (_with(build_body(), "other", "cmd", "dockerbuild", "registry"), 320400),
    (_with(build_body(), [""], "cmd", "pre"), 320400),
    (_with(build_body(), 2, "env", "compute", "cpu"), 320400),
    (_with(build_body(), "Github", "source", "type"), 320400),
    (_with(build_body(), "none", "source", "config", "repository"), 320610),
]


def test_build_projects_are_read_strictly(cloud: Cloud, shop: None) -> None:
    for body, code in NO_BUILD_PROJECTS:
        assert (400, code) == cloud.error("sourcebuild", "POST", "/project", body), body
    assert 0 == cloud.result("sourcebuild", "GET", "/project")["total"]


def test_a_build_project_is_shown_with_names_and_changed_by_parts(cloud: Cloud, shop: None) -> None:
    project = cloud.build_project()
    shown = cloud.result("sourcebuild", "GET", f"/project/{project}")
    taken = cloud.error("sourcebuild", "POST", "/project", build_body())
    cmd = {"dockerbuild": {**shown["cmd"]["dockerbuild"], "tag": "t2"}}
    cloud.result("sourcebuild", "PATCH", f"/project/{project}", {"cmd": cmd})
    changed = cloud.result("sourcebuild", "GET", f"/project/{project}")

    assert {"id": 1, "cpu": 2, "mem": 4} == shown["env"]["compute"]
    assert {"use": True, "id": 1, "name": "Docker:18.09.1"} == shown["env"]["docker"]
    assert None is shown["lastBuild"]["status"]
    assert (400, 320405) == taken
    assert ("t2", shown["env"]) == (changed["cmd"]["dockerbuild"]["tag"], changed["env"])
    partial = {"cmd": {"dockerbuild": {"use": True, "tag": "t3"}}}
    assert (400, 320400) == cloud.error("sourcebuild", "PATCH", f"/project/{project}", partial)
    # What only answers have is not taken back.
    assert (400, 320400) == cloud.error("sourcebuild", "PATCH", f"/project/{project}", {"env": shown["env"]})


NO_SCENARIOS: list[dict[str, Any]] = [
    {"manifest": {"type": "SourceCommit", "repository": "team-shop", "branch": "main", "path": "k8s/a.yaml"}},
    {"manifest": {"type": "SourceCommit", "repository": {"name": "x"}, "branch": "main", "path": ["a"]}},
    {"manifest": {"type": "Inline", "repository": "team-shop", "branch": "main", "path": ["a"]}},
    {"manifest": {"type": "SourceCommit", "repository": "none", "branch": "main", "path": ["a"]}},
    {"strategy": "normal"},
    {"strategy": "RollingUpdate"},
    {"strategy": "canary"},
    {"env": []},
]


def test_scenarios_that_are_not_understood_are_330900(cloud: Cloud, shop: None) -> None:
    project, stage, _ = cloud.deploy_project()
    path = f"/project/{project}/stage/{stage}/scenario"
    for config in NO_SCENARIOS:
        answer = cloud.ask("sourcedeploy", "POST", path, {**scenario_body(**config), "name": "other"})
        said = {"errorCode": 330900, "message": "unknown", "details": ""}
        assert (400, {"error": said}) == (answer.status_code, answer.json()), config
    assert ["deploy-app"] == [one["name"] for one in cloud.result("sourcedeploy", "GET", path)["scenarioList"]]


def test_a_stage_without_a_target_is_taken_and_useless(cloud: Cloud, shop: None) -> None:
    project = cloud.result("sourcedeploy", "POST", "/project", {"name": "deploy"})["id"]
    body = {"name": "production", "type": "KubernetesService", "config": {}}
    stage = cloud.result("sourcedeploy", "POST", f"/project/{project}/stage", body)["id"]

    path = f"/project/{project}/stage/{stage}/scenario"
    assert (400, 330900) == cloud.error("sourcedeploy", "POST", path, scenario_body())


def test_a_stage_names_its_cluster_by_number_or_uuid(ncp: StandInNcp, cloud: Cloud) -> None:
    project = cloud.result("sourcedeploy", "POST", "/project", {"name": "deploy"})["id"]
    path, uuid = f"/project/{project}/stage", ncp.cluster.uuid

    def add(name: str, config: Any) -> httpx.Response:
        body = {"name": name, "type": "KubernetesService", "config": config}
        return cloud.ask("sourcedeploy", "POST", path, body)

    answers = [
        add("a", {"clusterNo": 801}),
        add("b", {"clusterUuid": uuid}),
        add("c", {"clusterNo": "801"}),
        add("d", {"clusterNo": 1}),
        add("e", {"clusterNo": 801, "clusterUuid": uuid}),
        add("a", {"clusterNo": 801}),
    ]
    ncp.faults.quirks.cluster_key = "clusterUuid"
    answers += [add("f", {"clusterNo": 801}), add("g", {"clusterUuid": uuid})]

    assert [200, 200, 400, 400, 400, 400, 400, 200] == [answer.status_code for answer in answers]
    assert [330400, 330400, 330400, 330405] == [a.json()["error"]["errorCode"] for a in answers[2:6]]
    shown = cloud.result("sourcedeploy", "GET", f"{path}/{answers[0].json()['result']['id']}")
    assert {"clusterNo": 801, "clusterName": "trial-nks"} == shown["config"]


def test_a_deploy_project_with_more_than_a_name_never_shows_up(cloud: Cloud) -> None:
    made = cloud.result("sourcedeploy", "POST", "/project", {"name": "deploy", "stages": []})

    assert [] == cloud.result("sourcedeploy", "GET", "/project")["projectList"]
    assert 404 == cloud.error("sourcedeploy", "GET", f"/project/{made['id']}/stage")[0]


def test_pipelines_are_read_strictly(cloud: Cloud, shop: None) -> None:
    build, deploy = cloud.build_project(), cloud.deploy_project()

    def tried(value: Any, *path: Any) -> tuple[int, str | int]:
        return cloud.error("sourcepipeline", "POST", "/project", _with(pipeline_body(build, deploy), value, *path))

    refused = [
        tried("x" * 31, "name"),
        tried([], "tasks"),
        tried(str(build), "tasks", 0, "config", "projectId"),
        tried(1, "tasks", 1, "config", "stageId"),
        tried(["none"], "tasks", 1, "linkedTasks"),
        tried(["deploy"], "tasks", 0, "linkedTasks"),
        tried("build", "tasks", 1, "name"),
        tried([{"type": "SourceCommit", "name": "team-shop", "branch": "main"}], "trigger", "repository"),
        tried({"type": "SourceCommit", "enabled": True}, "trigger"),
    ]

    assert [(400, 340400)] * len(refused) == refused
    pipeline = cloud.pipeline(build, deploy)
    assert (400, 340405) == tried("pipeline-team-shop", "name")
    shown = cloud.result("sourcepipeline", "GET", f"/project/{pipeline}")
    info = {"manifest": "k8s/deployment.yaml", "fullManifest": "k8s/deployment.yaml"}
    assert {"type": "KubernetesService", "info": info} == shown["tasks"][1]["config"]["target"]
    assert {"repository": [], "sourcepipeline": [], "schedule": []} == shown["trigger"]
    below = f"/sourcedeploy/project/{deploy[0]}/stage"
    assert [deploy[1]] == [one["id"] for one in cloud.result("sourcepipeline", "GET", below)["stageList"]]
    scenarios = cloud.result("sourcepipeline", "GET", f"{below}/{deploy[1]}/scenario")["scenarioList"]
    assert [["k8s/deployment.yaml"]] == [one["source"]["target"]["manifest"] for one in scenarios]
    change = {"tasks": pipeline_body(build, deploy)["tasks"][:1], "trigger": {}}
    assert {"result": True} == cloud.result("sourcepipeline", "PATCH", f"/project/{pipeline}", change)
    assert (400, 340400) == cloud.error("sourcepipeline", "PATCH", f"/project/{pipeline}", {"trigger": {}})


def test_lists_come_in_pages(cloud: Cloud) -> None:
    for number in range(103):
        cloud.result("sourcedeploy", "POST", "/project", {"name": f"deploy-{number}"})

    def listed(query: str) -> int:
        return len(cloud.result("sourcedeploy", "GET", f"/project{query}")["projectList"])

    assert [100, 3, 10, 4] == [listed(q) for q in ("", "?pageNo=2", "?pageSize=10", "?projectName=deploy-10")]
    assert 400 == cloud.ask("sourcedeploy", "GET", "/project?pageSize=101").status_code
    assert 400 == cloud.ask("sourcepipeline", "GET", "/project?pageNo=1").status_code


def test_ids_are_never_one(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    build, deploy = cloud.build_project(), cloud.deploy_project()
    ids = [ncp.repositories["team-shop"].id, build, *deploy, cloud.pipeline(build, deploy), cloud.deploy(deploy)]

    assert [632_001, 20_001, 12_001, 14_001, 17_001, 2_001, 80_001] == ids


def test_clusters_are_listed_without_an_envelope(ncp: StandInNcp, cloud: Cloud) -> None:
    listed = cloud.ask("nks", "GET", "/vnks/v2/clusters").json()
    shown = cloud.ask("nks", "GET", f"/vnks/v2/clusters/{ncp.cluster.uuid}").json()
    kubeconfig = cloud.ask("nks", "GET", f"/vnks/v2/clusters/{ncp.cluster.uuid}/kubeconfig").json()

    assert [shown["cluster"]] == listed["clusters"]
    assert ("RUNNING", "trial-nks") == (shown["cluster"]["status"], shown["cluster"]["name"])
    assert {"kubeconfig": ncp.kubeconfig} == kubeconfig
    assert "users" not in ncp.kubeconfig
    assert 404 == cloud.ask("nks", "GET", "/vnks/v2/clusters/none").status_code
