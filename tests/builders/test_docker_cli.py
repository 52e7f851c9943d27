"""Which program is chosen, with programs that only know their own version."""

import stat
from pathlib import Path

import pytest

from klepaas.builders.docker_cli import BuildProgram, Kind, choose_program
from klepaas.errors import EngineUnavailable


def program(folder: Path, name: str, says: str, exit_code: int = 0) -> str:
    """Install a program that says this and ends; the folder it is in is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {exit_code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


@pytest.fixture
def new(tmp_path: Path) -> str:
    return program(tmp_path / "new", "docker", "Docker version 28.2.2, build e6534b4")


@pytest.fixture
def old(tmp_path: Path) -> str:
    return program(tmp_path / "old", "docker", "Docker version 20.10.24+dfsg1, build 297e128")


@pytest.fixture
def buildx(tmp_path: Path) -> str:
    return program(tmp_path / "plugins", "docker-buildx", "github.com/docker/buildx 0.13.1")


async def test_buildx_comes_first_and_is_called_directly(new: str, old: str, buildx: str) -> None:
    chosen = await choose_program(path=[old, new], plugins=[buildx])

    assert (chosen.kind, chosen.command) == (Kind.BUILDX, (f"{buildx}/docker-buildx", "build"))


async def test_a_cli_that_carries_buildkit_comes_before_a_newer_one_that_does_not(new: str, old: str) -> None:
    chosen = await choose_program(path=[new, old], plugins=[])

    assert (chosen.kind, chosen.command) == (Kind.BUILDKIT, (f"{old}/docker", "build"))


async def test_without_buildkit_the_first_cli_uses_the_old_builder(new: str, tmp_path: Path) -> None:
    ancient = program(tmp_path / "ancient", "docker", "Docker version 17.06.0-ce, build 02c1d87")

    chosen = await choose_program(path=[new, ancient], plugins=[])

    assert (chosen.kind, chosen.command) == (Kind.LEGACY, (f"{new}/docker", "build"))


async def test_an_engine_without_buildkit_gets_the_old_builder(new: str, old: str, buildx: str) -> None:
    chosen = await choose_program(speaks_buildkit=False, path=[new, old], plugins=[buildx])

    assert (chosen.kind, chosen.command) == (Kind.LEGACY, (f"{new}/docker", "build"))


async def test_a_program_that_does_not_work_is_passed_over(old: str, tmp_path: Path) -> None:
    broken = program(tmp_path / "broken", "docker-buildx", "cannot start", exit_code=1)
    no_program = tmp_path / "no-program"
    no_program.mkdir()
    (no_program / "docker").write_text("not executable")

    chosen = await choose_program(path=[str(no_program), old], plugins=[broken])

    assert chosen.command == (f"{old}/docker", "build")


async def test_a_machine_without_docker_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable) as refused:
        await choose_program(path=[str(tmp_path)], plugins=[])
    assert "docker.io" in refused.value.hint


def test_only_the_old_builder_takes_a_memory_limit_and_only_buildkit_a_namespace() -> None:
    options = {
        kind: " ".join(BuildProgram(kind=kind, command=()).options(cache_namespace="shop", memory_bytes=5))
        for kind in Kind
    }

    assert "--memory 5" in options[Kind.LEGACY]
    assert "NS=shop" not in options[Kind.LEGACY]
    for kind in (Kind.BUILDX, Kind.BUILDKIT):
        assert "NS=shop" in options[kind]
        assert "--memory" not in options[kind]
