import pytest

from tests.interfaces.cli.conftest import Klepaas
from tests.interfaces.cli.double import World


def test_a_password_comes_from_stdin_and_is_never_shown(klepaas: Klepaas, world: World) -> None:
    """S-05."""
    said = klepaas("connections", "add", "forge", "-u", "dana", "--host", "git.example.org", stdin="c4n4ry s3cret\n")

    assert said.code == 0
    assert world.sent("POST", "connections") == [
        {"name": "forge", "password": "c4n4ry s3cret", "username": "dana", "host": "git.example.org"}
    ]
    assert said.out == "con_1\n"
    assert "c4n4ry" not in said.out + said.err


@pytest.mark.parametrize("words", [("--password", "c4n4ry"), ("c4n4ry",)])
def test_a_password_on_the_command_line_is_not_taken(klepaas: Klepaas, world: World, words: tuple[str, ...]) -> None:
    """S-05: everybody on the machine can read it there."""
    assert klepaas("connections", "add", "forge", *words, stdin="x").code == 2
    assert world.sent("POST", "connections") == []


def test_a_connection_for_any_server_is_warned_about(klepaas: Klepaas) -> None:
    """S-10."""
    bound = klepaas("connections", "add", "forge", "--host", "git.example.org", stdin="x")

    assert "--host" in klepaas("connections", "add", "forge", stdin="x").err
    assert "warning" not in bound.err


def test_the_list_shows_where_each_may_be_sent(klepaas: Klepaas) -> None:
    said = klepaas("connections")

    assert said.out.splitlines()[0].split() == ["NAME", "ID", "KIND", "SERVER", "MADE"]
    assert said.out.splitlines()[1].split()[:4] == ["forge", "con_1", "git_basic", "git.example.org"]


def test_removing_one_says_which_projects_used_it(klepaas: Klepaas) -> None:
    assert "Without a connection now: shop." in klepaas("connections", "remove", "forge", "--yes").err


def test_verifying_names_the_commit_the_server_showed(klepaas: Klepaas, world: World) -> None:
    said = klepaas("connections", "verify", "forge", "https://git.example.org/team/shop", "--branch", "release")

    assert "branch release is at 9fceb02" in said.err
    [asked] = world.sent("POST", "connections/forge/verify")
    assert asked == {"repository": "https://git.example.org/team/shop", "branch": "release"}


def test_a_project_is_given_its_connection_by_name_and_freed_of_it(klepaas: Klepaas, world: World) -> None:
    klepaas("projects", "create", "octo-org/shop", "--connection", "forge")
    klepaas("projects", "set", "good", "--connection", "")

    assert world.sent("POST", "projects")[0]["connection_id"] == "forge"
    assert world.sent("PATCH", "projects/good") == [{"connection_id": ""}]
