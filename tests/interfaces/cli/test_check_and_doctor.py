"""`check` and `doctor`: what is wrong, where, and what to do about it."""

import socket
import sqlite3
from pathlib import Path

import pytest

from klepaas.testing.ncp import StandInNcp
from tests.interfaces.cli.conftest import Klepaas


def test_check_tells_file_line_and_what_is_accepted(command: Klepaas, tmp_path: Path) -> None:
    (tmp_path / "klepaas.toml").write_text("port = 0\ncolour = 1\n")

    said = command("check", str(tmp_path))

    assert said.code == 2
    assert said.out.splitlines() == [
        f"{tmp_path}/klepaas.toml:1: port is 0, and must be from 1 to 65535",
        "    accepted: a whole number from 1 to 65535",
        f"{tmp_path}/klepaas.toml:2: unknown key 'colour'",
        "    accepted: port, health_path, dockerfile, context, variables, release_command, replicas, target",
    ]


def test_check_with_json_lists_the_problems(command: Klepaas, tmp_path: Path) -> None:
    (tmp_path / "klepaas.toml").write_text("port = 0\n")

    found = command("check", str(tmp_path), "--json").json

    assert found["ok"] is False
    assert [(problem["line"], problem["key"]) for problem in found["problems"]] == [(1, "port")]


def test_check_finds_a_dockerfile_that_is_not_there(command: Klepaas, tmp_path: Path) -> None:
    (tmp_path / "klepaas.toml").write_text('dockerfile = "app/Dockerfile"\n')

    assert command("check", str(tmp_path)).code == 2


@pytest.mark.parametrize("content", [None, "port = 3000\n"])
def test_check_is_content_with_a_good_file_or_none(command: Klepaas, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "klepaas.toml").write_text(content)

    assert command("check", str(tmp_path)).code == 0


def test_check_reads_a_file_like_the_server_does(command: Klepaas, tmp_path: Path) -> None:
    """With the byte order mark and the line ends of Windows editors."""
    (tmp_path / "klepaas.toml").write_bytes(b'\xef\xbb\xbfport = 3000\r\ncontext = "app"\r\n')
    without = command("check", str(tmp_path), "--json")
    (tmp_path / "app").mkdir()

    assert [(problem["line"], problem["key"]) for problem in without.json["problems"]] == [(2, "context")]
    assert command("check", str(tmp_path)).code == 0


def checks(command: Klepaas) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in command("doctor", "--json").json["checks"]}


def test_the_doctor_looks_at_everything(klepaas: Klepaas) -> None:
    found = checks(klepaas)

    assert set(found) == {
        "home",
        "engine",
        "network",
        "metadata",
        "disk",
        "git",
        "caddy",
        "database",
        "ports",
        "server",
    }
    assert found["git"]["level"] == found["caddy"]["level"] == found["server"]["level"] == "ok"


def test_the_doctor_fails_with_1_and_says_what_to_do(klepaas: Klepaas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLEPAAS_DOCKER__HOST", "unix:///nowhere/docker.sock")

    said = klepaas("doctor")

    assert said.code == 1
    assert "fail  engine      There is no Docker socket at /nowhere/docker.sock." in said.out
    assert "→ " in said.out


def test_a_damaged_database_is_found(klepaas: Klepaas, home: Path) -> None:
    with sqlite3.connect(home / "klepaas.db") as database:
        database.execute("CREATE TABLE t (x)")
    assert checks(klepaas)["database"]["level"] == "ok"

    (home / "klepaas.db").write_bytes(b"not a database at all" * 100)

    assert checks(klepaas)["database"]["level"] == "fail"


def test_s05_an_unreachable_database_is_told_without_its_password(
    klepaas: Klepaas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLEPAAS_DATABASE_URL", "postgresql+psycopg://u:canary@127.0.0.1:1/db")

    said = klepaas("doctor")

    assert said.code == 1
    assert "canary" not in said.out + said.err


def test_a_port_that_somebody_else_has_is_found(klepaas: Klepaas, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("KLEPAAS_SERVER__PORT", str(other.getsockname()[1]))

        assert checks(klepaas)["ports"]["level"] == "fail"


def test_a_home_that_others_can_read_is_warned_about(klepaas: Klepaas, home: Path) -> None:
    home.chmod(0o755)

    assert checks(klepaas)["home"]["level"] == "warn"


def test_a_server_that_does_not_answer_is_a_warning(command: Klepaas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLEPAAS_URL", "http://127.0.0.1:1")

    said = command("doctor", "--server", "--json")

    assert said.code == 0
    assert [(check["name"], check["level"]) for check in said.json["checks"]] == [("server", "warn")]


def test_the_doctor_looks_at_naver_cloud_when_its_keys_are_configured(
    klepaas: Klepaas, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandInNcp() as ncp:
        for name, value in ncp.endpoints.items():
            monkeypatch.setenv(name, value)
        well = {name: check["level"] for name, check in checks(klepaas).items() if name.startswith("ncp ")}
        ncp.revoke_key(ncp.access_key)
        said = klepaas("doctor")

    assert len(well) == 7
    assert set(well.values()) == {"ok"}
    assert said.code == 1
    assert "fail  ncp keys    NCP REST error 401" in said.out
    assert ncp.secret_key not in said.out
