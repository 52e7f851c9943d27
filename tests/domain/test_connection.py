from datetime import UTC, datetime

import pytest

from klepaas.domain.connection import Connection, ConnectionKind, parse_host
from klepaas.domain.repository import parse_repository
from klepaas.errors import Invalid


def connection(host: str | None = None) -> Connection:
    return Connection(
        id="con_1",
        owner_id="own_1",
        kind=ConnectionKind.GIT_BASIC,
        name="forge",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        host=None if host is None else parse_host(host),
    )


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("git.example.org", "git.example.org"),
        (" GIT.Example.org ", "git.example.org"),
        ("git.example.org:443", "git.example.org"),
        ("git.example.org:8443", "git.example.org:8443"),
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("[::1]:3000", "[::1]:3000"),
    ],
)
def test_a_server_is_named_in_one_way(given: str, host: str) -> None:
    assert parse_host(given) == host


@pytest.mark.parametrize(
    "given",
    [
        *("", " ", "a b", "a\nb", "a:b", "a:70000", "*.example.org", "x" * 300),
        *("https://git.example.org", "git.example.org/team", "me@git.example.org", "a?b", "a#b", "a,b", "a\\b"),
    ],
)
def test_what_is_no_server_is_refused(given: str) -> None:
    with pytest.raises(Invalid, match="not the name of a server"):
        parse_host(given)


@pytest.mark.parametrize(
    ("host", "repository"),
    [
        (None, "https://git.example.org/a/b"),
        (None, "http://localhost:3000/a/b"),
        ("git.example.org", "https://GIT.example.org:443/a/b.git"),
        ("git.example.org:8443", "https://git.example.org:8443/a/b"),
        ("github.com", "octo/shop"),
        ("[::1]:3000", "http://[::1]:3000/a/b"),
    ],
)
def test_a_connection_opens_repositories_of_its_server(host: str | None, repository: str) -> None:
    connection(host).check_may_open(parse_repository(repository))


@pytest.mark.parametrize(
    "repository",
    [
        "https://git.example.org.evil.test/a/b",
        "https://evil.test/git.example.org",
        "https://evil-git.example.org/a/b",
        "https://git.example.org:8443/a/b",
        "https://git.example.org./a/b",
        "octo/shop",
    ],
)
def test_a_connection_of_one_server_opens_nothing_elsewhere(repository: str) -> None:
    """S-10."""
    with pytest.raises(Invalid, match=r"for git\.example\.org only"):
        connection("git.example.org").check_may_open(parse_repository(repository))


@pytest.mark.parametrize(
    "repository",
    ["http://git.example.org/a/b", "ssh://git@git.example.org/a/b", "git@git.example.org:a/b", "/srv/git/b"],
)
@pytest.mark.parametrize("host", [None, "git.example.org"])
def test_a_connection_is_for_https_only(host: str | None, repository: str) -> None:
    with pytest.raises(Invalid, match=r"only used with https|needs no connection"):
        connection(host).check_may_open(parse_repository(repository))
