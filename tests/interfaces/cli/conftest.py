"""A command line that speaks to the double, as it would in a script: no terminal, no colour."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from klepaas.interfaces.cli.app import run
from tests.interfaces.cli.double import TOKEN, Double, World, running_double


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; fails when there is more or less."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Klepaas = Callable[..., Said]


@pytest.fixture(scope="module")
def double() -> Iterator[Double]:
    with running_double() as double:
        yield double


@pytest.fixture
def world(double: Double) -> World:
    return double.new_world()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty KLEPAAS_HOME, and nothing else of klepaas in the environment."""
    for name in ("KLEPAAS_URL", "KLEPAAS_TOKEN", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KLEPAAS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Klepaas:
    """Run one command line in this process; `stdin` is what is piped into it."""

    def klepaas(*arguments: str, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfd.readouterr()
        code = run(arguments)
        said = capfd.readouterr()
        return Said(code, said.out, said.err)

    return klepaas


@pytest.fixture
def klepaas(command: Klepaas, world: World, monkeypatch: pytest.MonkeyPatch) -> Klepaas:
    """A command line that is logged in to the double."""
    monkeypatch.setenv("KLEPAAS_URL", world.url)
    monkeypatch.setenv("KLEPAAS_TOKEN", TOKEN)
    return command
