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


SECRET = "c4n4ry-of-a-password"


@pytest.mark.parametrize(
    "text",
    [
        f"https://u:{SECRET}@host:abc/x",
        f"https://u:{SECRET}/x",
        f"https://[{SECRET}]@host/x",
        f"https://{SECRET}℀@host/x",
        f"ftp://u:{SECRET}@host/x",
        f"git+https://{SECRET}@github.com/a/b",
        f"https://u:{SECRET}@host/a b",
        f"https://u:{SECRET} and more@host/a",
        f"https://u:{SECRET}@twice@host/a\nb",
        f"https://{'u' * 60}{SECRET}@{'host' * 200}/a",
        f"u:{SECRET}@host:path",
        f"u:{SECRET}@host://path",
        f"{SECRET}@host:-path",
        f"https://u:{SECRET}@host/x",
        f"https://{SECRET}@host/x",
        f"ftp://host/x?token={SECRET}",
    ],
)
def test_a_credential_in_an_address_that_is_refused_is_not_repeated(text: str) -> None:
    """S-05."""
    with pytest.raises(Invalid) as refused:
        parse_repository(text)

    said = f"{refused.value.message} {refused.value.hint} {refused.value.evidence}"
    assert SECRET not in said
    assert SECRET[:8] not in said
    assert refused.value.__cause__ is None


def test_what_is_no_secret_of_a_refused_address_is_shown() -> None:
    with pytest.raises(Invalid, match=r"'ftp://…@host/x' is not a repository klepaas can fetch"):
        parse_repository("ftp://u:secret@host/x")
    with pytest.raises(Invalid, match=r"'owner/re po' is not a repository"):
        parse_repository("owner/re po")


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
