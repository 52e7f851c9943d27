"""Rolling back at the doors of the older service: its texts, its order of checks, its fields. `Section` is one of its
contract, a number with 11 in front one of the contradictions in it."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from klepaas.builders.protocol import Image
from klepaas.domain.actor import Scope
from klepaas.domain.observation import Health
from klepaas.domain.project import Project
from klepaas.domain.status import Status
from klepaas.errors import AuthenticationFailed, BuildFailed, PermissionMissing, Unavailable
from klepaas.operations import projects
from klepaas.operations.projects import Registration
from klepaas.storage.chains import ChainTable
from klepaas.testing.fake_build import FakeBuilder
from klepaas.testing.rolling_target import RollingTarget
from tests.interfaces.api.doors import API, Door, deployed, door_of, everything
from tests.workflows.world import World

COMMIT, CANDIDATES, DIAGNOSE = (f"{API}/rollback/{each}" for each in ("commit", "candidates", "diagnose"))
NAMED = {"owner": "K-Le-PaaS", "repo": "test01"}
FIRST, SECOND, THIRD = "1" * 40, "2" * 40, "3" * 40
IDS = {
    "sc_project_id": "3000001",
    "sc_repo_name": "test01",
    "build_project_id": "20701",
    "deploy_project_id": "12501",
    "pipeline_id": "2101",
}


@dataclass
class RegistryBuilder(FakeBuilder):
    """Its images are in a registry, which may refuse to be asked."""

    refusal: Exception | None = None
    inspected: list[str] = field(default_factory=list)

    async def inspect(self, digest: str, *, ref: str = "") -> Image | None:
        self.inspected.append(ref)
        if self.refusal is not None:
            raise self.refusal
        return await super().inspect(digest, ref=ref)

    async def collect(self, app: Any, keep: Collection[str]) -> list[str]:
        return []


@pytest.fixture
def cluster() -> RollingTarget:
    return RollingTarget()


@pytest.fixture
def builder(here: World, cluster: RollingTarget) -> RegistryBuilder:
    made = RegistryBuilder()
    here.source.branches["main"] = [FIRST, SECOND, THIRD]
    here.context = replace(here.context, targets={**here.context.targets, "ncp": cluster}, builders={"ncp": made})
    return made


@pytest.fixture
def door(here: World, builder: RegistryBuilder) -> Door:
    return door_of(here)


@pytest.fixture
async def api(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    async with door.client(await door.token(Scope.DEPLOY)) as client:
        yield client


async def registered(here: World, *, target: str = "ncp", **ids: str) -> Project:
    quickly = {"drain_timeout_s": 0, "health_timeout_s": 5}
    wanted = Registration(repository="K-Le-PaaS/test01", target=target, settings=quickly)
    project = await projects.register(here.context, here.actor, wanted)
    await ChainTable(here.database).note(project.id, ids)
    return await here.context.projects.get(project.id) or project


@pytest.fixture
async def project(here: World, builder: RegistryBuilder) -> Project:
    """With everything a rollback needs but a history."""
    return await registered(here, **IDS)


async def asked(api: httpx.AsyncClient, commit: str = FIRST, **more: Any) -> httpx.Response:
    return await api.post(COMMIT, json={**NAMED, "target_commit_sha": commit}, **more)


async def diagnosed(api: httpx.AsyncClient) -> dict[str, Any]:
    answer = await api.get(f"{DIAGNOSE}/K-Le-PaaS/test01", params={"user_id": "nlp_user"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_rollback_is_refused_in_the_order_of_the_older_service(here: World, api: httpx.AsyncClient) -> None:
    """Section 5.1, texts and order: project, build id, deploy id, history, commit."""
    told = [await asked(api)]
    project = await registered(here)
    table = ChainTable(here.database)
    for name in ("build_project_id", "deploy_project_id", "sc_repo_name"):
        told.append(await asked(api))
        await table.note(project.id, {name: IDS[name]})
    told.append(await asked(api))
    await deployed(here, project, SECOND)
    told.append(await asked(api, "c39eb54aa"))

    assert [(each.status_code, each.json()["detail"]) for each in told] == [
        (
            404,
            "No project integration found for K-Le-PaaS/test01. Please set up the project first using the deployment "
            "API.",
        ),
        (400, "Build project ID not configured for K-Le-PaaS/test01. Please complete project setup."),
        (400, "Deploy project ID not configured for K-Le-PaaS/test01. Please complete project setup."),
        (400, "SourceCommit repository not configured for K-Le-PaaS/test01. Please complete project setup."),
        (
            404,
            "No deployment history found for K-Le-PaaS/test01. Deploy the application first before attempting "
            "rollback.",
        ),
        (404, "No successful deployment found for commit c39eb54. Cannot rollback to undeployed commit."),
    ]
    assert told[1].json()["error"]["code"] == "not_set_up"


async def test_nothing_is_touched_by_a_refused_rollback(here: World, api: httpx.AsyncClient, project: Project) -> None:
    await deployed(here, project, FIRST)
    before = await everything(here)
    answers = [await asked(api, commit) for commit in (FIRST, "abcdef0", "abc", "g" * 40)]

    assert [answer.status_code for answer in answers] == [409, 404, 422, 422]
    assert isinstance(answers[-1].json()["detail"], list)
    assert await everything(here) == before


async def test_only_successful_deployments_are_a_history(
    here: World, api: httpx.AsyncClient, project: Project, builder: RegistryBuilder
) -> None:
    """11.30: the text stays, the failed attempts are told beside it."""
    builder.failures.append(BuildFailed("Build failed: failed"))
    await deployed(here, project, FIRST)
    refused, diagnosis = await asked(api), await diagnosed(api)

    assert refused.status_code == 404
    assert refused.json()["detail"].startswith("No deployment history found for K-Le-PaaS/test01. ")
    assert refused.json()["error"]["evidence"] == {"failed_attempts": 1}
    assert (diagnosis["failed_attempts"], diagnosis["deployment_count"]) == (1, None)
    assert diagnosis["issues"] == ["No deployment history found. Deploy the application first."]


async def test_a_rollback_is_told_as_started_and_recorded_as_a_rollback(
    here: World, api: httpx.AsyncClient, project: Project, builder: RegistryBuilder
) -> None:
    """Section 2.5 with 11.4: `started` with `deploy_history_id`; `action` and `message` are kept."""
    await deployed(here, project, FIRST)
    second = await deployed(here, project, SECOND)
    answer = await api.post(
        COMMIT, json={"owner": "k-le-paas", "repo": "TEST01", "target_commit_sha": FIRST[:7], "user_id": 7}
    )
    told = answer.json()
    made = await here.context.deployments.get(told["result"]["deployment_id"])

    assert answer.status_code == 200
    assert (told["status"], told["action"]) == ("started", "rollback_to_commit")
    assert told["message"] == "커밋 1111111로 롤백했습니다."
    assert told["warnings"] == []
    assert made is not None
    assert told["deploy_history_id"] == told["result"]["deploy_history_id"] == made.number
    assert (made.rollback_of, made.commit_sha) == (second.id, FIRST)
    assert (told["result"]["owner"], told["result"]["repo"]) == ("K-Le-PaaS", "test01")
    assert told["result"]["commit_sha"] == FIRST
    assert told["result"]["rebuild"] is False
    assert builder.builds == [FIRST, SECOND]


@pytest.mark.parametrize("fails", [False, True])
async def test_whoever_waits_is_told_the_end_that_was_seen(
    here: World, api: httpx.AsyncClient, project: Project, cluster: RollingTarget, fails: bool
) -> None:
    """11.4: the old word, once the run was observed within the wait time."""
    await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    if fails:
        cluster.goes = Health.STOPPED
    async with here.node():
        told = (await asked(api, params={"wait_s": 20})).json()

    assert told["status"] == ("failed" if fails else "success")
    assert (told["result"]["error_message"] is not None) is fails


async def test_a_wait_that_was_too_short_is_still_only_started(
    here: World, api: httpx.AsyncClient, project: Project
) -> None:
    await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    told = (await asked(api, params={"wait_s": 0.05})).json()

    assert told["status"] == "started"


async def test_the_same_request_twice_is_one_rollback(here: World, api: httpx.AsyncClient, project: Project) -> None:
    """11.5."""
    await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    told = [(await asked(api, headers={"Idempotency-Key": "once"})).json() for _ in range(2)]

    assert told[0] == told[1]


async def test_an_ambiguous_prefix_lists_what_it_could_be(
    here: World, api: httpx.AsyncClient, project: Project
) -> None:
    """11.13."""
    twins = ["abcdef0" + "1" * 33, "abcdef0" + "2" * 33]
    here.source.branches["main"] = [*twins, THIRD]
    for commit in here.source.branches["main"]:
        await deployed(here, project, commit)
    ambiguous, enough = await asked(api, "abcdef0"), await asked(api, "ABCDEF01")

    assert ambiguous.status_code == 422
    assert all(each in ambiguous.json()["detail"] for each in twins)
    assert ambiguous.json()["error"]["evidence"] == {"matches": twins}
    assert enough.json()["result"]["commit_sha"] == twins[0]


async def test_a_missing_image_is_built_again_and_said(
    here: World, api: httpx.AsyncClient, project: Project, builder: RegistryBuilder
) -> None:
    """Section 2.5, 11.15: check, rebuild that commit, then deploy."""
    first = await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    del builder.images[first.image_digest or ""]
    async with here.node():
        told = (await asked(api, params={"wait_s": 20})).json()

    assert told["status"] == "success"
    assert told["warnings"] == ["Image of commit 1111111 not found in NCR (HTTP 404). Rollback will trigger rebuild."]
    assert told["result"]["rebuild"] is True
    assert builder.builds == [FIRST, SECOND, FIRST]


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (AuthenticationFailed("NCP REST error 401: no.", evidence={"status": 401}), 502),
        (PermissionMissing("NCP REST error 403: no.", evidence={"status": 403}), 502),
        (Unavailable("NCP REST error 503: away.", evidence={"status": 503}), 503),
    ],
)
async def test_an_image_we_may_not_see_is_not_missing(
    here: World, api: httpx.AsyncClient, project: Project, builder: RegistryBuilder, refusal: Any, expected: int
) -> None:
    """11.15: 401 and 403 must not be reported as missing, and nothing is built; 11.22: they are 502 to the caller."""
    await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    builder.refusal = refusal
    before = await everything(here)
    answer, diagnosis = await asked(api), await diagnosed(api)
    listed = (await api.get(f"{CANDIDATES}/K-Le-PaaS/test01")).json()["candidates"]

    assert answer.status_code == expected
    assert await everything(here) == before
    assert diagnosis["ready"] is True
    assert diagnosis["warnings"] == [
        f"Latest deployment image could not be checked in NCR (HTTP {refusal.evidence['status']}). "
        "Whether it is there is not known."
    ]
    assert [each["can_rollback"] for each in listed] == [False, False]


async def test_diagnosis_says_everything_that_is_missing_at_once(here: World, api: httpx.AsyncClient) -> None:
    """Sections 2.7 and 5.2, 11.29."""
    nothing = await diagnosed(api)
    await registered(here)
    bare = await diagnosed(api)

    assert nothing == {
        "ready": False,
        "owner": "K-Le-PaaS",
        "repo": "test01",
        "issues": [
            "No project integration found. Set up the project first.",
            "No deployment history found. Deploy the application first.",
        ],
        "warnings": [],
        "deployment_count": None,
        "latest_deployment": None,
        "failed_attempts": 0,
    }
    assert bare["issues"] == [
        "Build project ID not configured.",
        "Deploy project ID not configured.",
        "SourceCommit repository not configured.",
        "No deployment history found. Deploy the application first.",
    ]


async def test_a_missing_image_is_a_warning_and_no_issue(
    here: World, api: httpx.AsyncClient, project: Project, builder: RegistryBuilder
) -> None:
    """Section 5.2, the warning to the letter."""
    await deployed(here, project, FIRST)
    latest = await deployed(here, project, SECOND)
    there = await diagnosed(api)
    builder.images.clear()
    gone = await diagnosed(api)

    assert (there["ready"], there["issues"], there["warnings"], there["deployment_count"]) == (True, [], [], 2)
    assert there["latest_deployment"]["commit_sha"] == SECOND
    assert there["latest_deployment"]["deployed_at"].endswith("Z")
    assert builder.inspected[-1] == latest.image_ref
    assert gone == {
        **there,
        "warnings": ["Latest deployment image not found in NCR (HTTP 404). Rollback will trigger rebuild."],
    }


async def test_candidates_are_successful_deployments_that_are_no_rollbacks(
    here: World, api: httpx.AsyncClient, project: Project, builder: RegistryBuilder
) -> None:
    """Section 2.6. After a rollback, what it went back to is the current one, and steps count from there."""
    await deployed(here, project, FIRST)
    builder.failures.append(BuildFailed("Build failed: failed"))
    await deployed(here, project, THIRD)
    second = await deployed(here, project, SECOND)
    before = (await api.get(f"{CANDIDATES}/k-le-paas/test01", params={"user_id": "u1"})).json()
    async with here.node():
        back = await asked(api, params={"wait_s": 20})
    after = (await api.get(f"{CANDIDATES}/K-Le-PaaS/test01", params={"limit": 1})).json()
    all_after = (await api.get(f"{CANDIDATES}/K-Le-PaaS/test01")).json()["candidates"]

    assert (before["owner"], before["repo"], before["total_candidates"]) == ("K-Le-PaaS", "test01", 2)
    assert before["candidates"][0] == {
        "steps_back": 0,
        "commit_sha": SECOND,
        "commit_sha_short": "2222222",
        "deployed_at": before["candidates"][0]["deployed_at"],
        "deployed_by": "token test",
        "image": second.image_ref,
        "can_rollback": True,
        "is_current": True,
        "deployment_reason": None,
        "deploy_history_id": second.number,
    }
    assert before["candidates"][0]["deployed_at"].endswith("Z")
    assert back.json()["status"] == "success"
    assert [(each["commit_sha"], each["is_current"], each["steps_back"]) for each in all_after] == [
        (SECOND, False, -1),
        (FIRST, True, 0),
    ]
    assert (after["total_candidates"], len(after["candidates"])) == (2, 1)


async def test_what_was_built_again_for_a_rollback_is_current_as_its_commit(
    here: World, api: httpx.AsyncClient, project: Project, builder: RegistryBuilder
) -> None:
    first = await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    del builder.images[first.image_digest or ""]
    async with here.node():
        await asked(api, params={"wait_s": 20})
    listed = (await api.get(f"{CANDIDATES}/K-Le-PaaS/test01")).json()["candidates"]

    assert [(each["commit_sha"], each["is_current"]) for each in listed] == [(SECOND, False), (FIRST, True)]


@pytest.mark.parametrize("limit", [0, 51, "many"])
async def test_candidates_are_asked_for_by_1_to_50(api: httpx.AsyncClient, project: Project, limit: Any) -> None:
    answer = await api.get(f"{CANDIDATES}/K-Le-PaaS/test01", params={"limit": limit})

    assert answer.status_code == 422


async def test_candidates_of_no_project_are_404(api: httpx.AsyncClient) -> None:
    answer = await api.get(f"{CANDIDATES}/nobody/nothing")

    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "No project integration found for nobody/nothing. Please set up the project first using the deployment API."
    )


async def test_a_project_that_is_not_at_naver_cloud_needs_no_ids(here: World, api: httpx.AsyncClient) -> None:
    """What these doors do for projects of other targets: the same, without what only Naver Cloud has."""
    project = await registered(here, target="fake")
    here.target.warm = False
    await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    ready = await diagnosed(api)
    here.builder.images.clear()
    gone = await diagnosed(api)
    told = (await asked(api)).json()

    assert (ready["ready"], ready["warnings"]) == (True, [])
    assert gone["warnings"] == ["Latest deployment image not found. Rollback will trigger rebuild."]
    assert told["warnings"] == ["Image of commit 1111111 not found. Rollback will trigger rebuild."]


async def test_of_several_projects_the_one_at_naver_cloud_is_meant(here: World, api: httpx.AsyncClient) -> None:
    ours = await registered(here, **IDS)
    more = [Registration(repository="K-Le-PaaS/test01", target="fake", name=f"other-{n}") for n in range(2)]
    for wanted in more:
        await projects.register(here.context, here.actor, wanted)
    await deployed(here, ours, FIRST)

    assert (await diagnosed(api))["deployment_count"] == 1
    await projects.retire(here.context, here.actor, ours.id)
    assert (await asked(api)).status_code == 409


async def test_the_log_tells_a_rollback_in_the_lines_operators_search_for(
    here: World, api: httpx.AsyncClient, project: Project
) -> None:
    """Section 5.5, without the registry's line, which the builder writes."""
    structlog.reset_defaults()
    first = await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    at = (first.deployed_at or first.created_at).isoformat(timespec="seconds").replace("+00:00", "Z")
    with capture_logs() as said:
        async with here.node():
            await asked(api, params={"wait_s": 20})
            await _until(said, "Rollback completed successfully")
    lines = [each["event"] for each in said]

    expected = [
        "Starting rollback for K-Le-PaaS/test01 to commit 1111111",
        "Project integration found: build_project_id=20701, deploy_project_id=12501",
        f"Found deployment history: deployed_at={at}, image={first.image_ref}",
        "Rollback completed successfully",
    ]
    assert [line for line in lines if line in expected] == expected


async def test_steps_back_are_logged_with_what_they_led_to(here: World, door: Door, project: Project) -> None:
    """Section 5.5; through our own door, which asks the same operation."""
    structlog.reset_defaults()
    first = await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    at = (first.deployed_at or first.created_at).isoformat(timespec="seconds").replace("+00:00", "Z")
    async with door.client(await door.token(Scope.DEPLOY)) as ours:
        with capture_logs() as said:
            await ours.post(f"{API}/projects/{project.id}/rollback", json={"steps_back": 1})

    assert [each["event"] for each in said][:4] == [
        "Starting rollback to previous deployment: K-Le-PaaS/test01, steps_back=1",
        "Found 2 successful deployment(s) for K-Le-PaaS/test01",
        f"Target deployment: commit=1111111, deployed_at={at}",
        "Starting rollback for K-Le-PaaS/test01 to commit 1111111",
    ]


@pytest.mark.parametrize("is_registered", [True, False])
async def test_a_missing_history_is_an_error_in_the_log(
    here: World, api: httpx.AsyncClient, is_registered: bool
) -> None:
    """Section 5.5."""
    if is_registered:
        await registered(here, **IDS)
    structlog.reset_defaults()
    with capture_logs() as said:
        await asked(api)

    assert {"event": "No deployment history found for K-Le-PaaS/test01", "log_level": "error"} in [
        {name: each[name] for name in ("event", "log_level")} for each in said
    ]


async def test_a_failed_rollback_is_not_logged_as_completed(
    here: World, api: httpx.AsyncClient, project: Project, cluster: RollingTarget
) -> None:
    structlog.reset_defaults()
    await deployed(here, project, FIRST)
    await deployed(here, project, SECOND)
    cluster.goes = Health.STOPPED
    with capture_logs() as said:
        async with here.node():
            told = (await asked(api, params={"wait_s": 20})).json()
            ended = await here.context.deployments.get(told["result"]["deployment_id"])

    assert ended is not None
    assert ended.status is Status.FAILED
    assert "Rollback completed successfully" not in [each["event"] for each in said]


async def _until(said: Collection[Any], event: str) -> None:
    async with asyncio.timeout(10):
        while not any(each["event"] == event for each in said):
            await asyncio.sleep(0.01)
