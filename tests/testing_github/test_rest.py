"""What the API answers, as far as klepaas asks it."""

from typing import Any

import httpx
import pytest

from klepaas.testing.github import CannotMerge, StandInGitHub, StandInRepository

SHOP = "/repos/team/shop"


def json(answer: httpx.Response, status: int = 200) -> Any:
    assert status == answer.status_code, answer.text
    return answer.json()


def test_the_api_is_at_both_places(github: StandInGitHub, shop: StandInRepository, dana: httpx.Client) -> None:
    for base in (github.url, github.api_url):
        assert shop.id == json(dana.get(f"{base}{SHOP}"))["id"]
        assert shop.id == json(dana.get(f"{base}/repositories/{shop.id}"))["id"]


def test_a_stranger_does_not_find_a_private_repository(github: StandInGitHub, shop: StandInRepository) -> None:
    github.create_repository("team/open", private=False, files={"a": "a"})

    assert 404 == httpx.get(f"{github.api_url}{SHOP}").status_code
    assert 200 == httpx.get(f"{github.api_url}/repos/TEAM/Open/branches/main").status_code
    assert 401 == httpx.post(f"{github.api_url}/repos/team/open/deployments", json={"ref": "main"}).status_code
    wrong = httpx.get(f"{github.api_url}/repos/team/open", headers={"authorization": "Bearer ghp_wrong"})
    assert (401, "Bad credentials") == (wrong.status_code, wrong.json()["message"])


def test_branches_tags_and_commits_are_found(shop: StandInRepository, dana: httpx.Client) -> None:
    sha = shop.commit({"a": "a"}, branch="feature/one", message="One")
    tag = shop.tag("v1", sha, annotated=True)

    assert sha == json(dana.get(f"{SHOP}/branches/feature/one"))["commit"]["sha"]
    assert {"type": "commit", "sha": sha} == _target(dana, "heads/feature/one")
    assert {"type": "tag", "sha": tag} == _target(dana, "tags/v1")
    assert sha == json(dana.get(f"{SHOP}/git/tags/{tag}"))["object"]["sha"]
    for name in (sha, sha[:8], "v1", "feature/one"):
        assert "One" == json(dana.get(f"{SHOP}/commits/{name}"))["commit"]["message"]
    assert 404 == dana.get(f"{SHOP}/branches/none").status_code
    assert 422 == dana.get(f"{SHOP}/commits/{'1' * 40}").status_code


def _target(client: httpx.Client, ref: str) -> dict[str, str]:
    found = json(client.get(f"{SHOP}/git/ref/{ref}"))["object"]
    return {"type": found["type"], "sha": found["sha"]}


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_the_pull_request_of_a_commit_is_found_however_it_was_merged(
    shop: StandInRepository, dana: httpx.Client, how: str
) -> None:
    own = shop.commit({"f": "1"}, branch="f")
    number = json(dana.post(f"{SHOP}/pulls", json={"title": "F", "head": "f", "base": "main"}), 201)["number"]
    direct = shop.commit({"other": "o"})
    merged = json(dana.put(f"{SHOP}/pulls/{number}/merge", json={"merge_method": how}))["sha"]

    assert merged == shop.head()
    for sha in (own, merged):
        found = json(dana.get(f"{SHOP}/commits/{sha}/pulls"))
        assert [(number, merged)] == [(pull["number"], pull["merge_commit_sha"]) for pull in found]
        assert found[0]["merged_at"]
    assert [] == json(dana.get(f"{SHOP}/commits/{direct}/pulls"))


def test_what_cannot_be_merged_is_refused(shop: StandInRepository, dana: httpx.Client) -> None:
    shop.commit({"app.py": "theirs"}, branch="f")
    number = shop.open_pull("f")
    shop.commit({"app.py": "ours"})

    assert 405 == dana.put(f"{SHOP}/pulls/{number}/merge").status_code
    for how in ("squash", "rebase"):
        with pytest.raises(CannotMerge):
            shop.merge(number, how)
    assert "ours" == shop.file("app.py")
    assert "open" == shop.pull(number).state


def test_a_pull_request_merged_by_hand_counts_as_merged(shop: StandInRepository, dana: httpx.Client) -> None:
    sha = shop.commit({"f": "1"}, branch="f")
    number = shop.open_pull("f")
    shop.force("main", sha)

    assert json(dana.get(f"{SHOP}/pulls/{number}"))["merged"] is True


def test_commits_are_compared_by_their_ancestry(shop: StandInRepository, dana: httpx.Client) -> None:
    first = shop.head()
    second = shop.commit({"a": "a", "docs/use.md": None})
    aside = shop.commit({"b": "b"}, branch="aside")
    shop.force("aside", first)
    other = shop.commit({"c": "c"}, branch="aside")

    def status(base: str, head: str) -> tuple[str, int, int]:
        found = json(dana.get(f"{SHOP}/compare/{base}...{head}"))
        return found["status"], found["ahead_by"], found["behind_by"]

    assert ("identical", 0, 0) == status(first, first)
    assert ("ahead", 1, 0) == status(first, "main")
    assert ("behind", 0, 1) == status(second, first)
    assert ("diverged", 1, 1) == status(second, other)
    files = json(dana.get(f"{SHOP}/compare/{first}...{second}"))["files"]
    assert [("a", "added"), ("docs/use.md", "removed")] == [(file["filename"], file["status"]) for file in files]
    assert 200 == dana.get(f"{SHOP}/commits/{aside}").status_code


def test_of_each_context_the_newest_status_counts(shop: StandInRepository, dana: httpx.Client) -> None:
    sha = shop.head()
    for state in ("pending", "success"):
        json(dana.post(f"{SHOP}/statuses/{sha}", json={"state": state, "context": "klepaas"}), 201)
    shop.report(sha, "tests", "pending")

    combined = json(dana.get(f"{SHOP}/commits/{sha}/status"))
    assert ("pending", 2) == (combined["state"], combined["total_count"])
    shop.report(sha, "tests", "success")
    assert "success" == json(dana.get(f"{SHOP}/commits/main/status"))["state"]
    assert ["pending", "success"] == [s.state for s in shop.statuses(sha) if s.context == "klepaas"]
    assert 422 == dana.post(f"{SHOP}/statuses/{'1' * 40}", json={"state": "success"}).status_code
    assert 422 == dana.post(f"{SHOP}/statuses/{sha}", json={"state": "fine"}).status_code
    too_long = {"state": "success", "description": "x" * 141}
    assert 422 == dana.post(f"{SHOP}/statuses/{sha}", json=too_long).status_code


def test_check_runs_are_listed(shop: StandInRepository, dana: httpx.Client) -> None:
    shop.check_run(shop.head(), "unit")
    shop.check_run(shop.head(), "unit", conclusion="failure")
    shop.check_run(shop.head(), "lint")

    runs = json(dana.get(f"{SHOP}/commits/main/check-runs"))["check_runs"]
    assert [("unit", "completed", "failure"), ("lint", "in_progress", None)] == [
        (run["name"], run["status"], run["conclusion"]) for run in runs
    ]


def deploy(client: httpx.Client, environment: str, **more: Any) -> int:
    body = {"ref": "main", "environment": environment, "required_contexts": [], **more}
    number: int = json(client.post(f"{SHOP}/deployments", json=body), 201)["id"]
    return number


def say(client: httpx.Client, number: int, state: str, **more: Any) -> None:
    json(client.post(f"{SHOP}/deployments/{number}/statuses", json={"state": state, **more}), 201)


def test_success_ends_earlier_deployments_of_its_environment(shop: StandInRepository, dana: httpx.Client) -> None:
    first, other = deploy(dana, "staging"), deploy(dana, "preview")
    say(dana, first, "success")
    say(dana, other, "success")
    quiet = deploy(dana, "staging")
    say(dana, quiet, "success", auto_inactive=False)
    assert ["success"] == shop.deployments()[0].states
    say(dana, deploy(dana, "staging"), "success")

    assert [["success", "inactive"], ["success"], ["success", "inactive"], ["success"]] == [
        deployment.states for deployment in shop.deployments()
    ]


def test_in_production_nothing_ends_by_itself(shop: StandInRepository, dana: httpx.Client) -> None:
    for _ in range(2):
        say(dana, deploy(dana, "production"), "success")

    assert [["success"], ["success"]] == [deployment.states for deployment in shop.deployments()]


def test_deployments_keep_what_they_were_told(shop: StandInRepository, dana: httpx.Client) -> None:
    number = deploy(dana, "staging", payload={"klepaas": "dep_1"}, description="By klepaas")
    deploy(dana, "preview")
    say(dana, number, "in_progress", log_url="https://klepaas.example/log")

    listed = json(dana.get(f"{SHOP}/deployments", params={"environment": "staging", "sha": shop.head()}))
    assert [(number, {"klepaas": "dep_1"})] == [(found["id"], found["payload"]) for found in listed]
    status = json(dana.get(f"{SHOP}/deployments/{number}/statuses"))[0]
    assert ("in_progress", "https://klepaas.example/log") == (status["state"], status["log_url"])


def test_a_deployment_waits_for_statuses_unless_told_not_to(shop: StandInRepository, dana: httpx.Client) -> None:
    shop.report(shop.head(), "tests", "pending")

    assert 409 == dana.post(f"{SHOP}/deployments", json={"ref": "main"}).status_code
    assert deploy(dana, "staging")


def test_a_comment_is_edited_by_its_author(github: StandInGitHub, shop: StandInRepository, dana: httpx.Client) -> None:
    shop.commit({"f": "1"}, branch="f")
    number = shop.open_pull("f")
    installation = github.create_installation_token(github.install("team"))
    app = {"authorization": f"Bearer {installation}"}
    made = json(dana.post(f"{SHOP}/issues/{number}/comments", json={"body": "one"}, headers=app), 201)
    theirs = json(dana.post(f"{SHOP}/issues/{number}/comments", json={"body": "hers"}), 201)

    json(dana.patch(f"{SHOP}/issues/comments/{made['id']}", json={"body": "two"}, headers=app))

    assert [("two", f"{github.app.slug}[bot]"), ("hers", "dana")] == [
        (comment.body, comment.author.login) for comment in shop.comments(number)
    ]
    path = f"{SHOP}/issues/comments/{theirs['id']}"
    assert 403 == dana.patch(path, json={"body": "no"}, headers=app).status_code


def test_a_renamed_repository_is_found_by_its_id_and_its_old_name(
    github: StandInGitHub, shop: StandInRepository, dana: httpx.Client
) -> None:
    shop.rename("company/store")
    moved = dana.get(f"{SHOP}/branches/main")
    posted = dana.post(f"{SHOP}/statuses/{shop.head()}", json={"state": "success"})

    assert (301, 307) == (moved.status_code, posted.status_code)
    assert f"{github.api_url}/repositories/{shop.id}/branches/main" == moved.headers["location"]
    assert shop.head() == json(dana.get(moved.headers["location"]))["commit"]["sha"]
    assert "company/store" == json(dana.get(f"/repositories/{shop.id}"))["full_name"]
    github.create_repository("team/shop")
    assert shop.id != json(dana.get(SHOP))["id"]


def test_long_lists_come_in_pages(shop: StandInRepository, dana: httpx.Client) -> None:
    for number in range(5):
        shop.report(shop.head(), f"c{number}")
    first = dana.get(f"{SHOP}/commits/main/statuses", params={"per_page": 2})
    last = dana.get(first.links["last"]["url"])

    assert {"next", "last"} == set(first.links)
    assert {"prev", "first"} == set(last.links)
    assert (2, 1) == (len(first.json()), len(last.json()))


def test_a_newer_version_of_the_api_leaves_fields_away(shop: StandInRepository, dana: httpx.Client) -> None:
    shop.commit({"f": "1"}, branch="f")
    shop.open_pull("f")
    new = dana.get(f"{SHOP}/pulls/1", headers={"x-github-api-version": "2026-03-10"})

    assert "merge_commit_sha" in json(dana.get(f"{SHOP}/pulls/1"))
    assert "merge_commit_sha" not in json(new)
    assert 400 == dana.get(SHOP, headers={"x-github-api-version": "1999-01-01"}).status_code
