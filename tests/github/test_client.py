"""What klepaas asks GitHub, asked of the stand-in over real HTTP by an installation and by a token."""

import subprocess

import pytest

from klepaas.domain.connection import Connection, ConnectionKind
from klepaas.domain.github import Checks, DeploymentState, Lineage, StatusState
from klepaas.errors import AuthenticationFailed, BranchNotFound, CommitNotFound, Rejected, RepositoryNotFound
from klepaas.github.client import GitHub
from klepaas.operations.code_host import Place
from klepaas.testing.github import StandInGitHub, StandInRepository
from tests.github.conftest import Asked
from tests.github.credentials import Credentials


async def test_a_repository_has_its_canonical_name_and_its_number(
    github: GitHub, shop: StandInRepository, place: Place
) -> None:
    asked_for = Place(owner=place.owner.upper(), name=place.name.upper(), connection=place.connection)

    found = await github.repository(asked_for)

    assert (found.owner, found.name, found.repository_id) == ("team", "shop", shop.id)
    assert found.installation_id == (place.connection.installation_id if place.connection else None)


async def test_the_head_of_a_branch_is_told_once_and_again_when_it_moved(
    github: GitHub, shop: StandInRepository, place: Place, hub: StandInGitHub
) -> None:
    first = await github.head(place, "main")
    assert first is not None
    assert (first.sha, first.message) == (shop.head(), "First commit")

    hub.forget_requests()
    unchanged = await github.head(place, "main", etag=first.etag)
    assert unchanged is None
    assert [(each.status, each.counted) for each in hub.requests] == [(304, False)]

    sha = shop.commit({"a": "b"}, message="Second")
    moved = await github.head(place, "main", etag=first.etag)
    assert moved is not None
    assert (moved.sha, moved.message) == (sha, "Second")


async def test_who_brings_no_etag_is_told_the_head_however_often_it_was_asked_for(
    github: GitHub, place: Place, hub: StandInGitHub
) -> None:
    first = await github.head(place, "main")
    hub.forget_requests()

    assert first is not None
    assert await github.head(place, "main") == first
    assert [each.status for each in hub.requests] == [304], "asked for by what was remembered"


@pytest.mark.parametrize("branch", ["feature/부엌", "a#b", "50%off"])
async def test_branches_of_any_name_are_found(
    github: GitHub, shop: StandInRepository, place: Place, branch: str
) -> None:
    sha = shop.commit({"a": branch}, branch=branch)

    found = await github.head(place, branch)

    assert found is not None
    assert found.sha == sha


async def test_what_is_missing_is_told_apart(github: GitHub, shop: StandInRepository, place: Place) -> None:
    nowhere = Place(owner="team", name="nowhere", connection=place.connection)

    with pytest.raises(BranchNotFound):
        await github.head(place, "gone")
    with pytest.raises(BranchNotFound):
        await github.tag(place, "v9")
    with pytest.raises(CommitNotFound):
        await github.compare(place, "0" * 39 + "1", shop.head())
    for question in (github.head(nowhere, "main"), github.tag(nowhere, "v1"), github.repository(nowhere)):
        with pytest.raises(RepositoryNotFound):
            await question


async def test_a_private_repository_does_not_exist_for_strangers(github: GitHub, shop: StandInRepository) -> None:
    with pytest.raises(RepositoryNotFound):
        await github.repository(Place(owner="team", name="shop"))


async def test_a_public_repository_can_be_asked_about_without_a_connection(github: GitHub, hub: StandInGitHub) -> None:
    public = hub.create_repository("team/open", private=False, files={"a": "b"})

    head = await github.head(Place(owner="team", name="open"), "main")

    assert head is not None
    assert head.sha == public.head()


async def test_a_tag_is_peeled_to_its_commit(github: GitHub, shop: StandInRepository, place: Place) -> None:
    shop.tag("v1")
    shop.tag("v2", annotated=True)

    assert await github.tag(place, "v1") == shop.head()
    assert await github.tag(place, "v2") == shop.head()


async def test_the_pull_request_of_a_squashed_commit_is_found(
    github: GitHub, shop: StandInRepository, place: Place
) -> None:
    shop.commit({"a": "1"}, branch="topic")
    number = shop.open_pull("topic", title="Show prices")
    sha = shop.merge(number, "squash")
    direct = shop.commit({"b": "2"})

    [found] = await github.pull_requests(place, sha)

    assert (found.number, found.title, found.base_branch, found.merge_commit_sha) == (
        number,
        "Show prices",
        "main",
        sha,
    )
    assert found.merged_at is not None
    assert await github.pull_requests(place, direct) == []


async def test_commits_are_compared_by_ancestry(github: GitHub, shop: StandInRepository, place: Place) -> None:
    first = shop.head()
    second = shop.commit({"services/shop/app.py": "1", "docs/a.md": "x"})
    other = shop.commit({"c": "3"}, branch="other")
    shop.force("other", first)
    aside = shop.commit({"d": "4"}, branch="other")

    ahead = await github.compare(place, first, second)

    assert (ahead.lineage, set(ahead.paths or ())) == (Lineage.AHEAD, {"services/shop/app.py", "docs/a.md"})
    assert (await github.compare(place, second, first)).lineage is Lineage.BEHIND
    assert (await github.compare(place, first, first)).lineage is Lineage.IDENTICAL
    diverged = await github.compare(place, second, aside)
    assert (diverged.lineage, diverged.paths) == (Lineage.DIVERGED, None)
    assert other != aside


async def test_a_comparison_of_very_many_files_says_that_it_names_not_all(
    github: GitHub, shop: StandInRepository, place: Place
) -> None:
    first = shop.head()
    second = shop.commit({f"many/{number}": str(number) for number in range(310)})

    assert (await github.compare(place, first, second)).paths is None


async def test_checks_are_those_of_others_taken_together(github: GitHub, shop: StandInRepository, place: Place) -> None:
    sha = shop.head()

    async def said() -> Checks:
        return await github.checks(place, sha, without="klepaas")

    assert await said() is Checks.PASSED
    await github.set_status(
        place, sha, context="klepaas", state=StatusState.FAILURE, description="no", url="https://k.example.org/d/1"
    )
    assert await said() is Checks.PASSED
    shop.report(sha, "lint", "pending")
    assert await said() is Checks.PENDING
    shop.report(sha, "lint", "success")
    assert await said() is Checks.PASSED
    shop.check_run(sha, "tests")
    assert await said() is Checks.PENDING
    shop.check_run(sha, "build", conclusion="failure")
    assert await said() is Checks.FAILED


async def test_a_skipped_or_neutral_check_blocks_nothing(github: GitHub, shop: StandInRepository, place: Place) -> None:
    for conclusion in ("skipped", "neutral", "success"):
        shop.check_run(shop.head(), conclusion, conclusion=conclusion)

    assert await github.checks(place, shop.head(), without="klepaas") is Checks.PASSED


async def test_a_long_description_is_cut_to_what_github_takes(
    github: GitHub, shop: StandInRepository, place: Place
) -> None:
    sha, long = shop.head(), "The app does not listen.\n" * 20

    await github.set_status(place, sha, context="klepaas", state=StatusState.ERROR, description=long, url=None)

    [status] = shop.statuses(sha)
    assert status.description is not None
    assert len(status.description) == 140
    assert "\n" not in status.description


async def test_a_deployment_is_found_again_by_our_key(github: GitHub, shop: StandInRepository, place: Place) -> None:
    sha = shop.head()
    number = await github.create_deployment(
        place, sha=sha, environment="production", key="dep_1", description="First", production=True
    )
    await github.set_deployment_status(
        place,
        number,
        state=DeploymentState.SUCCESS,
        description="live",
        log_url="https://k.example.org/d/1",
        environment_url="https://shop.example.org",
    )

    assert await github.deployments(place, sha=sha, environment="production") == {"dep_1": number}
    assert await github.deployments(place, sha=sha, environment="staging") == {}
    [made] = shop.deployments()
    assert (made.states, made.production, made.sha) == (["success"], True, sha)
    assert made.statuses[0].log_url == "https://k.example.org/d/1"


async def test_a_success_in_staging_leaves_earlier_deployments_to_us(
    github: GitHub, shop: StandInRepository, place: Place
) -> None:
    numbers = []
    for key in ("dep_1", "dep_2"):
        number = await github.create_deployment(
            place, sha=shop.head(), environment="staging", key=key, description="", production=False
        )
        await github.set_deployment_status(
            place, number, state=DeploymentState.SUCCESS, description="", log_url=None, environment_url=None
        )
        numbers.append(number)

    assert [each.states for each in shop.deployments()] == [["success"], ["success"]]


async def test_one_comment_is_edited_and_not_repeated(github: GitHub, shop: StandInRepository, place: Place) -> None:
    shop.commit({"a": "1"}, branch="topic")
    number = shop.open_pull("topic")

    for text in ("<!-- klepaas:dep --> building", "<!-- klepaas:dep --> live", "<!-- klepaas:dep --> live"):
        await github.comment(place, number, marker="<!-- klepaas:dep -->", text=text)

    [comment] = shop.comments(number)
    assert (comment.body, comment.edits) == ("<!-- klepaas:dep --> live", 1)


async def test_somebody_elses_comment_with_our_marker_is_not_touched(
    github: GitHub, hub: StandInGitHub, credentials: Credentials, shop: StandInRepository, place: Place
) -> None:
    shop.commit({"a": "1"}, branch="topic")
    number = shop.open_pull("topic")
    mallory = credentials.token(shop, hub.create_token("mallory"))
    await github.comment(mallory, number, marker="<!-- klepaas -->", text="<!-- klepaas --> mine")

    await github.comment(place, number, marker="<!-- klepaas -->", text="<!-- klepaas --> live")

    assert [each.body for each in shop.comments(number)] == ["<!-- klepaas --> mine", "<!-- klepaas --> live"]


async def test_sent_deliveries_are_listed_down_to_the_one_seen_last(
    github: GitHub, hub: StandInGitHub, shop: StandInRepository, installed: Place
) -> None:
    hub.send_webhooks_to("http://127.0.0.1:1/nobody")
    for number in range(3):
        shop.commit({"a": str(number)})
        hub.wait_for_webhooks()

    everything = await github.sent_deliveries()
    newest, seen, *_ = everything
    fresh = await github.sent_deliveries(after=seen.id)

    assert [each.event for each in everything][:3] == ["push"] * 3
    assert [each.guid for each in fresh] == [newest.guid]
    assert (newest.installation_id, newest.repository_id) == (installed.connection.installation_id, shop.id)  # type: ignore[union-attr]
    await github.redeliver(newest.id)
    hub.wait_for_webhooks()
    assert (await github.sent_deliveries(after=newest.id))[0].redelivery


async def test_git_is_given_a_token_for_this_one_repository_to_read(
    github: GitHub, hub: StandInGitHub, installed: Place, shop: StandInRepository
) -> None:
    other = hub.create_repository("team/other", files={"a": "b"})
    assert installed.connection is not None

    credential = await github.git_credential(installed.connection, installed)

    assert (credential.username, credential.host) == ("x-access-token", installed.connection.host)
    assert _git_may_read(shop.clone_url, credential.password)
    assert not _git_may_read(other.clone_url, credential.password)
    token = hub.world.tokens[credential.password]
    assert dict(token.permissions or {}) == {"metadata": "read", "contents": "read"}


async def test_git_is_given_the_token_itself(github: GitHub, by_token: Place, shop: StandInRepository) -> None:
    assert by_token.connection is not None

    credential = await github.git_credential(by_token.connection, by_token)

    assert credential.username == "x-access-token"
    assert _git_may_read(shop.clone_url, credential.password)


async def test_a_credential_is_named_as_github_knows_it(
    github: GitHub, credentials: Credentials, hub: StandInGitHub, shop: StandInRepository, installed: Place
) -> None:
    known = credentials.token(shop, hub.create_token("dana"))
    wrong = credentials.token(shop, "ghp_c4n4ry0000000000000000000000000000000")
    assert installed.connection
    assert known.connection
    assert wrong.connection

    assert await github.identify(installed.connection) == "team"
    assert await github.identify(known.connection) == "dana"
    with pytest.raises(AuthenticationFailed) as refused:
        await github.identify(wrong.connection)
    assert "c4n4ry" not in str(refused.value) + refused.value.hint + repr(refused.value.evidence)
    hub.suspend(int(installed.connection.installation_id or 0))
    with pytest.raises(AuthenticationFailed, match="suspended"):
        await github.identify(installed.connection)


async def test_what_a_credential_may_not_do_is_said_in_githubs_words(
    github: GitHub, credentials: Credentials, hub: StandInGitHub, shop: StandInRepository
) -> None:
    reader = credentials.token(shop, hub.create_token(permissions={"contents": "read", "metadata": "read"}))

    with pytest.raises(Rejected, match="does not allow") as refused:
        await github.set_status(
            reader, shop.head(), context="klepaas", state=StatusState.SUCCESS, description="", url=None
        )
    assert refused.value.evidence["status"] == 403


async def test_installations_are_listed(github: GitHub, hub: StandInGitHub) -> None:
    hub.create_repository("one/a")
    hub.create_repository("two/b")
    hub.install("one")
    hub.suspend(hub.install("two", repositories=["b"]))

    found = await github.installations()

    assert [(each.account, each.repositories, each.suspended) for each in found] == [
        ("one", "all", False),
        ("two", "selected", True),
    ]


async def test_without_an_app_its_questions_are_refused(
    github: GitHub, credentials: Credentials, installed: Place
) -> None:
    credentials.has_app = False

    with pytest.raises(Rejected, match="has no GitHub App"):
        await github.sent_deliveries()
    with pytest.raises(Rejected, match="has no GitHub App"):
        await github.repository(installed)


async def test_an_installation_of_another_github_is_not_spoken_for(github: GitHub, installed: Place) -> None:
    """Its number means another account here."""
    assert installed.connection is not None
    moved = Connection(
        **{**installed.connection.__dict__, "api_url": "https://api.github.com", "kind": ConnectionKind.GITHUB_APP}
    )

    with pytest.raises(AuthenticationFailed, match="another GitHub"):
        await github.repository(Place(owner="team", name="shop", connection=moved))


async def test_a_renamed_repository_is_followed_by_its_number(
    github: GitHub, hub: StandInGitHub, shop: StandInRepository, place: Place
) -> None:
    """R-26, S-10: the old name still leads there, on the same server."""
    number, sha = shop.id, shop.head()
    shop.rename("boutique")

    found = await github.repository(place)

    assert (found.full_name, found.repository_id) == ("team/boutique", number)
    head = await github.head(place, "main")
    assert head is not None
    assert head.sha == sha


async def test_reading_again_costs_nothing_while_nothing_changed(
    github: GitHub, hub: StandInGitHub, shop: StandInRepository, place: Place, asked: Asked
) -> None:
    before = await github.checks(place, shop.head(), without="klepaas")
    hub.forget_requests()

    again = await github.checks(place, shop.head(), without="klepaas")

    assert before == again
    assert {each.status for each in hub.requests} == {304}
    assert not any(each.counted for each in hub.requests)


def _git_may_read(url: str, token: str) -> bool:
    there = url.replace("http://", f"http://x-access-token:{token}@")
    command = ["git", "-c", "credential.helper=", "ls-remote", there, "HEAD"]
    return (
        subprocess.run(
            command, env={"GIT_TERMINAL_PROMPT": "0", "PATH": "/usr/bin:/bin"}, capture_output=True
        ).returncode
        == 0
    )
