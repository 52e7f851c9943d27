"""Cloning, fetching and pushing with the git program, as anybody or with a token."""

from pathlib import Path

import pytest

from klepaas.testing.github import StandInGitHub, StandInRepository
from tests.servers.git_http import git


def with_token(repository: StandInRepository, token: str, user: str = "x-access-token") -> str:
    return repository.clone_url.replace("://", f"://{user}:{token}@")


def test_a_public_repository_is_cloned_by_anybody(github: StandInGitHub, tmp_path: Path) -> None:
    repository = github.create_repository("team/open", private=False, files={"a.txt": "1"})

    git("clone", "-q", repository.clone_url, "here", cwd=tmp_path)

    assert "1" == (tmp_path / "here/a.txt").read_text()


def test_a_private_repository_asks_a_stranger_for_a_password(shop: StandInRepository, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="could not read Username"):
        git("clone", "-q", shop.clone_url, cwd=tmp_path, env={"GIT_TERMINAL_PROMPT": "0"})


def test_what_does_not_exist_is_not_told_from_what_is_private(github: StandInGitHub, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="could not read Username"):
        git("clone", "-q", f"{github.url}/team/none.git", cwd=tmp_path, env={"GIT_TERMINAL_PROMPT": "0"})


def test_a_token_for_another_repository_does_not_find_it(
    github: StandInGitHub, shop: StandInRepository, tmp_path: Path
) -> None:
    other = github.create_repository("team/other")
    token = github.create_token("kim", repositories=[other])

    with pytest.raises(AssertionError, match="not found"):
        git("clone", "-q", with_token(shop, token), cwd=tmp_path)


def test_a_commit_is_fetched_alone_by_its_sha(github: StandInGitHub, shop: StandInRepository, tmp_path: Path) -> None:
    first = shop.head()
    shop.commit({"app.py": "print(2)\n"})
    installation = github.install("team", repositories=[shop])
    url = with_token(shop, github.create_installation_token(installation))

    git("init", "-q", cwd=tmp_path)
    git("fetch", "-q", "--depth=1", url, first, cwd=tmp_path)

    assert [first] == git("rev-list", "FETCH_HEAD", cwd=tmp_path).split()


def test_a_push_moves_the_branch(github: StandInGitHub, shop: StandInRepository, tmp_path: Path) -> None:
    git("clone", "-q", with_token(shop, github.create_token("kim")), "here", cwd=tmp_path)
    (tmp_path / "here/new.txt").write_text("new")
    git("add", "-A", cwd=tmp_path / "here")
    git("commit", "-q", "-m", "New", cwd=tmp_path / "here")

    git("push", "-q", "origin", "main", cwd=tmp_path / "here")

    assert git("rev-parse", "HEAD", cwd=tmp_path / "here") == shop.head()
    assert "new" == shop.file("new.txt")


def test_a_token_that_may_only_read_does_not_push(
    github: StandInGitHub, shop: StandInRepository, tmp_path: Path
) -> None:
    url = with_token(shop, github.create_token("kim", permissions={"contents": "read"}))
    git("clone", "-q", url, "here", cwd=tmp_path)

    with pytest.raises(AssertionError, match="403"):
        git("push", "-q", "origin", "HEAD:refs/heads/mine", cwd=tmp_path / "here")


def test_a_renamed_repository_is_cloned_by_its_old_name(
    github: StandInGitHub, shop: StandInRepository, tmp_path: Path
) -> None:
    old = shop.clone_url
    shop.rename("store")

    url = old.replace("://", f"://any:{github.create_token('kim')}@")
    git("-c", "http.followRedirects=true", "clone", "-q", url, "here", cwd=tmp_path)

    assert shop.head() == git("rev-parse", "HEAD", cwd=tmp_path / "here")
    assert "/team/store.git" in shop.clone_url


def test_what_the_server_commits_is_sound(github: StandInGitHub, shop: StandInRepository, tmp_path: Path) -> None:
    shop.commit({"docs/more/deep.md": "deep", "docs.txt": "beside", "run": "#!/bin/sh\n", "app.py": None})
    shop.commit({"f.txt": "f"}, branch="f")
    shop.merge(shop.open_pull("f"))
    shop.tag("v1", annotated=True)

    git("clone", "-q", with_token(shop, github.create_token("kim")), "here", cwd=tmp_path)

    assert "" == git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=tmp_path / "here")
    assert {"docs/more/deep.md", "docs/use.md", "docs.txt", "f.txt", "run"} == set(
        git("ls-files", cwd=tmp_path / "here").splitlines()
    )
