"""The stored login: checked before it is kept, readable by nobody else, sent to nobody else."""

import json
import os
import stat
from pathlib import Path

import pytest

from klepaas.interfaces.cli import credentials
from tests.interfaces.cli.conftest import Klepaas
from tests.interfaces.cli.double import TOKEN, World


def test_a_login_is_kept_for_later_commands(command: Klepaas, world: World, home: Path) -> None:
    assert command("login", world.url, stdin=f"{TOKEN}\n").code == 0
    assert command("status").code == 0
    assert command("logout").code == 0
    assert command("status").code == 5


def test_the_token_is_never_shown(command: Klepaas, world: World) -> None:
    said = command("login", world.url, "--json", stdin=TOKEN)

    assert TOKEN not in said.out + said.err
    assert said.json["url"] == world.url


def test_a_token_the_server_does_not_know_is_not_kept(command: Klepaas, world: World, home: Path) -> None:
    assert command("login", world.url, stdin="klp_0000_wrong\n").code == 5
    assert not credentials.path_in(home).exists()


@pytest.mark.parametrize("text", ["", "\n", "two words", "토큰", "klp_\x00x"])
def test_what_is_no_token_is_sent_to_nobody(command: Klepaas, world: World, text: str) -> None:
    assert command("login", world.url, stdin=text).code == 2
    assert world.requests == []


def test_s06_the_file_is_private_from_birth(
    command: Klepaas, world: World, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    replace = os.replace

    def watched(source: str | Path, target: str | Path) -> None:
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    before = os.umask(0)
    try:
        command("login", world.url, stdin=TOKEN)
    finally:
        os.umask(before)

    path = credentials.path_in(home)
    assert seen == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["credentials.json"]


def test_who_has_no_token_is_told_how_to_get_one(command: Klepaas, world: World) -> None:
    for said in (command("status"), command("login", world.url, stdin="")):
        assert "klepaas up --new-operator-token" in said.err


def test_a_stored_token_is_not_sent_to_another_address(
    command: Klepaas, world: World, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials.store(home, credentials.Login(url="http://127.0.0.1:1", token=TOKEN))
    monkeypatch.setenv("KLEPAAS_URL", world.url)

    assert command("status").code == 5
    assert world.requests == []


def test_the_environment_goes_before_the_stored_login(
    command: Klepaas, world: World, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials.store(home, credentials.Login(url=world.url, token="klp_0000_old"))
    monkeypatch.setenv("KLEPAAS_TOKEN", TOKEN)

    assert command("status").code == 0


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"url": "http://127.0.0.1:1"}', json.dumps({"url": 1, "token": None})]
)
def test_a_damaged_file_is_no_login(command: Klepaas, home: Path, content: str) -> None:
    path = credentials.path_in(home)
    path.parent.mkdir()
    path.write_text(content)

    assert command("status").code in {5, 2}


def test_a_login_over_the_open_network_is_warned_about(command: Klepaas) -> None:
    said = command("login", "http://192.0.2.1:1", stdin="")

    assert "not encrypted" in said.err


@pytest.mark.parametrize("name", ["KLEPAAS_SERVER__PORT", "KLEPAAS_NCP_LOOK_EVERY"])
def test_a_setting_that_cannot_be_used_is_named_and_its_value_is_not(
    command: Klepaas, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "canary")

    said = command("doctor")

    assert said.code == 2
    assert name in said.err
    assert "canary" not in said.err
