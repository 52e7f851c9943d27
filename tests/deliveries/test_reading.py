"""What a body says, whatever it holds."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest

from klepaas.domain.github import ZERO_SHA, PublishedRelease, Push, RepositoryName
from klepaas.domain.webhook_payload import Ignored, Meaning, read
from klepaas.errors import Invalid
from tests.deliveries import malformed
from tests.deliveries.payloads import EVENTS, every_payload, push, release, to_bytes

JSON = "application/json"
SHOP = RepositoryName(owner="acme", name="shop", repository_id=186853002, installation_id="42")


def read_push(**changes: Any) -> Push:
    found = read("push", JSON, to_bytes({**push(), **changes}))
    assert isinstance(found, Push)
    return found


def test_a_push_is_read() -> None:
    found = read_push(head_commit={"message": "Mend the till"})
    assert found.paths == ("src/till.py",)
    assert found == Push(
        repository=SHOP,
        ref="refs/heads/main",
        before="a" * 40,
        after="b" * 40,
        deleted=False,
        forced=False,
        message="Mend the till",
        pusher="kim",
    )


def test_a_published_release_is_read() -> None:
    assert read("release", JSON, to_bytes(release(prerelease=True))) == PublishedRelease(
        repository=SHOP, tag="v1.2.0", draft=False, prerelease=True, target_commitish="main"
    )


def test_a_release_that_says_no_more_than_the_older_system_read_is_meant_for_everybody() -> None:
    told = {"action": "published", "release": {"tag_name": "v1"}, "repository": {"full_name": "acme/shop"}}

    found = read("release", JSON, to_bytes(told))

    assert isinstance(found, PublishedRelease)
    assert (found.draft, found.prerelease) == (False, False)


def test_every_event_github_documents_is_read() -> None:
    """Must show 3: unsupported ones by the contract's words, whatever they carry."""
    seen = set()
    for event, payload in every_payload():
        meaning = read(event, JSON, to_bytes(payload))
        seen.add(event)
        if event in EVENTS:
            assert meaning == Ignored(reason=f"unsupported event {event}")
        else:
            assert isinstance(meaning, Push | PublishedRelease | Ignored)

    assert len(seen) >= 70


def test_only_a_release_that_is_published_counts() -> None:
    assert read("release", JSON, to_bytes(release(action="created"))) == Ignored(
        reason="unsupported release action created"
    )


def test_a_branch_with_slashes_keeps_its_whole_name() -> None:
    assert read_push(ref="refs/heads/topic/main").branch == "topic/main"
    assert read_push(ref="refs/tags/main").branch is None


@pytest.mark.parametrize("after", [ZERO_SHA, None, "", 7, "b" * 39, "b" * 41, "main", "refs/heads/main"])
def test_a_push_without_a_commit_is_the_end_of_a_branch(after: Any) -> None:
    """R-13."""
    found = read_push(after=after)

    assert (found.after, found.deleted) == (ZERO_SHA, True)


def test_a_sha_is_read_in_small_letters() -> None:
    assert read_push(after="AB" * 20).after == "ab" * 20


def test_the_form_github_can_be_told_to_send_is_read_as_json_is() -> None:
    body = b"payload=" + quote_plus(json.dumps(push())).encode()

    assert read("push", "application/x-www-form-urlencoded; charset=UTF-8", body) == read_push()


def test_files_are_only_known_when_all_of_them_are_listed() -> None:
    commit = push()["commits"][0]

    assert read_push(commits=[commit, {**commit, "added": ["a"], "removed": ["b"]}]).paths == ("src/till.py", "a", "b")
    assert read_push(commits=[commit] * 2048).paths is None
    assert read_push(commits=[commit, {}]).paths is None
    assert read_push(forced=True).paths is None
    assert read_push(before=ZERO_SHA).paths is None


@pytest.mark.parametrize(
    "repository",
    [
        {"name": "shop", "owner": {"login": "acme"}},
        {"full_name": "acme/shop"},
        {"name": "shop", "owner": {}, "full_name": "acme/shop"},
        {"name": 7, "owner": "acme", "full_name": "acme/shop"},
    ],
)
def test_a_repository_is_known_by_its_parts_or_its_full_name(repository: Any) -> None:
    assert read_push(repository=repository).repository.full_name == "acme/shop"


@pytest.mark.parametrize(
    "repository", [None, {}, {"full_name": "shop"}, {"full_name": "a/b/c"}, {"name": "x y", "owner": {"login": "a"}}]
)
def test_without_a_repository_there_is_nothing_to_decide(repository: Any) -> None:
    body = to_bytes({**push(), "repository": repository})

    assert read("push", JSON, body) == Ignored(reason="no repository full_name")


@pytest.mark.parametrize("number", [True, -1, 0, 2**63, 10**400, "x", "²", None, 1.5, []])
def test_an_id_that_is_none_is_left_out(number: Any) -> None:
    found = read_push(repository={"full_name": "acme/shop", "id": number}, installation={"id": number})

    assert (found.repository.repository_id, found.repository.installation_id) == (None, None)


def test_texts_can_be_stored() -> None:
    """PostgreSQL takes no zero bytes."""
    assert "\0" not in read_push(head_commit={"message": "a\0b"}, ref="refs/heads/a\0b").message


def test_whatever_comes_is_read_or_refused() -> None:
    """S-07: 200 kinds of malformed JSON, and nothing but Invalid."""
    kinds = list(malformed.bodies())
    outcomes: dict[str, Meaning | Invalid] = {}
    for name, event, content_type, body in kinds:
        try:
            outcomes[name] = read(event, content_type, body)
        except Invalid as refused:
            outcomes[name] = refused

    assert len(outcomes) == len(kinds) >= 200
    assert {str(each) for each in outcomes.values() if isinstance(each, Invalid)} == {"Invalid JSON payload"}
    for name in malformed.raw():
        assert isinstance(outcomes[f"ping: {name}"], Ignored)
        if name not in {"a number beyond all floats", "duplicate keys"}:
            assert isinstance(outcomes[f"push: {name}"], Invalid), name
