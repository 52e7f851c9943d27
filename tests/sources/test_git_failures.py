"""Each way a server can fail has a name of its own, ends in time and leaves nothing behind."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository, parse_repository
from klepaas.errors import (
    AuthenticationFailed,
    DiskFull,
    KlepaasError,
    NetworkTimeout,
    RepositoryNotFound,
    Unavailable,
)
from klepaas.sources.git import GitSource
from tests.processes.worlds import soon
from tests.servers.git_http import Fault, GitHttpServer, WorkingRepository
from tests.sources.conftest import MakeSource

SOMEBODY = Credential(username="dana", password="a-password")


@pytest.fixture
def shop(git_server: GitHttpServer) -> WorkingRepository:
    shop = git_server.create_repository("team/shop")
    shop.publish({"Dockerfile": "FROM scratch\n"})
    return shop


async def failure_of_fetch(
    source: GitSource, repository: Repository, into: Path, credential: Credential | None = None
) -> KlepaasError:
    with pytest.raises(KlepaasError) as failed:
        await source.fetch(repository, branch="main", commit=None, into=into, credential=credential)

    assert not into.exists()
    return failed.value


@pytest.mark.parametrize(
    ("fault", "credential", "kind", "words"),
    [
        ("not_found", None, RepositoryNotFound, "was not found or is not allowed"),
        ("not_found", SOMEBODY, RepositoryNotFound, "was not found or is not allowed"),
        ("refuse_auth", None, RepositoryNotFound, "was not found or is not allowed"),
        ("refuse_auth", SOMEBODY, AuthenticationFailed, "refuses the project's credential"),
        ("error_503", None, Unavailable, "cannot answer now"),
        ("drop_mid_transfer", None, Unavailable, "broke off"),
    ],
)
async def test_each_refusal_of_a_server_has_its_own_error(
    git_server: GitHttpServer,
    source: GitSource,
    shop: WorkingRepository,
    into: Path,
    fault: Fault,
    credential: Credential | None,
    kind: type[KlepaasError],
    words: str,
) -> None:
    with git_server.failing(fault):
        error = await failure_of_fetch(source, parse_repository(shop.url), into, credential)

    assert type(error) is kind
    assert words in error.message
    assert shop.url in error.message
    assert error.hint
    assert error.evidence["git"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/a/b.git", "does not accept connections"),
        ("http://no-such-host.invalid/a/b.git", "cannot be resolved"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_unavailable(
    source: GitSource, into: Path, url: str, words: str
) -> None:
    error = await failure_of_fetch(source, parse_repository(url), into)
    with pytest.raises(Unavailable):
        await source.head(parse_repository(url), branch="main", credential=None)
    with pytest.raises(Unavailable):
        await source.has(parse_repository(url), branch="main", commit="1" * 40, credential=None)

    assert type(error) is Unavailable
    assert words in error.message


async def test_a_repository_of_this_machine_that_is_not_there_is_not_found(
    make_source: MakeSource, into: Path, tmp_path: Path
) -> None:
    error = await failure_of_fetch(make_source(allow_local=True), parse_repository(f"{tmp_path}/none"), into)

    assert type(error) is RepositoryNotFound


async def test_a_private_repository_opens_to_its_credential_only(
    git_server: GitHttpServer, source: GitSource, into: Path
) -> None:
    private = git_server.create_repository("team/private", token="dana:pa:ss wörd/+%")
    sha = private.publish({"a": "b"})
    repository = parse_repository(private.url)

    nobody = await failure_of_fetch(source, repository, into)
    wrong = await failure_of_fetch(source, repository, into, SOMEBODY)
    right = Credential(username="dana", password="pa:ss wörd/+%")
    commit = await source.fetch(repository, branch="main", commit=None, into=into, credential=right)

    assert (type(nobody), type(wrong), commit.sha) == (RepositoryNotFound, AuthenticationFailed, sha)
    assert await source.head(repository, branch="main", credential=right) == sha
    assert await source.has(repository, branch="main", commit=sha, credential=right)
    assert not await source.has(repository, branch="main", commit=sha, credential=SOMEBODY)


@pytest.mark.parametrize("fault", ["hang", "slow"])
async def test_a_server_that_stops_answering_is_a_timeout(
    git_server: GitHttpServer, make_source: MakeSource, shop: WorkingRepository, into: Path, fault: Fault
) -> None:
    """R-01"""
    source = make_source(network_timeout=timedelta(seconds=1))
    with git_server.failing(fault):
        error = await asyncio.wait_for(failure_of_fetch(source, parse_repository(shop.url), into), 60)

    assert type(error) is NetworkTimeout
    assert not programs_about(git_server)


async def test_looking_at_a_server_that_hangs_is_a_timeout(
    git_server: GitHttpServer, make_source: MakeSource, shop: WorkingRepository
) -> None:
    """R-01"""
    source = make_source(network_timeout=timedelta(seconds=1))
    with git_server.failing("hang"):
        with pytest.raises(NetworkTimeout):
            await asyncio.wait_for(source.head(parse_repository(shop.url), branch="main", credential=None), 60)
        with pytest.raises(NetworkTimeout):
            await asyncio.wait_for(
                source.has(parse_repository(shop.url), branch="main", commit="1" * 40, credential=None), 60
            )

    assert not programs_about(git_server)


async def test_a_server_that_never_completes_a_connection_is_a_timeout(make_source: MakeSource, into: Path) -> None:
    """R-01: neither git nor curl counts this as slow."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):  # the kernel holds one or two in spite of the backlog and drops the rest
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(full.getsockname())
        repository = parse_repository(f"http://127.0.0.1:{full.getsockname()[1]}/a/b.git")
        source = make_source(network_timeout=timedelta(seconds=1))
        error = await asyncio.wait_for(failure_of_fetch(source, repository, into), 60)

    assert type(error) is NetworkTimeout


@pytest.mark.skipif(not shutil.which("ssh"), reason="needs an ssh client")
async def test_an_ssh_server_that_never_speaks_is_a_timeout(make_source: MakeSource, into: Path) -> None:
    """R-01"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        repository = parse_repository(f"ssh://git@127.0.0.1:{silent.getsockname()[1]}/a/b.git")
        error = await failure_of_fetch(make_source(network_timeout=timedelta(seconds=1)), repository, into)

    assert type(error) is NetworkTimeout


@pytest.mark.parametrize("fault", ["hang", "slow"])
async def test_cancelling_ends_git_and_removes_the_folder(
    git_server: GitHttpServer, source: GitSource, shop: WorkingRepository, into: Path, fault: Fault
) -> None:
    """R-03"""
    with git_server.failing(fault):
        task = asyncio.create_task(
            source.fetch(parse_repository(shop.url), branch="main", commit=None, into=into, credential=None)
        )
        await soon(lambda: bool(git_server.requests) and into.exists())
        assert programs_about(git_server)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await soon(lambda: not programs_about(git_server))
    assert not into.exists()


async def test_a_deadline_around_it_ends_git(
    git_server: GitHttpServer, source: GitSource, shop: WorkingRepository, into: Path
) -> None:
    """R-01"""
    with git_server.failing("hang"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await source.fetch(parse_repository(shop.url), branch="main", commit=None, into=into, credential=None)
        await soon(lambda: not programs_about(git_server))

    assert not into.exists()


async def test_a_missing_git_is_said_plainly(make_source: MakeSource, shop: WorkingRepository, into: Path) -> None:
    source = make_source(environment={"PATH": "/nonexistent"})

    error = await failure_of_fetch(source, parse_repository(shop.url), into)

    assert error.message == "The program git is not installed here."


async def test_a_nearly_full_disk_is_refused_before_git_starts(
    git_server: GitHttpServer, make_source: MakeSource, shop: WorkingRepository, into: Path
) -> None:
    """R-09"""
    error = await failure_of_fetch(make_source(min_free_bytes=2**60), parse_repository(shop.url), into)

    assert type(error) is DiskFull
    assert not git_server.requests


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_disk_that_fills_up_meanwhile_is_told_from_other_failures(
    make_source: MakeSource, shop: WorkingRepository, small_disk: Path
) -> None:
    """R-19"""
    shop.publish({"large": os.urandom(4 * 2**20)})
    source = make_source(min_free_bytes=0)

    head = await failure_of_fetch(source, parse_repository(shop.url), small_disk / "a")
    with contextlib.suppress(OSError):
        (small_disk / "filler").write_bytes(bytes(2 * 2**20))
    nothing_left = await failure_of_fetch(source, parse_repository(shop.url), small_disk / "b")

    assert (type(head), type(nothing_left)) == (DiskFull, DiskFull)


def programs_about(server: GitHttpServer) -> list[str]:
    """Command lines of running programs that name the server."""
    lines = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_text()
            if str(server.port) in line and "git" in line:
                lines.append(line)
    return lines
