"""The parts of the demo that need no engine: the sample as a repository, and the server as a child."""

import asyncio
import os
import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from klepaas import processes
from klepaas.client import Client
from klepaas.errors import Conflict, NotAuthenticated, NotHealthy, Unavailable
from klepaas.interfaces.cli import child, credentials, sample, showcase
from klepaas.interfaces.cli.screen import Screen
from klepaas.operations import projects
from klepaas.operations.projects import Registration
from klepaas.settings import Settings, process_environment
from tests.interfaces.api.doors import door_of
from tests.workflows.world import world


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample.source(), tmp_path / "app"))


async def test_the_sample_becomes_a_repository_with_one_commit_a_version(app: Path, tmp_path: Path) -> None:
    environment = process_environment()
    first = await sample.prepare(tmp_path / "repository", environment, app)
    again = await sample.prepare(tmp_path / "repository", environment, app)
    (app / "site" / "version.txt").write_text("1000\n")
    (app / "README.md").unlink()
    second = await sample.prepare(tmp_path / "repository", environment, app)

    assert first == again
    assert second.version == "1000"
    assert second.commit_sha != first.commit_sha
    assert not (second.repository / "README.md").exists()


async def test_the_programs_of_the_sample_stay_programs(app: Path, tmp_path: Path) -> None:
    made = await sample.prepare(tmp_path / "repository", process_environment(), app)

    assert (made.repository / "server-amd64").stat().st_mode & stat.S_IXUSR


async def test_a_users_own_git_settings_have_no_say(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitconfig").write_text("[commit]\ngpgsign = true\n[user]\nsigningkey = none\n")
    monkeypatch.setenv("HOME", str(tmp_path))

    made = await sample.prepare(tmp_path / "repository", process_environment(), app)

    assert len(made.commit_sha) == 40


async def test_without_git_the_demo_says_so(app: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no git"):
        await sample.prepare(tmp_path / "repository", {"PATH": str(tmp_path)}, app)


async def test_s08_the_first_token_is_caught_and_goes_into_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for `klepaas up` that says a token and answers as healthy."""
    token = "klp_0011223344556677_" + "x" * 43
    _stand_in(tmp_path, monkeypatch, f"print('Operator token: {token}', flush=True); serve()")

    async with child.serving(tmp_path / "home", {"PATH": os.defpath}, child.any_port()) as server:
        async with Client(server.url, "") as client:
            assert (await client.health())["status"] == "ok"
        process = server.process

    assert server.token == token
    assert process.returncode is not None
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert kept
    assert all(token not in path.read_text() for path in kept)
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


@pytest.mark.parametrize("then", ["sys.exit('the port is taken')", "time.sleep(600)"], ids=["it ends", "Ctrl-C"])
async def test_a_token_that_was_made_is_kept_also_when_the_server_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], then: str
) -> None:
    """It is shown only once, and the home has it from now on."""
    token = "klp_0011223344556677_" + "x" * 43
    _stand_in(tmp_path, monkeypatch, f"import time; print('Operator token: {token}', flush=True); {then}")
    home = tmp_path / "home"

    async def start() -> None:
        settings, environment = Settings(home=home), {"PATH": os.defpath}
        async with showcase.klepaas_of(settings, environment, Screen(), child.any_port()):
            raise AssertionError

    starting = asyncio.create_task(start())
    while "sleep" in then and not credentials.load(home):
        await asyncio.sleep(0.01)
    if "sleep" in then:
        starting.cancel()
    with pytest.raises((Unavailable, asyncio.CancelledError)):
        await starting

    kept = credentials.load(home)
    assert kept is not None
    assert kept.token == token
    assert capsys.readouterr().err.count(token) == 1


async def test_a_token_nobody_knows_leads_to_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, monkeypatch, "serve()")
    settings = Settings(home=tmp_path / "home")

    with pytest.raises(NotAuthenticated) as refused:
        async with showcase.klepaas_of(settings, {"PATH": os.defpath}, Screen(), child.any_port()):
            raise AssertionError

    assert "klepaas up --new-operator-token" in refused.value.hint


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "registered by an earlier demo"])
async def test_a_klepaas_that_takes_no_local_repositories_is_said_to_be_in_the_way(
    app: Path, tmp_path: Path, is_known: bool
) -> None:
    """One that was started by hand in the same home: the demo finds it there and asks it."""
    made = await sample.prepare(tmp_path / "repository", process_environment(), app)
    async with world(f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}", tmp_path) as here:
        if is_known:
            wanted = Registration(repository=str(made.repository), name="sample", target="fake")
            await projects.register(replace(here.context, local_repositories=True), here.actor, wanted)
        door = door_of(here)
        async with door.served() as url, Client(url, await door.token()) as client:
            with pytest.raises(Conflict) as refused:
                await showcase._project(client, made, Screen())

    assert url in refused.value.message
    assert refused.value.hint.startswith("Stop it first, or start it with KLEPAAS_LOCAL_REPOSITORIES=true")


async def test_a_server_that_does_not_start_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, monkeypatch, "sys.exit('the home is taken')")

    with pytest.raises(Unavailable) as fault:
        async with child.serving(tmp_path / "home", {"PATH": os.defpath}, child.any_port()):
            raise AssertionError

    assert "the home is taken" in fault.value.hint


async def test_an_app_that_answers_something_else_is_not_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showcase, "ANSWERS_WITHIN_S", 0.2)

    with pytest.raises(NotHealthy):
        await showcase.see_answer("http://127.0.0.1:1", "1")


async def test_a_target_that_has_no_demo_is_refused_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "klepaas", "demo", "--once", "--target", "moon"]
    environment = {"PATH": os.defpath, "KLEPAAS_HOME": str(tmp_path / "home")}
    done = await processes.run(command, env=environment)

    assert done.exit_code == 2
    assert "no demo for the target 'moon'" in done.stderr
    assert not (tmp_path / "home").exists()


_SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "ok"}).encode())

    def log_message(self, *arguments):
        print("a request", flush=True)

def serve():
    HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Healthy).serve_forever()
"""


def _stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\n{_SERVER}\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setattr(child.sys, "executable", str(program))
