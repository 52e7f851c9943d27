"""`klepaas down` where nothing may go: beside a klepaas that runs, and without a yes."""

from pathlib import Path

import pytest

from klepaas.storage.home import Home
from tests.interfaces.cli.conftest import Klepaas


def test_beside_a_klepaas_that_shares_the_home_nothing_is_taken_down(
    command: Klepaas, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PostgreSQL nobody has the home alone; the one that runs would start again what is gone."""
    monkeypatch.setenv("KLEPAAS_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with Home(home) as running:
        running.share()
        said = command("down", "--yes")

    assert said.code == 6
    assert "next: Stop klepaas first" in said.err


def test_without_a_terminal_nothing_is_even_looked_at(command: Klepaas, home: Path) -> None:
    assert command("down", "--images").code == 2
    assert list(home.iterdir()) == []
