"""The whole way: settings, a build, a deployment, the cluster; and by a pipeline."""

import time
from datetime import timedelta

import pytest

from klepaas.testing.ncp import StandInNcp
from tests.testing_ncp.conftest import Cloud, with_image


def test_a_commit_is_built_pushed_and_deployed(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    project, deploy = cloud.build_project(), cloud.deploy_project()
    build = cloud.build(project)
    ncp.wait_for_runs()
    state = cloud.build_state(project, build)
    manifest = cloud.manifest("team-shop", "t1")
    history = cloud.deploy(deploy)
    ncp.wait_for_runs()

    assert ("success", None) == (state["status"], state["failedPhase"])
    assert 200 == manifest.status_code
    assert ncp.builds[0].digest == manifest.headers["docker-content-digest"] == ncp.digest_of("team-shop", "t1")
    assert ncp.repositories["team-shop"].head() == ncp.builds[0].commit_sha
    assert "success" == cloud.deploy_state(deploy[0], history)["status"]
    assert f"{ncp.registry_host}/team-shop:t1" == ncp.cluster.image_of("shop")
    assert {ncp.builds[0].digest} == ncp.cluster.digests_of("shop")


def test_builds_show_their_phases_by_a_clock_that_a_test_moves(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.build_time_ms = 100_000
    project = cloud.build_project()
    build = cloud.build(project)
    seen = [cloud.build_state(project, build)]
    for seconds in (99, 1, 10):
        ncp.advance(timedelta(seconds=seconds))
        seen.append(cloud.build_state(project, build))
    ncp.wait_for_runs()
    seen.append(cloud.build_state(project, build))

    assert ["prepare", "prepare", "upload"] == [one["status"] for one in seen[:3]]
    assert "success" == seen[-1]["status"]
    assert 110_000 <= seen[-1]["end"] - seen[-1]["begin"] < 130_000
    assert None is seen[0]["end"]


def test_deployments_show_their_states(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.deploy_time_ms = 100_000
    ncp.create_image("team-shop", "t1")
    ids = cloud.deploy_project()
    history = cloud.deploy(ids)
    seen = [cloud.deploy_state(ids[0], history)["status"]]
    ncp.advance(timedelta(seconds=50))
    while (word := cloud.deploy_state(ids[0], history)["status"]) == "waiting":
        time.sleep(0.005)
    seen.append(word)
    ncp.advance(timedelta(seconds=50))
    ncp.wait_for_runs()

    assert ["waiting", "inprogress", "success"] == [*seen, cloud.deploy_state(ids[0], history)["status"]]
    listed = cloud.result("sourcedeploy", "GET", f"/project/{ids[0]}/history")["historyList"]
    assert [(str(history), "success")] == [(one["id"], one["status"]) for one in listed]


def test_a_deployment_reads_its_manifest_when_it_starts(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    """What is pushed later is deployed by the next run."""
    ncp.create_image("team-shop", "t1")
    ncp.create_image("team-shop", "t2")
    ncp.deploy_time_ms = 300
    ids = cloud.deploy_project()
    cloud.deploy(ids)
    while not ncp.deploys[0].images:
        time.sleep(0.005)
    ncp.repositories["team-shop"].commit(with_image("t2", ncp.registry_host))
    ncp.wait_for_runs()
    first = ncp.cluster.image_of("shop")
    cloud.deploy(ids)
    ncp.wait_for_runs()

    assert f"{ncp.registry_host}/team-shop:t1" == first
    assert f"{ncp.registry_host}/team-shop:t2" == ncp.cluster.image_of("shop")
    assert {ncp.digest_of("team-shop", "t2")} == ncp.cluster.digests_of("shop")


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ("a: [", "no YAML"),
        ("kind: Thing\nmetadata: {name: x}\n", "no matches for kind"),
        ("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}\nspec: {replicas: 1}\n", "required"),
    ],
)
def test_a_manifest_that_cannot_be_applied_fails(
    ncp: StandInNcp, cloud: Cloud, shop: None, manifest: str, why: str
) -> None:
    ids = cloud.deploy_project()
    ncp.repositories["team-shop"].commit({"k8s/deployment.yaml": manifest})
    history = cloud.deploy(ids)
    ncp.wait_for_runs()

    assert "fail" == cloud.deploy_state(ids[0], history)["status"]
    assert why in ncp.deploys[0].trouble


def test_an_image_that_is_not_there_fails_and_leaves_the_old_pods(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    digest = ncp.create_image("team-shop", "t1")
    ids = cloud.deploy_project()
    cloud.deploy(ids)
    ncp.wait_for_runs()
    ncp.repositories["team-shop"].commit(with_image("gone", ncp.registry_host))
    cloud.deploy(ids)
    ncp.wait_for_runs()

    assert ["success", "fail"] == [deploy.status for deploy in ncp.deploys]
    assert {digest} == ncp.cluster.digests_of("shop")
    status = ncp.cluster.deployment("shop")["status"]
    assert (2, "ProgressDeadlineExceeded") == (status["readyReplicas"], status["conditions"][1]["reason"])
    reasons = [pod["status"]["containerStatuses"][0]["state"] for pod in ncp.cluster.pods()]
    assert {"waiting": {"reason": "ImagePullBackOff"}} in reasons


def test_a_branch_that_is_not_there_fails_the_build(ncp: StandInNcp, cloud: Cloud) -> None:
    ncp.create_repository("team-shop")
    project = cloud.build_project()
    build = cloud.build(project)
    ncp.wait_for_runs()

    state = cloud.build_state(project, build)
    assert ("fail", "prepare") == (state["status"], state["failedPhase"])
    assert {} == ncp.images


def test_a_build_keeps_the_tag_it_began_with(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.build_time_ms = 200
    project = cloud.build_project(tag="t1")
    cloud.build(project)
    cmd = cloud.result("sourcebuild", "GET", f"/project/{project}")["cmd"]
    cmd["dockerbuild"]["tag"] = "t2"
    cloud.result("sourcebuild", "PATCH", f"/project/{project}", {"cmd": cmd})
    cloud.build(project)
    ncp.wait_for_runs()

    assert {"team-shop": ["t1", "t2"]} == ncp.images


def test_a_pipeline_builds_then_deploys(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    build, deploy = cloud.build_project(), cloud.deploy_project()
    pipeline = cloud.pipeline(build, deploy)
    ncp.build_time_ms = 100_000
    run = cloud.result("sourcepipeline", "POST", f"/project/{pipeline}/do")["historyId"]
    again = cloud.error("sourcepipeline", "POST", f"/project/{pipeline}/do")
    going = cloud.result("sourcepipeline", "GET", f"/project/{pipeline}/history/{run}")["history"]
    ncp.advance(timedelta(seconds=100))
    ncp.wait_for_runs()
    history = cloud.result("sourcepipeline", "GET", f"/project/{pipeline}/history/{run}")["history"]

    assert (400, 340500) == again
    assert ("inprogress", [None]) == (going["status"], [task["status"] for task in going["tasks"][1:]])
    assert ("success", ["success"] * 2) == (history["status"], [task["status"] for task in history["tasks"]])
    assert [ncp.builds[0].id, str(ncp.deploys[0].id)] == [task["resultId"] for task in history["tasks"]]
    assert {ncp.builds[0].digest} == ncp.cluster.digests_of("shop")
    listed = cloud.result("sourcepipeline", "GET", f"/project/{pipeline}/history")["historyList"]
    assert [("console", "success")] == [(one["requestType"], one["status"]) for one in listed]


def test_a_failed_build_ends_the_pipeline_before_the_deployment(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    pipeline = cloud.pipeline(cloud.build_project(), cloud.deploy_project())
    ncp.faults.end_runs("build", "fail")
    run = cloud.result("sourcepipeline", "POST", f"/project/{pipeline}/do")["historyId"]
    ncp.wait_for_runs()

    history = cloud.result("sourcepipeline", "GET", f"/project/{pipeline}/history/{run}")["history"]
    assert ("fail", ["fail", None]) == (history["status"], [task["status"] for task in history["tasks"]])
    assert [] == ncp.deploys


def test_a_push_starts_what_it_triggers_once(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.build_time_ms = 100_000
    trigger = {"repository": [{"type": "sourcecommit", "name": "team-shop", "branch": "main"}]}
    cloud.pipeline(cloud.build_project(), cloud.deploy_project(), trigger=trigger)
    ncp.repositories["team-shop"].commit({"a": "1"}, branch="other")
    before = len(ncp.pipelines)
    ncp.repositories["team-shop"].commit({"a": "1"})
    ncp.repositories["team-shop"].commit({"a": "2"})
    ncp.advance(timedelta(seconds=100))
    ncp.wait_for_runs()

    assert 0 == before
    assert [("trigger", "success")] == [(run.request_type, run.status) for run in ncp.pipelines]


def test_runs_are_canceled(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.build_time_ms = ncp.deploy_time_ms = 60_000
    project, deploy = cloud.build_project(), cloud.deploy_project()
    build, history = cloud.build(project), cloud.deploy(deploy)
    cloud.result("sourcebuild", "DELETE", f"/project/{project}/build", {"buildId": build})
    cloud.result("sourcedeploy", "POST", f"/project/{deploy[0]}/history/{history}/cancel")
    ncp.wait_for_runs()

    assert ("canceled", "canceling") == (ncp.builds[0].status, ncp.builds[0].failed_phase)
    assert "canceled" == ncp.deploys[0].status
    assert 400 == cloud.error("sourcebuild", "DELETE", f"/project/{project}/build", {"buildId": build})[0]
    assert 400 == cloud.error("sourcedeploy", "POST", f"/project/{deploy[0]}/history/{history}/cancel")[0]


@pytest.mark.parametrize(("word", "end"), [("accept", "success"), ("reject", "canary_reject")])
def test_a_canary_waits_for_a_word(ncp: StandInNcp, cloud: Cloud, shop: None, word: str, end: str) -> None:
    ncp.create_image("team-shop", "t1")
    canary = {"analysisType": "manual", "canaryCount": 1, "timeout": 60}
    ids = cloud.deploy_project(strategy="canary", canaryConfig=canary)
    history = cloud.deploy(ids)
    while ncp.deploys[0].status != "canary_pending":
        time.sleep(0.005)
    cloud.result("sourcedeploy", "POST", f"/project/{ids[0]}/history/{history}/canary/{word}")
    ncp.wait_for_runs()

    assert end == ncp.deploys[0].status


def test_an_approval_is_waited_for(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.create_image("team-shop", "t1")
    ids = cloud.deploy_project()
    path = f"/project/{ids[0]}/stage/{ids[1]}/scenario/{ids[2]}/deploy/request"
    for word, end in (("accept", "success"), ("reject", "reject")):
        history = cloud.result("sourcedeploy", "POST", path)["historyId"]
        assert "pending" == cloud.deploy_state(ids[0], history)["status"]
        cloud.result("sourcedeploy", "POST", f"/project/{ids[0]}/history/{history}/approval/{word}")
        ncp.wait_for_runs()
        assert end == cloud.deploy_state(ids[0], history)["status"]


def test_a_person_in_the_console_starts_runs_too(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    pipeline = cloud.pipeline(cloud.build_project(), cloud.deploy_project())
    run = ncp.start_pipeline("pipeline-team-shop")
    ncp.wait_for_runs()
    build = ncp.start_build("build-team-shop")
    deploy = ncp.start_deploy("deploy-team-shop")
    ncp.wait_for_runs()

    assert run == cloud.result("sourcepipeline", "GET", f"/project/{pipeline}/history")["historyList"][0]["id"]
    assert [build, deploy] == [ncp.builds[-1].id, ncp.deploys[-1].id]
    assert {"success"} == {build.status for build in ncp.builds} | {deploy.status for deploy in ncp.deploys}
