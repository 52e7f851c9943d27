"""Names that may reach git, and names that may not (S-02)."""

import pytest

from klepaas.domain.project import parse_name, parse_variable
from klepaas.domain.repository import SourceKind, parse_branch, parse_commit, parse_path, parse_repository
from klepaas.errors import Invalid


@pytest.mark.parametrize(
    ("text", "kind", "location"),
    [
        ("K-Le-PaaS/test01", SourceKind.GITHUB, "https://github.com/K-Le-PaaS/test01.git"),
        ("https://git.example.org/team/app.git", SourceKind.URL, "https://git.example.org/team/app.git"),
        ("ssh://git@git.example.org:2222/app", SourceKind.URL, "ssh://git@git.example.org:2222/app"),
        ("git@github.com:acme/shop.git", SourceKind.URL, "git@github.com:acme/shop.git"),
        ("/srv/git/shop", SourceKind.LOCAL, "/srv/git/shop"),
        ("file:///srv/git/shop", SourceKind.LOCAL, "/srv/git/shop"),
    ],
)
def test_a_repository_is_read_as_people_write_it(text: str, kind: SourceKind, location: str) -> None:
    repository = parse_repository(text)

    assert (kind, location) == (repository.kind, repository.location)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "--upload-pack=touch /tmp/x",
        "-f",
        "ext::sh -c touch% /tmp/x",
        "fd::17",
        "owner",
        "owner/repo/more",
        "../etc/passwd",
        "https://user:secret@example.org/a",
        "https://token@example.org/a",
        "https://-oProxyCommand=x/a",
        "ssh://-oProxyCommand=x/a",
        "-oProxyCommand=x@host:path",
        "user@host:-path",
        "ftp://example.org/a",
        "https:///nohost",
        "owner/..",
        "owner/re po",
        "file://remote/share",
        "https://example.org/a\nb",
    ],
)
def test_what_is_no_repository_is_refused_before_git_sees_it(text: str) -> None:
    with pytest.raises(Invalid):
        parse_repository(text)


@pytest.mark.parametrize("name", ["main", "release/1.2", "feature/a_b", "기능/배포", "v1+2", "dependabot/npm-1"])
def test_a_branch_may_be_named_as_git_allows(name: str) -> None:
    assert name == parse_branch(name)
    assert name == parse_branch(f"refs/heads/{name}")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-f",
        "--upload-pack=x",
        "@{-1}",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a[",
        "a\\b",
        ".a",
        "a.lock",
        "a/",
        "a//b",
        "a\nb",
    ],
)
def test_a_branch_that_looks_like_something_else_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        parse_branch(name)


@pytest.mark.parametrize("text", ["", "abc", "HEAD", "-f", "g" * 40, "a" * 41, "abcdef1;ls"])
def test_what_is_no_commit_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_commit(text)


def test_a_commit_is_kept_in_lower_case() -> None:
    assert "abcdef1" == parse_commit("ABCDEF1")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "-f", "~/x", "a\\b", "a\0b"])
def test_a_path_cannot_leave_the_repository(path: str) -> None:
    with pytest.raises(Invalid):
        parse_path(path)


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "", "a" * 41, "--privileged", "a/b"])
def test_a_project_name_is_plain(name: str) -> None:
    with pytest.raises(Invalid):
        parse_name(name)


@pytest.mark.parametrize("name", ["A=B", "1A", "", "A B", "A-B", "A\n"])
def test_a_variable_name_is_plain(name: str) -> None:
    with pytest.raises(Invalid):
        parse_variable(name)
