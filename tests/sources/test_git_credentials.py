"""S-05: a credential reaches the one server it is for, and nobody else ever sees it."""

import asyncio
import base64
import contextlib
import json
import os
import traceback
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from klepaas.domain.connection import Credential
from klepaas.domain.repository import parse_repository
from klepaas.errors import AuthenticationFailed, KlepaasError, RepositoryNotFound
from klepaas.sources.git import GitSource
from klepaas.sources.git_program import GitProgram
from tests.processes.worlds import soon
from tests.servers.git_http import GitHttpServer
from tests.sources.conftest import MakeSource

CANARY = "canary/+ s3cr3t:&é"
CREDENTIAL = Credential(username="dana", password=CANARY)
PAIR = base64.b64encode(f"dana:{CANARY}".encode()).decode()
FORMS = [CANARY, quote(CANARY), quote(CANARY, safe=""), quote_plus(CANARY), PAIR, PAIR.rstrip("=")]
FORMS += [base64.b64encode(CANARY.encode()).decode().rstrip("="), json.dumps(CANARY)[1:-1]]


def forms_in(text: str) -> list[str]:
    return [form for form in FORMS if form in text]


def everything_about(error: BaseException) -> str:
    told = [*traceback.format_exception(error), repr(error)]
    if isinstance(error, KlepaasError):
        told += [error.message, error.hint, str(error.evidence)]
    return "\n".join(told)


def command_lines() -> str:
    lines = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            lines.append((process / "cmdline").read_text(errors="replace"))
    return "\n".join(lines)


async def test_while_git_runs_it_is_in_no_command_line_and_in_no_file(
    git_server: GitHttpServer, source: GitSource, into: Path
) -> None:
    private = git_server.create_repository("team/private", token=f"dana:{CANARY}")
    private.publish({"a": "b"})
    with git_server.failing("slow"):
        task = asyncio.create_task(
            source.fetch(parse_repository(private.url), branch="main", commit=None, into=into, credential=CREDENTIAL)
        )
        seen = ""
        while not git_server.requests["git-upload-pack"] > 1:
            seen += command_lines()
            await asyncio.sleep(0)
        await soon((into / ".git" / "config").exists)
        seen += command_lines()
        files = "".join(path.read_text(errors="replace") for path in (into / ".git").rglob("*") if path.is_file())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert f"127.0.0.1:{git_server.port}" in seen, "the command lines of git were not seen at all"
    assert "[remote" in files
    assert forms_in(seen + files) == []
    assert {authorization for _, authorization in git_server.authorizations} == {f"Basic {PAIR}"}


async def test_no_error_holds_it_even_when_the_server_says_it_aloud(
    git_server: GitHttpServer, source: GitSource, tmp_path: Path
) -> None:
    private = git_server.create_repository("team/private", token=f"dana:{CANARY}")
    private.publish({"a": "b"})
    git_server.words = "\n".join(["You sent", *FORMS])
    errors = []
    for fault in ("refuse_auth", "not_found", "error_503", "drop_mid_transfer"):
        with git_server.failing(fault), pytest.raises(KlepaasError) as failed:
            await source.fetch(
                parse_repository(private.url),
                branch="main",
                commit=None,
                into=tmp_path / fault,
                credential=CREDENTIAL,
            )
        errors.append(everything_about(failed.value))

    assert any("You sent" in error for error in errors), "the server's words did not arrive"
    assert forms_in("".join(errors)) == []


async def test_it_does_not_follow_a_redirect_to_another_server(
    git_server: GitHttpServer, source: GitSource, into: Path
) -> None:
    thief = GitHttpServer()
    thief.start()
    try:
        bait = thief.create_repository("team/bait")
        bait.publish({"a": "b"})
        git_server.move("team/shop", bait.url)
        moved = parse_repository(f"{git_server.url}/team/shop.git")

        with pytest.raises(RepositoryNotFound, match="has moved") as failed:
            await source.fetch(moved, branch="main", commit=None, into=into, credential=CREDENTIAL)
        with pytest.raises(RepositoryNotFound, match="has moved"):
            await source.head(moved, branch="main", credential=CREDENTIAL)
        without = await source.fetch(moved, branch="main", commit=None, into=into, credential=None)
    finally:
        thief.stop()

    assert "new address" in failed.value.hint
    assert without.message == "Change"
    assert thief.authorizations == []
    assert len(git_server.authorizations) == 2


async def test_it_is_not_sent_without_encryption(make_source: MakeSource, into: Path) -> None:
    repository = parse_repository("http://git.example.org/team/shop.git")

    with pytest.raises(AuthenticationFailed, match="without encryption") as failed:
        await make_source().fetch(repository, branch="main", commit=None, into=into, credential=CREDENTIAL)

    assert forms_in(everything_about(failed.value)) == []
    assert not into.exists()


@pytest.mark.parametrize("location", ["ssh://git@git.example.org/a/b", "git@git.example.org:a/b", "/srv/git/b"])
def test_a_server_that_does_not_speak_http_is_not_told(program: GitProgram, location: str) -> None:
    assert forms_in(str(program.environment(parse_repository(location), CREDENTIAL))) == []


def test_it_is_for_one_host_only(program: GitProgram) -> None:
    variables = program.environment(parse_repository("https://git.example.org:8443/a/b.git"), CREDENTIAL)
    [key] = [name for name, value in variables.items() if forms_in(value)]

    assert variables[key.replace("VALUE", "KEY")] == "http.https://git.example.org:8443/.extraHeader"


def test_git_sees_no_other_variable_of_ours(program: GitProgram) -> None:
    variables = program.environment(parse_repository("https://git.example.org/a/b.git"), None)

    assert variables["PATH"] == os.environ["PATH"]
    assert variables["HTTPS_PROXY"] == "http://proxy.example.org:3128"
    assert not {"KLEPAAS_ENCRYPTION_KEY", "GIT_SSH", "GIT_EXEC_PATH", "GIT_TRACE", "LD_PRELOAD"} & variables.keys()


@pytest.fixture
def program() -> GitProgram:
    environment = {
        "PATH": os.environ["PATH"],
        "HTTPS_PROXY": "http://proxy.example.org:3128",
        "KLEPAAS_ENCRYPTION_KEY": "key",
        "GIT_SSH": "/bin/evil",
        "GIT_EXEC_PATH": "/evil",
        "GIT_TRACE": "1",
        "LD_PRELOAD": "/evil.so",
    }
    return GitProgram(allow_local=True, network_timeout=timedelta(seconds=9), environment=environment)
