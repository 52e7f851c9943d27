"""S-01, S-02: no name of a repository, branch, commit or path makes git do anything but fetch."""

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from klepaas.domain.repository import (
    Repository,
    SourceKind,
    parse_branch,
    parse_commit,
    parse_path,
    parse_repository,
)
from klepaas.errors import Invalid, KlepaasError
from klepaas.sources.git import GitSource
from tests.servers.git_http import GitHttpServer
from tests.sources.conftest import MakeSource


@pytest.mark.parametrize(
    "branch",
    ["main", "기능/배포", "feature/a+b", "dependabot/pip/x-1.2.3", "#12-fix", "🚀/go", "a(b)", "v1.0", "a,b", "ü", "Å"],
)
def test_names_git_knows_are_branches(branch: str) -> None:
    assert parse_branch(branch) == parse_branch(f"refs/heads/{branch}") == branch


@pytest.mark.parametrize(
    "branch",
    [
        *[
            "",
            "-f",
            "--upload-pack=touch x",
            "@{-1}",
            "a@{1}",
            "@",
            "+main",
            "+a:b",
            "a:b",
            "refs/heads/-f",
            "refs/heads/",
        ],
        *[
            "a..b",
            "a b",
            "main\n",
            "a\tb",
            "a\0b",
            "a\x7f",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.",
            "x.lock",
            "x.lock/y",
        ],
        *["a~1", "a^", "a*", "a?", "a[b", "a\\b", "a$b", "a`b", "a;b", "a|b", "a'b", 'a"b', "a<b"],
        *["\u202eab", "a\u200bb", "a\u00a0b", "a\u2028b", "\udcff", "한" * 90],
    ],
)
def test_options_revisions_and_invisible_signs_are_no_branches(branch: str) -> None:
    """S-02"""
    with pytest.raises(Invalid, match="is not a branch name"):
        parse_branch(branch)


@pytest.mark.parametrize(
    "text",
    ["ext::sh -c touch% x", "fd::17/foo", "-f", "--upload-pack=x", "git://h/x", "ftp://h/x", "https://-h/x", "a/b/c"],
)
def test_other_protocols_and_options_are_no_repositories(text: str) -> None:
    """S-02"""
    with pytest.raises(Invalid):
        parse_repository(text)


PAYLOADS = (
    *["$(touch {canary})", "`touch {canary}`", "; touch {canary}", "| touch {canary}", "\ntouch {canary}\n"],
    *["--upload-pack=touch {canary}", "-u touch {canary};", "--config=core.sshCommand=touch {canary}"],
    *["ext::sh -c touch% {canary}", "ext::touch {canary}", "fd::7", "-f", "@{{-1}}", "--output={canary}"],
    *["ssh://-oProxyCommand=touch {canary}/x", "ssh://h:-oProxyCommand=x/y", "git@-oProxyCommand=touch:x"],
    *["file://{canary}/../x", "../../{canary}", "--template={canary}", "-c", "--exec=touch {canary}"],
)

_texts = st.one_of(
    st.sampled_from(PAYLOADS),
    st.tuples(st.sampled_from(["", "main", "a/b", "https://127.0.0.1:1/", "-", "--"]), st.sampled_from(PAYLOADS)).map(
        "".join
    ),
    st.text(max_size=40),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(repository=_texts, branch=_texts, commit=_texts, path=_texts)
@example(repository=PAYLOADS[8], branch="main", commit="1234567", path="-f")
@example(repository="/{canary}", branch=PAYLOADS[5], commit="1" * 40, path="a")
def test_no_text_makes_git_run_or_write_anything(repository: str, branch: str, commit: str, path: str) -> None:
    """S-01, S-02: past our own checks too, as if they were not there."""
    with TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        repository, branch, commit, path = (
            text.replace("{canary}", str(canary)) for text in (repository, branch, commit, path)
        )
        for parse, text in ((parse_repository, repository), (parse_commit, commit), (parse_path, path)):
            with suppress(Invalid):
                parse(text)
        for kind in (SourceKind.URL, SourceKind.LOCAL):
            unchecked = Repository(kind=kind, location=repository.replace("\0", ""))
            asyncio.run(_fetch_every_way(unchecked, branch, commit, Path(folder)))

        assert not canary.exists()
        assert not [child for child in Path(folder).iterdir() if child.name != "scratch"]


async def _fetch_every_way(repository: Repository, branch: str, commit: str, folder: Path) -> None:
    source = GitSource(
        allow_local=True,
        network_timeout=timedelta(seconds=5),
        environment=os.environ,
        scratch=folder / "scratch",
    )
    for name, wanted in (("main", None), ("main", "1" * 40), ("main", "1234567"), (branch, None), ("main", commit)):
        with suppress(KlepaasError):
            await source.fetch(repository, branch=name, commit=wanted, into=folder / "into", credential=None)
    with suppress(KlepaasError):
        await source.head(repository, branch=branch, credential=None)


@pytest.mark.parametrize("kind", [SourceKind.URL, SourceKind.GITHUB])
async def test_only_the_protocols_of_servers_are_spoken(
    make_source: MakeSource, git_server: GitHttpServer, into: Path, tmp_path: Path, kind: SourceKind
) -> None:
    """S-02: also when a location came past the checks, and when local repositories are allowed."""
    shop = git_server.create_repository()
    shop.publish({"a": "b"})
    canary = tmp_path / "canary"
    source = make_source(allow_local=True)

    for location in (f"ext::touch {canary}", f"--upload-pack=touch {canary}", str(shop.bare), f"file://{shop.bare}"):
        with pytest.raises(KlepaasError):
            await source.fetch(
                Repository(kind=kind, location=location), branch="main", commit=None, into=into, credential=None
            )
        with pytest.raises(KlepaasError):
            await source.head(Repository(kind=kind, location=location), branch="main", credential=None)

    assert not canary.exists()
    assert not into.exists()
