"""What commands print: data on stdout, talk on stderr, nothing that steers a terminal, no secret."""

import subprocess
import sys

import pytest

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.projects import read_settings
from tests.interfaces.cli.conftest import Klepaas
from tests.interfaces.cli.double import URL, World


def test_status_of_one_project_begins_with_what_is_live(klepaas: Klepaas) -> None:
    lines = klepaas("status", "good").out.splitlines()

    assert lines[0] == "good · production · local"
    assert lines[1].startswith("health      healthy, seen ")
    assert lines[2] == "release     #3 sha256:2c26b46b68ff"
    assert lines[3] == "commit      9fceb02 Show prices with tax by 김하늘"
    assert lines[-1] == f"url         {URL}"


def test_status_of_a_deployment_shows_its_stages(klepaas: Klepaas, world: World) -> None:
    deployment, _ = world.begin("good", "")

    assert "  fetch       400 ms  shallow" in klepaas("status", deployment["id"]).out


def test_history_is_a_listing_in_columns(klepaas: Klepaas) -> None:
    head, first, second = klepaas("history", "good").out.splitlines()

    assert head.split() == ["NUMBER", "ID", "STATUS", "COMMIT", "WHEN", "TOOK", "TRIGGER", "MESSAGE"]
    assert first.index("dep_a") == second.index("dep_b") == head.index("ID")
    assert "rollback, manual by token laptop" in second
    assert first.endswith("Show prices with tax")


def test_a_deployment_says_what_led_to_it_and_what_it_undoes(klepaas: Klepaas, world: World) -> None:
    """R-25."""
    deployment, _ = world.begin("good", "")
    deployment |= {"trigger": "merge", "pull_request": 12, "actor": "webhook", "note": "Undoes the rollback dep_1."}

    said = klepaas("status", deployment["id"]).out.splitlines()

    assert "cause       merge #12 by webhook" in said
    assert "note        Undoes the rollback dep_1." in said


def test_candidates_say_how_each_release_comes_back(klepaas: Klepaas) -> None:
    assert [line.split()[0] for line in klepaas("rollback", "good", "--candidates").out.splitlines()] == [
        "BACK",
        "live",
        "1",
        "2",
    ]


def test_a_dry_run_names_the_settings_that_go_back_and_those_that_stay(klepaas: Klepaas, world: World) -> None:
    said = klepaas("rollback", "good", "--dry-run")

    assert said.out.splitlines() == [
        "good in production:",
        "  from   release #3, commit 9fceb02",
        "  to     release #2, commit 9fceb02 “Show prices with tax”",
        "  how    kept warm: back in milliseconds",
        "  back   port: 8080 → unset",
        "  back   environment variables: +OLD_NAME",
        "  stay   hosts, replicas",
    ]
    assert world.deployments == {}


@pytest.mark.parametrize("arguments", [("logs", "good"), ("status", "good"), ("deploy", "good"), ("deploy", "bad")])
def test_there_is_no_colour_without_a_terminal(klepaas: Klepaas, arguments: tuple[str, ...]) -> None:
    said = klepaas(*arguments)

    assert "\x1b" not in said.out + said.err


def test_a_log_cannot_steer_the_terminal(klepaas: Klepaas) -> None:
    assert klepaas("logs", "good").out == "listening on :8080\nGET / 200\n"


@pytest.mark.parametrize(
    "hostile",
    ["\x1b]0;title\x07", "\x1b[2J", "\x1b[31m", "\x9b31m", "\rover", "\u202eevil", "\x1bP1$r\x1b\\", "\b\b"],
)
def test_escape_sequences_are_taken_out(hostile: str) -> None:
    assert not set(words.harmless(f"a{hostile}b")) & {"\x1b", "\x07", "\x9b", "\r", "\u202e", "\b"}


def test_the_build_log_of_a_project_is_that_of_its_last_deployment(klepaas: Klepaas, world: World) -> None:
    assert klepaas("logs", "good", "--build").out == "step 1\nstep 2\nstep 3\n"
    assert world.sent("GET", "deployments/dep_a/logs")
    assert klepaas("logs", "dep_a", "--lines", "1").out == "step 3\n"


def test_following_a_build_log_gives_every_line_once(klepaas: Klepaas) -> None:
    assert klepaas("logs", "dep_a", "--follow").out == "step 1\nstep 2\nstep 3\n"


def test_a_value_on_the_command_line_is_set_with_a_warning(klepaas: Klepaas, world: World) -> None:
    said = klepaas("env", "set", "good", "A=secret-canary")

    assert world.sent("PUT", "projects/good/variables") == [{"variables": {"A": "secret-canary"}}]
    assert "process list" in said.err
    assert "secret-canary" not in said.out + said.err


def test_s05_a_value_from_stdin_is_never_shown(klepaas: Klepaas, world: World) -> None:
    said = klepaas("env", "set", "good", "A", stdin="secret canary\nof two lines\n")

    assert world.sent("PUT", "projects/good/variables") == [{"variables": {"A": "secret canary\nof two lines"}}]
    assert said.code == 0
    assert "canary" not in said.out + said.err
    assert "warning" not in said.err


def test_unsetting_sends_null_and_empty_is_a_value(klepaas: Klepaas, world: World) -> None:
    klepaas("env", "unset", "good", "A", "B", "--yes")
    klepaas("env", "set", "good", "C=")

    assert world.sent("PUT", "projects/good/variables") == [
        {"variables": {"A": None, "B": None}},
        {"variables": {"C": ""}},
    ]


@pytest.mark.parametrize(
    "line", ["projects --json list", "connections --json list", "tokens --json list", "projects --json show good"]
)
def test_what_is_said_to_a_group_is_said_to_its_verb(klepaas: Klepaas, line: str) -> None:
    before, after = klepaas(*line.split()), klepaas(*line.replace(" --json", "").split(), "--json")

    assert before.json == after.json
    assert klepaas(*line.replace("--json", "--quiet").split()).out == klepaas(*line.replace(" --json", "").split()).out


def test_a_quiet_group_has_quiet_verbs(klepaas: Klepaas) -> None:
    assert klepaas("tokens", "--quiet", "create", "ci").err == ""


def test_settings_are_read_as_what_they_are() -> None:
    pairs = ["port=3000", "cpus=0.5", "health_path=/health", "hosts=a.example.org,b.example.org", "dockerfile="]

    assert read_settings(pairs) == {
        "port": 3000,
        "cpus": 0.5,
        "health_path": "/health",
        "hosts": ["a.example.org", "b.example.org"],
        "dockerfile": None,
    }


def test_a_new_token_is_alone_on_stdout(klepaas: Klepaas) -> None:
    assert klepaas("tokens", "create", "ci", "--scope", "deploy").out == "klp_aa_new\n"


def test_deploying_a_repository_makes_its_project_when_asked_to(klepaas: Klepaas, world: World) -> None:
    said = klepaas("deploy", "octo-org/other", "--create")

    assert world.sent("POST", "projects") == [{"repository": "octo-org/other"}]
    assert said.code == 0


def test_deploying_a_repository_finds_its_project(klepaas: Klepaas, world: World) -> None:
    klepaas("deploy", "octo-org/shop")

    assert world.sent("POST", "projects/prj_good/deployments") == [{"rebuild": False}]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0042, "4 ms"), (12.34, "12.3 s"), (83, "1 min 23 s"), (3725, "1 h 2 min"), (None, "-")],
)
def test_durations_have_a_unit(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("0.5s", 0.5), ("PT10M", 600)]
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert words.parse_duration(text).total_seconds() == seconds


def test_korean_columns_are_in_line() -> None:
    assert words.listing([["가나", "x"], ["abcd", "y"]]) == ["가나  x", "abcd  y"]


@pytest.mark.parametrize("arguments", [["--help"], ["deploy", "--help"], ["version"], ["check", "."]])
def test_thin_commands_load_no_server(arguments: list[str]) -> None:
    """Quick to start: what only a server needs costs half a second to load."""
    code = (
        "import sys; from klepaas.interfaces.cli.app import run; run(sys.argv[1:]); "
        "heavy = {'fastapi', 'sqlalchemy', 'uvicorn', 'alembic', 'httpx', 'pydantic_settings'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
