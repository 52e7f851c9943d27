"""What is sent when something happens, how it is signed, what is remembered, and what goes wrong when told to."""

import hashlib
import hmac
from pathlib import Path

import httpx
import pytest

from klepaas.testing.github import StandInGitHub, StandInRepository, WebhookFaults
from tests.servers.git_http import git
from tests.testing_github.conftest import Receiver
from tests.testing_github.test_app_tokens import as_app

ZEROS = "0" * 40


@pytest.fixture
def told(github: StandInGitHub, shop: StandInRepository, receiver: Receiver) -> Receiver:
    """The App is installed and its webhook goes to the receiver."""
    github.install("team", repositories=[shop])
    github.send_webhooks_to(receiver.url)
    return receiver


def test_a_commit_is_told_with_what_it_changes(github: StandInGitHub, shop: StandInRepository, told: Receiver) -> None:
    before = shop.head()
    sha = shop.commit({"app.py": "print(2)\n", "new/a.txt": "a", "docs/use.md": None}, message="Do\n\nmore")
    github.wait_for_webhooks()
    push = told.received[0].payload

    assert ("refs/heads/main", before, sha) == (push["ref"], push["before"], push["after"])
    assert (False, False, False) == (push["created"], push["deleted"], push["forced"])
    head = push["head_commit"]
    assert (sha, "Do\n\nmore") == (head["id"], head["message"])
    assert (["new/a.txt"], ["docs/use.md"], ["app.py"]) == (head["added"], head["removed"], head["modified"])
    assert [head] == push["commits"]
    assert (shop.id, "team", "main") == (
        push["repository"]["id"],
        push["repository"]["owner"]["login"],
        push["repository"]["default_branch"],
    )
    assert ("dana", "dana") == (push["pusher"]["name"], push["sender"]["login"])
    assert push["installation"]["id"]


def test_webhooks_are_signed_and_say_what_they_are(
    github: StandInGitHub, shop: StandInRepository, told: Receiver
) -> None:
    shop.commit({"a": "a"})
    github.wait_for_webhooks()
    one = told.received[0]

    secret = github.app.webhook_secret.encode()
    assert one.headers["X-Hub-Signature-256"] == f"sha256={hmac.new(secret, one.body, hashlib.sha256).hexdigest()}"
    assert one.headers["X-Hub-Signature"] == f"sha1={hmac.new(secret, one.body, hashlib.sha1).hexdigest()}"
    assert ("push", "application/json") == (one.event, one.headers["Content-Type"])
    assert one.headers["User-Agent"].startswith("GitHub-Hookshot/")
    assert str(github.app.hook.id) == one.headers["X-GitHub-Hook-ID"]
    assert "integration" == one.headers["X-GitHub-Hook-Installation-Target-Type"]
    assert one.guid == github.deliveries[0].guid


def test_branches_that_come_go_and_are_forced_are_told(
    github: StandInGitHub, shop: StandInRepository, told: Receiver
) -> None:
    first = shop.head()
    shop.commit({"a": "a"})
    shop.commit({"b": "b"}, branch="feature/one")
    shop.delete_branch("feature/one")
    shop.force("main", first)
    tag = shop.tag("v1", annotated=True)
    github.wait_for_webhooks()
    pushes = [one.payload for one in told.received]

    assert [
        ("refs/heads/main", False, False, False),
        ("refs/heads/feature/one", True, False, False),
        ("refs/heads/feature/one", False, True, False),
        ("refs/heads/main", False, False, True),
        ("refs/tags/v1", True, False, False),
    ] == [(p["ref"], p["created"], p["deleted"], p["forced"]) for p in pushes]
    assert (ZEROS, None, []) == (pushes[2]["after"], pushes[2]["head_commit"], pushes[2]["commits"])
    assert (tag, first) == (pushes[4]["after"], pushes[4]["head_commit"]["id"])


def test_a_git_push_is_told_with_all_its_commits(
    github: StandInGitHub, shop: StandInRepository, told: Receiver, tmp_path: Path
) -> None:
    url = shop.clone_url.replace("://", f"://kim:{github.create_token('kim')}@")
    git("clone", "-q", url, ".", cwd=tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        git("add", "-A", cwd=tmp_path)
        git("commit", "-q", "-m", f"Add {name}", cwd=tmp_path)
    git("push", "-q", "origin", "main", cwd=tmp_path)
    github.wait_for_webhooks()
    push = told.received[0].payload

    assert [("Add one", ["one"]), ("Add two", ["two"])] == [(c["message"], c["added"]) for c in push["commits"]]
    assert ("kim", shop.head()) == (push["pusher"]["name"], push["after"])


@pytest.mark.parametrize(("tags", "told_of"), [(3, 3), (4, 0)])
def test_more_than_three_tags_at_once_are_not_told(
    github: StandInGitHub, shop: StandInRepository, told: Receiver, tmp_path: Path, tags: int, told_of: int
) -> None:
    url = shop.clone_url.replace("://", f"://kim:{github.create_token('kim')}@")
    git("clone", "-q", url, ".", cwd=tmp_path)
    for number in range(tags):
        git("tag", f"v{number}", cwd=tmp_path)
    git("push", "-q", "--tags", cwd=tmp_path)
    github.wait_for_webhooks()

    assert told_of == len(told.received)


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_a_merge_is_told_after_its_pull_request(
    github: StandInGitHub, shop: StandInRepository, told: Receiver, how: str
) -> None:
    shop.commit({"f": "1"}, branch="f", message="First")
    shop.commit({"f": "2"}, branch="f", message="Second")
    number = shop.open_pull("f", "Bring f")
    shop.commit({"other": "o"})
    told.received.clear()
    base = shop.head()
    sha = shop.merge(number, how)  # type: ignore[arg-type]
    github.wait_for_webhooks()
    closed, push = (one.payload for one in told.received[-2:])

    assert ("closed", True, sha) == (
        closed["action"],
        closed["pull_request"]["merged"],
        closed["pull_request"]["merge_commit_sha"],
    )
    assert (base, sha, False) == (push["before"], push["after"], push["forced"])
    assert {"merge": 3, "squash": 1, "rebase": 2}[how] == len(push["commits"])
    assert ("2", "o") == (shop.file("f"), shop.file("other"))
    words = {"merge": f"Merge pull request #{number} from team/f", "squash": f"Bring f (#{number})", "rebase": "Second"}
    assert words[how] == push["head_commit"]["message"].split("\n")[0]


def test_a_release_is_told_in_its_steps(github: StandInGitHub, shop: StandInRepository, told: Receiver) -> None:
    shop.publish_release("v1")
    shop.publish_release("v2-rc", prerelease=True)
    shop.publish_release("v3", draft=True)
    github.wait_for_webhooks()
    releases = [one.payload for one in told.received if one.event == "release"]

    assert [
        *[(action, "v1", False) for action in ("created", "published", "released")],
        *[(action, "v2-rc", False) for action in ("created", "published", "prereleased")],
        ("created", "v3", True),
    ] == [(r["action"], r["release"]["tag_name"], r["release"]["draft"]) for r in releases]


def test_a_repositorys_own_webhook_has_its_own_secret_and_the_same_guid(
    github: StandInGitHub, shop: StandInRepository, told: Receiver
) -> None:
    hook = shop.add_hook(told.url, "legacy")
    shop.commit({"a": "a"})
    github.wait_for_webhooks()
    own, apps = sorted(told.received[-2:], key=lambda one: one.headers["X-GitHub-Hook-ID"] != str(hook))

    assert own.guid == apps.guid
    assert "ping" == told.received[0].event
    assert f"sha256={hmac.new(b'legacy', own.body, hashlib.sha256).hexdigest()}" == own.headers["X-Hub-Signature-256"]
    assert "installation" not in own.payload


def test_a_repositorys_own_webhook_is_made_listed_and_sent_again_by_rest(
    github: StandInGitHub, shop: StandInRepository, receiver: Receiver, dana: httpx.Client
) -> None:
    hooks = "/repos/team/shop/hooks"
    config = {"url": receiver.url, "secret": "legacy", "content_type": "form"}
    hook = dana.post(hooks, json={"config": config, "events": ["push"]}).json()["id"]
    shop.commit({"a": "a"})
    shop.publish_release("v1")
    github.wait_for_webhooks()
    sent = dana.get(f"{hooks}/{hook}/deliveries").json()
    again = dana.post(f"{hooks}/{hook}/deliveries/{sent[-1]['id']}/attempts")
    github.wait_for_webhooks()

    assert [hook] == [found["id"] for found in dana.get(hooks).json()]
    assert "legacy" not in dana.get(f"{hooks}/{hook}").text
    assert 202 == again.status_code
    assert ["ping", "push", "push", "ping"] == receiver.events
    assert receiver.received[1].body.startswith(b"payload=%7B")
    assert 204 == dana.delete(f"{hooks}/{hook}").status_code
    assert [] == dana.get(hooks).json()


def test_deliveries_are_listed_newest_first_page_by_page(
    github: StandInGitHub, shop: StandInRepository, told: Receiver
) -> None:
    for number in range(5):
        shop.commit({"a": str(number)})
    github.wait_for_webhooks()
    found, url, pages = [], f"{github.api_url}/app/hook/deliveries?per_page=2", 0
    while url:
        page = as_app(github, "GET", url.removeprefix(github.api_url))
        found += page.json()
        url, pages = page.links.get("next", {}).get("url", ""), pages + 1

    assert 3 == pages
    assert [one.guid for one in told.received][::-1] == [item["guid"] for item in found]
    assert {("OK", 200, "push", False, shop.id)} == {
        (i["status"], i["status_code"], i["event"], i["redelivery"], i["repository_id"]) for i in found
    }
    whole = as_app(github, "GET", f"/app/hook/deliveries/{found[0]['id']}").json()
    assert (shop.head(), told.url) == (whole["request"]["payload"]["after"], whole["url"])


def test_a_failed_delivery_is_sent_once_more_on_request(
    github: StandInGitHub, shop: StandInRepository, told: Receiver
) -> None:
    told.status = 503
    shop.commit({"a": "a"})
    github.wait_for_webhooks()
    failed = as_app(github, "GET", "/app/hook/deliveries").json()[0]
    told.status = 200

    assert 202 == as_app(github, "POST", f"/app/hook/deliveries/{failed['id']}/attempts").status_code
    github.wait_for_webhooks()

    again = as_app(github, "GET", "/app/hook/deliveries").json()[0]
    assert (503, 200) == (failed["status_code"], again["status_code"])
    assert "OK" != failed["status"]
    assert (True, failed["guid"], True) == (again["redelivery"], again["guid"], again["id"] > failed["id"])
    assert told.received[0].body == told.received[1].body


def test_the_ways_of_losing_a_webhook_differ_in_what_github_knows(
    github: StandInGitHub, shop: StandInRepository, told: Receiver
) -> None:
    github.faults.webhooks = WebhookFaults(lost=1)
    shop.commit({"a": "lost"})
    github.faults.webhooks = WebhookFaults(failed=1)
    failed = shop.commit({"a": "failed"})
    github.wait_for_webhooks()

    assert [] == told.received
    assert [(failed, 0)] == [(d.payload["after"], d.status_code) for d in github.deliveries]
    assert 1 == len(github.lost_deliveries)


def test_webhooks_come_twice_late_and_out_of_order_when_told_to(
    github: StandInGitHub, shop: StandInRepository, told: Receiver
) -> None:
    github.faults.webhooks = WebhookFaults(duplicated=0.5, reordered=0.5)
    github.faults.use_seed(7)
    sent = [shop.commit({"a": str(number)}) for number in range(20)]
    github.wait_for_webhooks()
    came = [one.payload["after"] for one in told.received]

    assert set(sent) == set(came)
    assert len(sent) < len(came)
    assert sent != list(dict.fromkeys(came))
    assert {1, 2} == {sum(one.guid == other.guid for other in told.received) for one in told.received}


def test_a_delayed_webhook_is_overtaken(github: StandInGitHub, shop: StandInRepository, told: Receiver) -> None:
    github.faults.webhooks = WebhookFaults(delayed=1, delay_s=3)
    late = shop.commit({"a": "late"})
    github.faults.webhooks = WebhookFaults()
    soon = shop.commit({"a": "soon"})
    github.wait_for_webhooks()

    assert [soon, late] == [one.payload["after"] for one in told.received]


def test_while_github_is_down_webhooks_wait(github: StandInGitHub, shop: StandInRepository, told: Receiver) -> None:
    github.faults.down = True
    shop.commit({"a": "a"})
    with pytest.raises(TimeoutError):
        github.wait_for_webhooks(0.2)
    assert [] == told.received
    with pytest.raises(httpx.TransportError):
        httpx.get(github.api_url)

    github.faults.down = False
    github.wait_for_webhooks()

    assert 1 == len(told.received)


def test_installations_are_told_to_the_app(github: StandInGitHub, shop: StandInRepository, receiver: Receiver) -> None:
    github.send_webhooks_to(receiver.url)
    installation = github.install("team", repositories=[])
    github.choose(installation, [shop])
    github.suspend(installation)
    shop.commit({"a": "not told"})
    github.uninstall(installation)
    github.ping()
    github.wait_for_webhooks()

    assert [
        ("installation", "created"),
        ("installation_repositories", "added"),
        ("installation", "suspend"),
        ("installation", "deleted"),
        ("ping", None),
    ] == [(one.event, one.payload.get("action")) for one in receiver.received]
