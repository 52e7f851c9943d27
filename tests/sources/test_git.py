"""One commit of a real git server, as files, without its history."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from klepaas.domain.repository import parse_repository
from klepaas.errors import BranchNotFound, CommitNotFound, Invalid, NotAllowed
from klepaas.sources.git import GitSource
from tests.servers.git_http import GitHttpServer, WorkingRepository, git
from tests.sources.conftest import MakeSource


@pytest.fixture
def shop(git_server: GitHttpServer) -> WorkingRepository:
    """A repository with three commits on main."""
    shop = git_server.create_repository("team/shop")
    for number in (1, 2, 3):
        shop.publish({"app/version.txt": f"{number}"}, f"판 {number}\n\nmore words")
    return shop


def shas(shop: WorkingRepository) -> list[str]:
    """Its commits, newest first."""
    return git("rev-list", "HEAD", cwd=shop.work).split()


async def test_the_head_of_a_branch_arrives_as_files_without_history(
    source: GitSource, shop: WorkingRepository, into: Path, tmp_path: Path
) -> None:
    commit = await source.fetch(parse_repository(shop.url), branch="main", commit=None, into=into, credential=None)

    async with asyncio.timeout(10):  # what git kept beside them is removed later
        while list((tmp_path / "scratch").iterdir()):
            await asyncio.sleep(0.01)
    assert (commit.sha, commit.message, commit.author) == (shas(shop)[0], "판 3", "Dana 다나")
    assert commit.committed_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - commit.committed_at) < timedelta(hours=1)
    assert [path.relative_to(into).as_posix() for path in sorted(into.rglob("*"))] == ["app", "app/version.txt"]
    assert (into / "app/version.txt").read_text() == "3"


@pytest.mark.parametrize("digits", [40, 12, 7])
@pytest.mark.parametrize("old_protocol", [False, True])
async def test_a_commit_in_the_past_is_found_by_its_sha_or_the_beginning_of_it(
    git_server: GitHttpServer,
    source: GitSource,
    shop: WorkingRepository,
    into: Path,
    digits: int,
    old_protocol: bool,
) -> None:
    first = shas(shop)[-1]
    git_server.old_protocol = old_protocol

    commit = await source.fetch(
        parse_repository(shop.url), branch="main", commit=first[:digits], into=into, credential=None
    )

    assert (commit.sha, commit.message, os.listdir(into)) == (first, "판 1", ["app"])
    assert (into / "app/version.txt").read_text() == "1"


async def test_a_commit_deeper_than_the_first_look_is_found_on_an_old_server(
    git_server: GitHttpServer, source: GitSource, into: Path
) -> None:
    deep = git_server.create_repository("deep")
    first = deep.commit({"a": "first"})
    for _ in range(60):
        deep.commit({})
    deep.push()
    git_server.old_protocol = True

    commit = await source.fetch(parse_repository(deep.url), branch="main", commit=first, into=into, credential=None)

    assert (commit.sha, (into / "a").read_text()) == (first, "first")


@pytest.mark.parametrize("filters", ["true", "false"])
async def test_a_prefix_that_fits_several_commits_is_refused_and_lists_them(
    git_server: GitHttpServer, source: GitSource, into: Path, filters: str
) -> None:
    twins = git_server.create_repository("twins")
    twins.configure("uploadpack.allowFilter", filters)
    # Two commits whose ids begin alike, found once by trying dates: there is no quicker way to have some.
    for second in TWIN_SECONDS:
        when = {"GIT_AUTHOR_DATE": f"{second} +0000", "GIT_COMMITTER_DATE": f"{second} +0000"}
        git("checkout", "-q", "--orphan", f"b{second}", cwd=twins.work)
        git("commit", "-q", "--allow-empty", "-m", "twin", cwd=twins.work, env=when)
    left, right = (git("rev-parse", f"b{second}", cwd=twins.work) for second in TWIN_SECONDS)
    git("checkout", "-q", "-B", "main", left, cwd=twins.work)
    git("merge", "-q", "--allow-unrelated-histories", "-m", "both", right, cwd=twins.work)
    twins.push()
    assert left[:7] == right[:7]

    with pytest.raises(Invalid, match=f"{left[:7]} fits 2 commits of branch 'main'") as refused:
        await source.fetch(parse_repository(twins.url), branch="main", commit=left[:7], into=into, credential=None)

    assert refused.value.evidence["matches"] == sorted([left, right])
    assert not into.exists()


TWIN_SECONDS = (1600003186, 1600005003)


@pytest.mark.parametrize("branch", ["기능/배포", "feature/a+b", "#12-fix", "release/1.x", "ü(2)"])
async def test_branches_are_called_as_people_call_them(
    source: GitSource, shop: WorkingRepository, into: Path, branch: str
) -> None:
    shop.branch(branch)
    sha = shop.publish({"on": branch})

    commit = await source.fetch(parse_repository(shop.url), branch=branch, commit=None, into=into, credential=None)
    found = await source.fetch(
        parse_repository(shop.url), branch=branch, commit=sha[:8], into=into.with_name("again"), credential=None
    )
    head = await source.head(parse_repository(shop.url), branch=branch, credential=None)

    assert (commit.sha, found.sha, head) == (sha, sha, sha)
    assert (into / "on").read_text() == branch


async def test_a_repository_whose_default_branch_is_another_one_is_no_different(
    git_server: GitHttpServer, source: GitSource, into: Path
) -> None:
    legacy = git_server.create_repository("legacy", branch="master")
    legacy.publish({"on": "master"})
    legacy.branch("production")
    sha = legacy.publish({"on": "production"})

    commit = await source.fetch(
        parse_repository(legacy.url), branch="production", commit=None, into=into, credential=None
    )

    assert commit.sha == sha


async def test_a_branch_that_is_not_there_is_named_beside_those_that_are(
    source: GitSource, shop: WorkingRepository, into: Path
) -> None:
    for name in ("a1", "a2", "a3", "a4", "a5", "develop"):
        shop.branch(name)
        shop.push()

    with pytest.raises(BranchNotFound, match="has no branch 'develpo'") as refused:
        await source.fetch(parse_repository(shop.url), branch="develpo", commit=None, into=into, credential=None)
    with pytest.raises(BranchNotFound, match="has no branch 'develpo'"):
        await source.head(parse_repository(shop.url), branch="develpo", credential=None)

    assert refused.value.hint == "It has develop, a1, a2, a3, a4 and 2 more."
    assert not into.exists()


async def test_a_prefix_in_a_branch_that_is_not_there_names_the_branch(
    source: GitSource, shop: WorkingRepository, into: Path
) -> None:
    with pytest.raises(BranchNotFound, match="has no branch 'mian'") as refused:
        await source.fetch(
            parse_repository(shop.url), branch="mian", commit=shas(shop)[0][:8], into=into, credential=None
        )

    assert refused.value.hint == "It has main."


async def test_an_empty_repository_has_no_branches(git_server: GitHttpServer, source: GitSource, into: Path) -> None:
    empty = git_server.create_repository("empty")

    with pytest.raises(BranchNotFound, match="has no branch 'main'") as refused:
        await source.fetch(parse_repository(empty.url), branch="main", commit=None, into=into, credential=None)

    assert "no branches at all" in refused.value.hint


async def test_a_tag_is_not_a_branch(source: GitSource, shop: WorkingRepository, into: Path) -> None:
    shop.tag("v1.0")

    with pytest.raises(BranchNotFound, match=r"has no branch 'v1\.0'"):
        await source.fetch(parse_repository(shop.url), branch="v1.0", commit=None, into=into, credential=None)
    with pytest.raises(BranchNotFound, match=r"has no branch 'v1\.0'"):
        await source.head(parse_repository(shop.url), branch="v1.0", credential=None)


async def test_a_branch_with_the_name_of_a_tag_is_still_the_branch(
    source: GitSource, shop: WorkingRepository, into: Path
) -> None:
    shop.tag("both")
    git("checkout", "-q", "-b", "both", cwd=shop.work)
    sha = shop.commit({"new": "yes"})
    git("push", "-q", "origin", "refs/heads/both", cwd=shop.work)

    commit = await source.fetch(parse_repository(shop.url), branch="both", commit=None, into=into, credential=None)

    assert commit.sha == sha


@pytest.mark.parametrize("old_protocol", [False, True])
@pytest.mark.parametrize("commit", ["1" * 40, "1234567"])
async def test_a_commit_that_is_not_there_is_named(
    git_server: GitHttpServer,
    source: GitSource,
    shop: WorkingRepository,
    into: Path,
    commit: str,
    old_protocol: bool,
) -> None:
    git_server.old_protocol = old_protocol

    with pytest.raises(CommitNotFound, match=f"There is no commit {commit} in "):
        await source.fetch(parse_repository(shop.url), branch="main", commit=commit, into=into, credential=None)

    assert not into.exists()


@pytest.mark.parametrize("what", ["HEAD^{tree}", "HEAD:app/version.txt", "v1"])
async def test_the_id_of_something_else_is_not_a_commit(
    source: GitSource, shop: WorkingRepository, into: Path, what: str
) -> None:
    shop.tag("v1")
    other = git("rev-parse", what, cwd=shop.work)

    with pytest.raises(CommitNotFound, match=other):
        await source.fetch(parse_repository(shop.url), branch="main", commit=other, into=into, credential=None)

    assert not await source.has(parse_repository(shop.url), branch="main", commit=other, credential=None)
    assert not into.exists()


@pytest.mark.parametrize("old_protocol", [False, True])
async def test_has_knows_what_can_still_be_fetched(
    git_server: GitHttpServer, source: GitSource, shop: WorkingRepository, tmp_path: Path, old_protocol: bool
) -> None:
    repository = parse_repository(shop.url)
    git_server.old_protocol = old_protocol

    past = await source.has(repository, branch="main", commit=shas(shop)[-1], credential=None)
    never = await source.has(repository, branch="main", commit="1" * 40, credential=None)
    gone = await source.has(
        parse_repository(f"{git_server.url}/gone.git"), branch="main", commit=shas(shop)[0], credential=None
    )

    assert (past, never, gone) == (True, False, False)
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_commit_that_a_force_push_removed_is_gone_when_the_server_cleaned_up(
    source: GitSource, shop: WorkingRepository
) -> None:
    lost = shas(shop)[0]
    shop.rewind()
    git("reflog", "expire", "--expire=now", "--all", cwd=shop.bare)
    git("prune", "--expire=now", cwd=shop.bare)

    assert not await source.has(parse_repository(shop.url), branch="main", commit=lost, credential=None)


async def test_head_follows_the_branch_without_fetching_it(
    git_server: GitHttpServer, source: GitSource, shop: WorkingRepository
) -> None:
    repository = parse_repository(shop.url)

    before = await source.head(repository, branch="main", credential=None)
    sha = shop.publish({"new": "yes"})
    after = await source.head(repository, branch="main", credential=None)
    shop.rewind()
    rewound = await source.head(repository, branch="main", credential=None)

    assert (rewound, after) == (before, sha)


async def test_head_is_not_fooled_by_a_branch_that_ends_like_the_other(
    source: GitSource, shop: WorkingRepository
) -> None:
    shop.branch("x/refs/heads/only")
    shop.push()

    with pytest.raises(BranchNotFound, match="has no branch 'only'"):
        await source.head(parse_repository(shop.url), branch="only", credential=None)


@pytest.mark.parametrize("which", ["bare", "work"])
@pytest.mark.parametrize("scheme", ["", "file://"])
async def test_a_repository_of_this_machine_needs_the_operators_permission(
    make_source: MakeSource, shop: WorkingRepository, into: Path, which: str, scheme: str
) -> None:
    repository = parse_repository(f"{scheme}{getattr(shop, which)}")
    allowed, forbidden = make_source(allow_local=True), make_source(allow_local=False)

    with pytest.raises(NotAllowed, match="not allowed here") as refused:
        await forbidden.fetch(repository, branch="main", commit=None, into=into, credential=None)
    with pytest.raises(NotAllowed):
        await forbidden.head(repository, branch="main", credential=None)
    with pytest.raises(NotAllowed):
        await forbidden.has(repository, branch="main", commit=shas(shop)[0], credential=None)
    assert not into.exists()
    commit = await allowed.fetch(repository, branch="main", commit=None, into=into, credential=None)
    earlier = await allowed.fetch(
        repository, branch="main", commit=shas(shop)[1], into=into.with_name("b"), credential=None
    )

    assert "KLEPAAS_LOCAL_REPOSITORIES" in refused.value.hint
    assert [commit.sha, earlier.sha] == shas(shop)[:2]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
async def test_a_repository_of_another_user_of_this_machine_can_be_fetched(
    make_source: MakeSource, shop: WorkingRepository, into: Path
) -> None:
    for path in [shop.bare, *shop.bare.rglob("*")]:
        os.chown(path, 65534, 65534)

    commit = await make_source(allow_local=True).fetch(
        parse_repository(str(shop.bare)), branch="main", commit=None, into=into, credential=None
    )

    assert commit.sha == shas(shop)[0]


async def test_control_characters_in_a_message_or_name_do_not_reach_a_terminal(
    source: GitSource, shop: WorkingRepository, into: Path
) -> None:
    shop.publish({"a": "b"}, "red \x1b[31malert\x07 \u202eback")

    commit = await source.fetch(parse_repository(shop.url), branch="main", commit=None, into=into, credential=None)

    assert commit.message == "red  [31malert   back"


async def test_a_folder_that_exists_is_not_ours_to_fill_or_remove(
    source: GitSource, shop: WorkingRepository, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("precious")

    with pytest.raises(FileExistsError):
        await source.fetch(parse_repository(shop.url), branch="main", commit=None, into=tmp_path, credential=None)

    assert (tmp_path / "mine").read_text() == "precious"


async def test_the_configuration_and_templates_of_the_machine_are_not_read(
    make_source: MakeSource, shop: WorkingRepository, into: Path, tmp_path: Path
) -> None:
    """S-01: what an operator's own git would run, klepaas does not."""
    home = tmp_path / "home"
    (home / "templates" / "hooks").mkdir(parents=True)
    hook = home / "templates" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {home}/ran\n")
    hook.chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[init]\n templateDir = {home}/templates\n[core]\n hooksPath = {home}/templates/hooks\n"
        f'[filter "lfs"]\n smudge = touch {home}/ran\n'
    )
    shop.publish({".gitattributes": "* filter=lfs\n"})
    environment = {**os.environ, "HOME": str(home), "GIT_TEMPLATE_DIR": str(home / "templates")}
    source = make_source(environment=environment)

    await source.fetch(parse_repository(shop.url), branch="main", commit=None, into=into, credential=None)
    await source.fetch(
        parse_repository(shop.url), branch="main", commit=shas(shop)[1], into=into.with_name("b"), credential=None
    )

    assert not (home / "ran").exists()
