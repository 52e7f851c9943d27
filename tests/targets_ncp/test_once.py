"""R-30: made once and started once, whatever is lost on the way. What was made is simulated; how it is asked is not."""

from collections.abc import Callable

import httpx
import pytest

from klepaas.errors import AnswerLost, Conflict, Rejected
from klepaas.targets.ncp.sourcebuild import SourceBuild
from klepaas.targets.ncp.sourcecommit import SourceCommit
from klepaas.targets.ncp.sourcedeploy import Cluster, SourceDeploy
from klepaas.targets.ncp.sourcepipeline import SourcePipeline
from tests.targets_ncp.gateway import Said, client_of, error, result

GONE = httpx.ReadTimeout("late")
REPOSITORY = {"id": 632001, "name": "shop", "git": {"https": "https://u:p@devtools.ncloud.com/3000001/shop.git"}}


class World:
    """A service that remembers one list, and answers POST as it is told."""

    def __init__(self, key: str, line: dict[str, object], *, said: Said, shows_after: int = 0) -> None:
        self.posts, self.key, self.line, self.said = 0, key, line, said
        self.is_made, self._left = False, shows_after

    def __call__(self, request: httpx.Request) -> Said:
        if request.method == "POST":
            self.posts += 1
            self.is_made = True
            return self.said
        if self.is_made:
            self._left -= 1
        is_shown = self.is_made and self._left < 0
        if request.url.path.endswith(f"/repository/{REPOSITORY['name']}"):
            return result(REPOSITORY) if is_shown else error(404, 310404, "missing")
        return result({self.key: [self.line] if is_shown else []})


@pytest.mark.parametrize(
    "said", [result(True), GONE, error(504, "510", "Endpoint Timeout"), error(400, 310405, "used")]
)
async def test_a_repository_is_made_once_and_looked_up_until_it_is_shown(said: Said) -> None:
    world = World("repository", {"id": 632001, "name": "shop"}, said=said, shows_after=1)
    client, script = client_of(world)
    made = await SourceCommit(client).ensure("shop")

    assert made.value.git_url == "https://devtools.ncloud.com/3000001/shop.git"
    assert made.was_made == (said.status_code != 400 if isinstance(said, httpx.Response) else True)
    assert script.lines.count("POST /api/v1/repository") == 1
    await client.close()


async def test_a_lost_answer_without_effect_says_that_it_is_not_known() -> None:
    world = World("projectList", {"id": 1, "name": "other"}, said=GONE, shows_after=99)
    client, _ = client_of(world)
    with pytest.raises(AnswerLost):
        await SourceDeploy(client).ensure("deploy-shop")

    assert world.posts == 1
    await client.close()


async def test_a_name_held_by_something_unseen_is_a_conflict() -> None:
    world = World("projectList", {"id": 1, "name": "x"}, said=error(400, 330405, "duplicated name"), shows_after=99)
    client, _ = client_of(world)
    with pytest.raises(Conflict, match="may not see"):
        await SourceDeploy(client).ensure("deploy-shop")
    await client.close()


async def test_any_other_refusal_is_no_success() -> None:
    world = World("projectList", {"id": 1, "name": "deploy-shop"}, said=error(400, 330400, "unknown"))
    client, _ = client_of(world)
    with pytest.raises(Rejected, match="NCP REST error 400"):
        await SourceDeploy(client).ensure("deploy-shop")
    await client.close()


async def test_a_part_of_a_name_is_not_the_name() -> None:
    world = World("projectList", {"id": 12002, "name": "deploy-shop-2"}, said=result({"id": 12003, "name": "x"}))
    world.is_made = True
    client, _ = client_of(world)
    made = await SourceDeploy(client).ensure("deploy-shop")

    assert (made.value.id, made.was_made) == (12003, True)
    await client.close()


async def test_a_list_of_more_than_a_page_is_read_to_its_end() -> None:
    def page(request: httpx.Request) -> httpx.Response:
        first = 100 * (int(request.url.params["pageNo"]) - 1)
        return result({"projectList": [{"id": i + 1, "name": f"p{i}"} for i in range(first, min(first + 100, 250))]})

    client, script = client_of(page)
    found = await SourceDeploy(client).find("p249")

    assert found is not None
    assert found.id == 250
    assert len(script.asked) == 3
    await client.close()


async def test_a_stage_is_named_by_uuid_only_after_its_number_was_refused() -> None:
    def stages(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return result({"stageList": []})
        return result({"id": 14001, "name": "s"}) if b"Uuid" in request.content else error(400, 330400, "bad")

    client, script = client_of(stages)
    made = await SourceDeploy(client).ensure_stage(1, "production", [Cluster(number=801), Cluster(uuid="u-1")])

    assert made.value.id == 14001
    assert [b"clusterNo" in each.content for each in script.asked if each.method == "POST"] == [True, False]
    await client.close()


def history(*ids: str, status: str = "prepare") -> httpx.Response:
    return result({"history": [{"buildId": each, "status": status} for each in ids]})


def builds(said: Said, *, before: tuple[str, ...], after: tuple[str, ...]) -> Callable[[httpx.Request], Said]:
    started = False

    def answer(request: httpx.Request) -> Said:
        nonlocal started
        if request.method == "POST":
            assert not started, "started twice"
            started = True
            return said
        return history(*(after if started else before))

    return answer


async def test_a_build_whose_start_was_lost_is_found_in_the_history() -> None:
    client, _ = client_of(builds(GONE, before=("old",), after=("new", "old")))
    started = await SourceBuild(client).start(20001, known={"old"})

    assert (started.id, started.was_adopted) == ("new", True)
    await client.close()


async def test_a_build_started_before_a_crash_is_adopted_without_another_start() -> None:
    client, script = client_of(history("new", "old"))
    started = await SourceBuild(client).start(20001, known={"old"})

    assert (started.id, started.was_adopted) == ("new", True)
    assert [each.method for each in script.asked] == ["GET"]
    await client.close()


async def test_two_new_runs_are_not_guessed_about() -> None:
    client, _ = client_of(builds(GONE, before=(), after=("a", "b")))
    with pytest.raises(Conflict, match="2 runs"):
        await SourceBuild(client).start(20001, known=())
    await client.close()


async def test_a_start_that_left_no_run_is_said_to_be_lost() -> None:
    client, _ = client_of(builds(GONE, before=(), after=()))
    with pytest.raises(AnswerLost):
        await SourceBuild(client).start(20001, known=())
    await client.close()


async def test_a_pipeline_that_runs_already_is_not_taken_for_ours() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return error(400, 340500, "invalid parameters", "Running Pipeline Exist")
        return result({"historyList": [{"id": 54001, "status": "inprogress"}]})

    client, script = client_of(answer)
    with pytest.raises(Conflict, match="still going"):
        await SourcePipeline(client).start(2001, known={"54001"})

    assert script.lines.count("POST /api/v1/project/2001/do") == 1
    await client.close()


@pytest.mark.parametrize("shape", [dict, list])
async def test_the_history_of_a_pipeline_is_read_in_both_shapes(shape: type) -> None:
    one = {
        "id": 54321,
        "status": "fail",
        "begin": 1731900500000,
        "tasks": [
            {"id": 5001, "name": "build", "status": "success", "resultId": "b-1"},
            {"id": 5002, "name": "deploy", "status": None, "resultId": ""},
        ],
    }
    client, _ = client_of(result({"history": one if shape is dict else [{"id": 1}, one]}))
    found = await SourcePipeline(client).run(2001, "54321")

    assert (found.run.id, found.run.state) == ("54321", "failed")
    assert [(each.state, each.result_id) for each in found.tasks] == [("succeeded", "b-1"), (None, None)]
    await client.close()
