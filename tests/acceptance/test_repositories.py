"""Ordinary repositories from a real git server over HTTP: what works, and what is said about what does not."""

from collections.abc import AsyncIterator, Iterator

import pytest

from klepaas.client import Client
from tests.acceptance.klepaas_process import KlepaasProcess
from tests.acceptance.visitor import (
    add_connection,
    bring,
    deployed,
    live,
    read,
    reading_all_the_while,
    rolled_back,
    running,
    serving_git,
    until,
)
from tests.servers.base_images import python_base, static_base
from tests.servers.git_http import GitHttpServer, WorkingRepository

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def process(docker_host: str) -> Iterator[KlepaasProcess]:
    static_base(docker_host)
    # Without a warm release the old one is stopped and removed at once.
    with running(docker_host, DOCKER__WARM_FOR="PT0S") as started:
        yield started


@pytest.fixture(scope="module")
def server() -> Iterator[GitHttpServer]:
    with serving_git() as started:
        yield started


@pytest.fixture
async def client(process: KlepaasProcess) -> AsyncIterator[Client]:
    async with process.client() as opened:
        yield opened


async def registered(
    client: Client, server: GitHttpServer, example: str, name: str, **settings: object
) -> WorkingRepository:
    repository = bring(server, example, name)
    await client.register(repository.url, name=name, settings={"drain_timeout_s": 0, **settings})
    return repository


@pytest.mark.parametrize("example", ["dockerfile-in-root", "dockerfile-in-folder", "multi-stage"])
async def test_an_ordinary_repository_is_deployed_without_any_setting(
    client: Client, server: GitHttpServer, example: str
) -> None:
    await registered(client, server, example, example)

    deployment = await live(client, example)

    assert await read(deployment["urls"][0]) == "Hello"


async def test_an_app_that_listens_on_port_gets_the_port_of_its_project(
    client: Client, server: GitHttpServer, docker_host: str
) -> None:
    python_base(docker_host)
    await registered(client, server, "listens-on-port", "ported", port=4711)

    deployment = await live(client, "ported")

    assert await read(deployment["urls"][0]) == "Hello"
    assert (await client.runtime_log("ported"))[0] == "listening on 4711"


async def test_a_release_command_has_the_variables_of_the_app_and_what_it_wrote_is_in_the_build_log(
    client: Client, server: GitHttpServer
) -> None:
    await registered(client, server, "migrates", "migrating")
    await client.set_variables("migrating", {"DATABASE": "shop"})

    deployment = await live(client, "migrating")

    lines = [line["text"] for line in (await client.build_log(deployment["id"]))["lines"]]
    assert lines[-2:] == ["migrating shop", "klepaas: the release command ended with exit code 0."]
    assert await read(deployment["urls"][0]) == "Hello"


async def test_a_push_is_deployed_next_and_an_old_commit_by_its_prefix(client: Client, server: GitHttpServer) -> None:
    repository = await registered(client, server, "dockerfile-in-root", "pushed")
    first = await live(client, "pushed")
    sha = repository.publish({"site/index.html": "Second"}, "Say it otherwise")

    second = await live(client, "pushed")

    assert (second["commit_sha"], second["commit_message"]) == (sha, "Say it otherwise")
    assert second["urls"] == first["urls"]
    assert await read(second["urls"][0]) == "Second"

    third = await live(client, "pushed", commit=first["commit_sha"][:9])

    assert third["commit_sha"] == first["commit_sha"]
    assert third["image_digest"] == first["image_digest"], "an image that is there is not built again"
    assert await read(third["urls"][0]) == "Hello"


async def test_r29_after_a_rollback_the_same_commit_can_be_deployed_again(
    client: Client, server: GitHttpServer
) -> None:
    repository = await registered(client, server, "dockerfile-in-root", "again")
    first = await live(client, "again")
    repository.publish({"site/index.html": "Second"})
    second = await live(client, "again")
    back = await rolled_back(client, "again", steps_back=1)
    assert (back["status"], back["rollback_of"]) == ("succeeded", second["id"])
    assert await read(first["urls"][0]) == "Hello"

    again = await live(client, "again")

    assert again["commit_sha"] == second["commit_sha"]
    assert not again["is_rollback"]
    assert await read(first["urls"][0]) == "Second"


async def test_an_app_that_ignores_sigterm_is_retired_all_the_same(
    client: Client, server: GitHttpServer, process: KlepaasProcess
) -> None:
    repository = await registered(client, server, "ignores-sigterm", "stubborn")
    first = await live(client, "stubborn")
    repository.publish({"site/index.html": "Second"})

    second = await live(client, "stubborn")

    assert await read(second["urls"][0]) == "Second"
    mine = [c for c in process.ground.containers() if c["Labels"].get("klepaas.project") == first["project"]["id"]]
    assert [c["Labels"]["klepaas.release"] for c in mine] == [second["release_id"]]


# what cannot work ends as failed, says why, and leaves the old release alone.


async def failing(
    client: Client, server: GitHttpServer, example: str, name: str, **settings: object
) -> dict[str, object]:
    """Deploy a good version, then the example on top of it, with a visitor reading all the while."""
    repository = await registered(client, server, "dockerfile-in-root", name, port=8080)
    repository.publish({"Dockerfile": (repository.work / "Dockerfile").read_text().replace("3000", "8080")})
    good = await live(client, name)
    bad = bring(server, example, f"{name}-bad")
    await client.configure(name, repository=bad.url, settings=dict(settings))

    async with reading_all_the_while(good["urls"][0]) as answers:
        deployment = await deployed(client, name)
        await until(lambda: _count(answers), lambda count: count > 3)

    assert set(answers) == {"Hello"}, "the old release was touched"
    assert deployment["status"] == "failed"
    assert (await client.status(name))["live"]["deployment"]["id"] == good["id"]
    failure: dict[str, object] = deployment["failure"]
    return failure


async def _count(answers: list[str]) -> int:
    return len(answers)


async def test_r07_a_build_that_fails_says_which_step_failed_and_how(client: Client, server: GitHttpServer) -> None:
    failure = await failing(client, server, "build-fails", "unbuilt")

    assert (failure["stage"], failure["code"]) == ("build", "build_failed")
    evidence = failure["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["exit_code"] == 7
    assert "RUN echo" in evidence["instruction"]
    assert "left-pad 9.9.9 is not to be had" in "\n".join(evidence["last_lines"])
    assert "7" in str(failure["message"])


async def test_r23_an_app_that_answers_503_ends_with_the_answers_and_its_last_200_lines(
    client: Client, server: GitHttpServer
) -> None:
    failure = await failing(
        client, server, "never-healthy", "unwell", health_path="/cgi-bin/health", health_timeout_s=3
    )

    assert (failure["stage"], failure["code"]) == ("verify", "not_healthy")
    assert "503" in str(failure["message"])
    assert "/cgi-bin/health" in str(failure["message"])
    evidence = failure["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["last_lines"] == [f"waiting for the database, try {i}" for i in range(101, 301)]
    assert {answer["said"] for answer in evidence["probe_answers"]} >= {"HTTP 503"}
    assert evidence["probes"] > 3


async def test_r23_an_app_whose_health_path_hangs_is_told_so(client: Client, server: GitHttpServer) -> None:
    failure = await failing(client, server, "never-healthy", "silent", health_path="/cgi-bin/hang", health_timeout_s=5)

    assert (failure["stage"], failure["code"]) == ("verify", "not_healthy")
    assert "no answer within" in str(failure["message"])


async def test_r07_a_release_command_that_fails_says_how_it_ended_and_what_it_wrote(
    client: Client, server: GitHttpServer
) -> None:
    failure = await failing(client, server, "migrates", "unmigrated")

    assert (failure["stage"], failure["code"]) == ("release", "release_command_failed")
    assert "exit code 1" in str(failure["message"])
    evidence = failure["evidence"]
    assert isinstance(evidence, dict)
    assert (evidence["exit_code"], evidence["last_lines"]) == (1, ["migrating "])


async def test_r23_an_app_on_loopback_only_is_told_where_it_listens(client: Client, server: GitHttpServer) -> None:
    failure = await failing(client, server, "loopback-only", "inward", health_timeout_s=3)

    assert (failure["stage"], failure["code"]) == ("verify", "not_healthy")
    assert "127.0.0.1:8080" in str(failure["message"]) or "127.0.0.1 only" in str(failure["message"])
    assert "0.0.0.0:8080" in str(failure["message"])


async def test_r23_an_app_that_ends_at_once_shows_its_exit_code_and_last_words(
    client: Client, server: GitHttpServer
) -> None:
    failure = await failing(client, server, "ends-at-once", "brief")

    assert (failure["stage"], failure["code"]) == ("verify", "not_healthy")
    assert "exit code 3" in str(failure["message"])
    evidence = failure["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["observation"]["exit_code"] == 3
    assert set(evidence["last_lines"]) == {"cannot read /etc/shop.conf"}


# What the source says no with.


async def test_a_repository_that_is_not_there_says_so(client: Client, server: GitHttpServer) -> None:
    await client.register(f"{server.url}/team/nowhere.git", name="nowhere")

    deployment = await deployed(client, "nowhere")

    assert (deployment["status"], deployment["failure"]["code"]) == ("failed", "repository_not_found")
    assert "nowhere" in deployment["failure"]["message"]


async def test_a_branch_that_is_not_there_says_so(client: Client, server: GitHttpServer) -> None:
    await registered(client, server, "dockerfile-in-root", "branchless")

    deployment = await deployed(client, "branchless", branch="release")

    assert (deployment["status"], deployment["failure"]["code"]) == ("failed", "branch_not_found")
    assert "release" in deployment["failure"]["message"]


async def test_a_private_repository_needs_its_connection_and_the_right_one(
    client: Client, server: GitHttpServer, process: KlepaasProcess
) -> None:
    repository = bring(server, "dockerfile-in-root", "private", token="robot:s3cret")
    right = await add_connection(process.ground, username="robot", password="s3cret")
    wrong = await add_connection(process.ground, username="robot", password="guessed")

    await client.register(repository.url, name="private")
    without = await deployed(client, "private")
    await client.configure("private", connection_id=wrong)
    refused = await deployed(client, "private")
    await client.configure("private", connection_id=right)
    welcome = await live(client, "private")

    assert without["failure"]["code"] == "repository_not_found", "to a stranger it may as well not exist"
    assert "private" in without["failure"]["message"]
    assert refused["failure"]["code"] == "authentication_failed"
    assert await read(welcome["urls"][0]) == "Hello"
