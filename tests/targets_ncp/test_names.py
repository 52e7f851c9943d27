"""Names at Naver Cloud: within its limits, stable, and telling different repositories apart; S-02."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klepaas.errors import Invalid
from klepaas.targets.ncp.names import chain_names, check_image, check_name, check_tag

# Source: GitHub's own rules for logins and names of repositories.
OWNER = st.from_regex(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}", fullmatch=True)
REPO = st.from_regex(r"[A-Za-z0-9._-]{1,100}", fullmatch=True)
PROVIDERS_IMAGE = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")


def test_plain_names_are_those_of_the_contract() -> None:
    names = chain_names("K-Le-PaaS", "test-01")

    assert names.build == "build-K-Le-PaaS-test-01"
    assert names.deploy == "deploy-K-Le-PaaS-test-01"
    assert names.pipeline == "pipeline-K-Le-PaaS-test-01"
    assert names.repository == "K-Le-PaaS-test-01"
    assert names.image == names.app == "k-le-paas-test-01"


def test_a_pipelines_name_is_cut_to_thirty() -> None:
    long, other = chain_names("acme-corporation", "storefront-service"), chain_names("acme-corporation", "storefront-x")

    assert long.build == "build-acme-corporation-storefront-service"
    assert re.fullmatch(r"pipeline-acme-corporati-[0-9a-f]{6}", long.pipeline)
    assert long.pipeline != other.pipeline


def test_a_dot_and_a_hyphen_are_told_apart() -> None:
    dot, hyphen = chain_names("acme", "a.b"), chain_names("acme", "a-b")

    assert hyphen.build == "build-acme-a-b"
    assert re.fullmatch(r"build-acme-a-b-[0-9a-f]{6}", dot.build)
    assert dot.image == "acme-a.b"


def test_two_projects_of_one_plain_name_are_told_apart_on_request() -> None:
    assert chain_names("a-b", "c") == chain_names("a", "b-c")

    one, other = chain_names("a-b", "c", is_suffixed=True), chain_names("a", "b-c", is_suffixed=True)

    assert not set(vars(one).values()) & set(vars(other).values())


@settings(max_examples=50, deadline=None)
@given(owner=OWNER, repo=REPO, is_suffixed=st.booleans())
def test_every_repository_gets_names_that_are_taken(owner: str, repo: str, is_suffixed: bool) -> None:
    names = chain_names(owner, repo, is_suffixed=is_suffixed)

    assert check_name(names.repository, "repository", 100)
    assert check_name(names.build, "build", 80)
    assert check_name(names.deploy, "deploy", 100)
    assert check_name(names.pipeline, "pipeline", 30)
    assert PROVIDERS_IMAGE.fullmatch(names.image)
    assert len(names.image) <= 200
    assert re.fullmatch(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", names.app)
    assert names == chain_names(owner, repo, is_suffixed=is_suffixed)


@settings(max_examples=50, deadline=None)
@given(owner=OWNER, one=REPO, other=REPO)
def test_two_repositories_of_one_owner_never_share_a_name(owner: str, one: str, other: str) -> None:
    if one.lower() == other.lower():
        return
    first, second = chain_names(owner, one), chain_names(owner, other)

    assert first.pipeline != second.pipeline
    assert first.repository != second.repository
    assert first.image != second.image
    assert first.app != second.app


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "a b", "../x", "-\n", "한글", "a" * 101])
def test_a_name_outside_the_alphabet_is_refused_before_it_is_sent(name: str) -> None:
    with pytest.raises(Invalid):
        check_name(name, "repository", 100)


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a-", "a..b", "a?x=1", "a" * 201, "a" * 100 + "!"])
def test_an_image_outside_the_alphabet_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        check_image(name)


@pytest.mark.parametrize("tag", ["", "--privileged", "1.0.#", "a b", "a/b", "x" * 81])
def test_a_tag_outside_the_alphabet_is_refused(tag: str) -> None:
    with pytest.raises(Invalid):
        check_tag(tag)
