"""Everything that can go wrong with a request, and with what a status says."""

import threading
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx
import pytest

from klepaas.testing.ncp import Ending, Fault, Kind, StandInNcp
from tests.testing_ncp.conftest import Cloud, Signed, build_body


def test_the_next_requests_fail_and_then_no_more(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.faults.fail(2, status=503, door="sourcebuild", path="*/project")
    ncp.faults.fail(1, status=500, door="sourcepipeline")
    ncp.faults.fail(1, status=504, door="nks")
    ncp.faults.throttle(1, code="420", retry_after_s=7, door="sourcedeploy")
    limited = cloud.ask("sourcedeploy", "GET", "/project")

    assert [(503, "500"), (503, "500")] == [cloud.error("sourcebuild", "GET", "/project") for _ in range(2)]
    assert (500, "900") == cloud.error("sourcepipeline", "GET", "/project")
    assert (504, "510") == cloud.error("nks", "GET", "/vnks/v2/clusters")
    assert (429, "7", "Rate Limited") == (
        limited.status_code,
        limited.headers["retry-after"],
        limited.json()["error"]["message"],
    )
    assert 0 == cloud.result("sourcebuild", "GET", "/project")["total"]
    failed = [request for request in ncp.requests if request.status == 503]
    assert [("sourcebuild", "GET", "/api/v1/project", "500")] * 2 == [
        (one.door, one.method, one.path, one.error) for one in failed
    ]


def test_a_key_without_the_right_is_denied_with_401(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.faults.deny(door="sourcebuild", methods=["POST"])
    ncp.faults.deny(door="registry", path="/v2/*")

    assert (401, "210") == cloud.error("sourcebuild", "POST", "/project", build_body())
    assert 0 == cloud.result("sourcebuild", "GET", "/project")["total"]
    assert 403 == cloud.manifest("team-shop", "t1").status_code


def test_a_page_in_between_is_no_json(ncp: StandInNcp, cloud: Cloud) -> None:
    ncp.faults.add(Fault(kind=Kind.NOT_JSON, times=1))
    answer = cloud.ask("sourcecommit", "GET", "/repository")

    assert (200, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])


def test_a_cut_connection_does_nothing_and_a_lost_answer_everything(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    project = cloud.build_project()
    path = f"/project/{project}/build"
    ncp.faults.cut(1, door="sourcebuild")
    with pytest.raises(httpx.TransportError):
        cloud.ask("sourcebuild", "POST", path)
    before = len(ncp.builds)
    ncp.faults.lose_answer(door="sourcebuild")
    cloud.result("sourcebuild", "GET", "/project")
    with pytest.raises(httpx.TransportError):
        cloud.ask("sourcebuild", "POST", path)

    assert (0, 1) == (before, len(ncp.builds))
    assert [0, 0] == [request.status for request in ncp.requests if request.method == "POST"][-2:]


def test_a_request_hangs_until_the_fault_is_cleared(ncp: StandInNcp, cloud: Cloud) -> None:
    hanging = ncp.faults.hang(1, door="sourcedeploy")
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            cloud.ask("sourcedeploy", "GET", "/project")
        ended.set()

    threading.Thread(target=ask).start()
    while hanging.times:
        time.sleep(0.005)
    assert not ended.wait(0.2)
    ncp.faults.clear()
    assert ended.wait(10)
    assert [0] == [request.status for request in ncp.requests]
    assert 200 == cloud.ask("sourcedeploy", "GET", "/project").status_code


def test_everything_is_down_and_up_again(ncp: StandInNcp, cloud: Cloud) -> None:
    ncp.faults.down = True
    with pytest.raises(httpx.TransportError):
        cloud.ask("nks", "GET", "/vnks/v2/clusters")
    ncp.faults.down = False

    assert 200 == cloud.ask("nks", "GET", "/vnks/v2/clusters").status_code


def test_a_gateway_whose_clock_is_wrong_refuses_and_tells_its_time(ncp: StandInNcp, cloud: Cloud) -> None:
    ncp.faults.clock_skew_s = 400
    answer = cloud.ask("sourcebuild", "GET", "/project")
    there = parsedate_to_datetime(answer.headers["date"]).timestamp()

    assert (401, "200") == (answer.status_code, answer.json()["error"]["errorCode"])
    assert 300 < there - time.time() < 500
    ahead = Signed(ncp.access_key, ncp.secret_key, ahead_ms=400_000)
    assert 200 == cloud.http.get(f"{ncp.url('sourcebuild')}/api/v1/project", auth=ahead).status_code


def test_new_objects_arrive_late_in_lists_and_details(ncp: StandInNcp, cloud: Cloud) -> None:
    ncp.faults.lags.objects = 3000
    cloud.result("sourcecommit", "POST", "/repository", {"name": "team-shop"})
    before = cloud.ask("sourcecommit", "GET", "/repository/team-shop").status_code
    again = cloud.error("sourcecommit", "POST", "/repository", {"name": "team-shop"})
    build = cloud.error("sourcebuild", "POST", "/project", build_body())
    ncp.advance(timedelta(seconds=3))
    project = cloud.result("sourcebuild", "POST", "/project", build_body())["id"]
    listed = cloud.result("sourcebuild", "GET", "/project")["total"]
    ncp.advance(timedelta(seconds=3))

    assert (404, (400, 310405), (400, 320610), 0) == (before, again, build, listed)
    assert 200 == cloud.ask("sourcecommit", "GET", "/repository/team-shop").status_code
    assert [project] == [one["id"] for one in cloud.result("sourcebuild", "GET", "/project")["project"]]


def test_runs_and_images_arrive_late(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.faults.lags.runs, ncp.faults.lags.images = 5000, 60_000
    project = cloud.build_project()
    build = cloud.build(project)
    ncp.wait_for_runs()
    seen = [cloud.build_state(project, build)]
    ncp.advance(timedelta(seconds=6))
    seen.append(cloud.build_state(project, build))
    codes = [cloud.manifest("team-shop", "t1").status_code]
    ncp.advance(timedelta(seconds=60))
    codes.append(cloud.manifest("team-shop", "t1").status_code)

    assert (None, "success") == (seen[0], seen[1]["status"])
    assert [404, 200] == codes


@pytest.mark.parametrize(
    ("ending", "status", "pushed"),
    [
        (Ending.FAIL, "fail", False),
        (Ending.SAYS_SUCCESS, "success", False),
        (Ending.SAYS_FAIL, "fail", True),
        (Ending.SILENT, "prepare", True),
    ],
)
def test_a_builds_status_lies_or_is_silent(
    ncp: StandInNcp, cloud: Cloud, shop: None, ending: Ending, status: str, pushed: bool
) -> None:
    ncp.faults.end_runs("build", ending)
    project = cloud.build_project()
    build = cloud.build(project)
    ncp.wait_for_runs()
    ncp.advance(timedelta(hours=2))

    assert status == cloud.build_state(project, build)["status"]
    assert pushed == bool(ncp.images) == bool(ncp.builds[0].digest)
    cloud.build(project)
    ncp.wait_for_runs()
    assert "success" == ncp.builds[1].status


def test_a_stuck_build_ends_with_its_time_limit(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.faults.end_runs("build", "stuck")
    project = cloud.build_project()
    build = cloud.build(project)
    ncp.advance(timedelta(minutes=59))
    before = cloud.build_state(project, build)["status"]
    ncp.advance(timedelta(minutes=1))
    ncp.wait_for_runs()
    after = cloud.build_state(project, build)

    assert ("prepare", "fail", "timeout") == (before, after["status"], after["failedPhase"])


@pytest.mark.parametrize(
    ("ending", "status", "deployed"),
    [
        (Ending.FAIL, "fail", False),
        (Ending.SAYS_SUCCESS, "success", False),
        (Ending.SAYS_FAIL, "fail", True),
        (Ending.SILENT, "inprogress", True),
    ],
)
def test_a_deployments_status_lies_or_is_silent(
    ncp: StandInNcp, cloud: Cloud, shop: None, ending: Ending, status: str, deployed: bool
) -> None:
    digest = ncp.create_image("team-shop", "t1")
    ncp.faults.end_runs("deploy", ending)
    ids = cloud.deploy_project()
    history = cloud.deploy(ids)
    ncp.wait_for_runs()

    assert status == cloud.deploy_state(ids[0], history)["status"]
    assert ({digest} if deployed else set()) == ncp.cluster.digests_of("shop")


def test_a_run_nobody_shows_did_its_work(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.faults.end_runs("build", "hidden")
    ncp.faults.end_runs("deploy", "hidden")
    project, ids = cloud.build_project(), cloud.deploy_project()
    build = cloud.build(project)
    ncp.wait_for_runs()
    history = cloud.deploy(ids)
    ncp.wait_for_runs()

    assert None is cloud.build_state(project, build)
    assert 404 == cloud.error("sourcedeploy", "GET", f"/project/{ids[0]}/history/{history}")[0]
    assert {ncp.builds[0].digest} == ncp.cluster.digests_of("shop")


@pytest.mark.parametrize(("ending", "status"), [("silent", "inprogress"), ("says_fail", "fail"), ("fail", "fail")])
def test_a_pipelines_status_lies_too(ncp: StandInNcp, cloud: Cloud, shop: None, ending: str, status: str) -> None:
    ncp.faults.end_runs("pipeline", ending)
    pipeline = cloud.pipeline(cloud.build_project(), cloud.deploy_project())
    cloud.result("sourcepipeline", "POST", f"/project/{pipeline}/do")
    ncp.wait_for_runs()

    assert status == ncp.pipelines[0].status
    assert (ending != "fail") == bool(ncp.deploys)


def test_words_and_orders_that_nobody_documented(ncp: StandInNcp, cloud: Cloud, shop: None) -> None:
    ncp.faults.quirks.oldest_first = ncp.faults.quirks.history_in_a_list = True
    ncp.faults.end_runs("pipeline", "says_success", word="COMPLETED")
    pipeline = cloud.pipeline(cloud.build_project(), cloud.deploy_project())
    runs = []
    for _ in range(2):
        runs.append(cloud.result("sourcepipeline", "POST", f"/project/{pipeline}/do")["historyId"])
        ncp.wait_for_runs()

    listed = cloud.result("sourcepipeline", "GET", f"/project/{pipeline}/history")["historyList"]
    assert [(runs[0], "COMPLETED"), (runs[1], "success")] == [(one["id"], one["status"]) for one in listed]
    shown = cloud.result("sourcepipeline", "GET", f"/project/{pipeline}/history/{runs[0]}")["history"]
    assert [runs[0]] == [one["id"] for one in shown]


def test_a_fraction_of_requests_fails_by_the_seed(ncp: StandInNcp, cloud: Cloud) -> None:
    ncp.faults.fail(fraction=0.5)

    def run() -> list[int]:
        ncp.faults.use_seed(3)
        return [cloud.ask("sourcebuild", "GET", "/project").status_code for _ in range(20)]

    first = run()
    assert {200, 503} == set(first)
    assert first == run()
