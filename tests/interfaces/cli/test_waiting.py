"""Waiting for a deployment: always for its id, through broken connections, until it ends or the user has enough."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from klepaas.interfaces.cli.progress import Progress
from tests.interfaces.cli.conftest import Klepaas
from tests.interfaces.cli.double import TOKEN, URL, World


def test_a_deployment_is_told_stage_by_stage_and_ends_with_its_url(klepaas: Klepaas) -> None:
    said = klepaas("deploy", "good")

    assert said.out == f"{URL}\n"
    assert said.err.splitlines() == [
        "Deployment #12 of good to production (dep_good0): 9fceb02",
        "fetch …",
        "fetch done in 400 ms",
        "build …",
        "build done in 12.1 s",
        "live: the new version answers",
        "Deployment #12 of good is live after 7.4 s.",
        "9fceb02 “Show prices with tax” · sha256:2c26b46b68ff",
        "0 of 240 requests failed during the switch (p99 3.1 ms)",
    ]


def test_a_failure_shows_the_last_lines_and_what_to_do(klepaas: Klepaas) -> None:
    said = klepaas("deploy", "bad")

    assert said.out == ""
    assert said.err.splitlines()[-5:] == [
        "  | booting",
        "  | listening on 127.0.0.1:8080",
        "error: Deployment #12 of bad failed in verify: The app listens on 127.0.0.1 only.",
        "  why: not_healthy (probes: 31) [dep_bad0]",
        " next: Listen on 0.0.0.0.",
    ]


def test_watching_with_json_gives_the_events_of_the_stream_one_a_line(klepaas: Klepaas) -> None:
    events = [json.loads(line) for line in klepaas("deploy", "good", "--json", "--watch").out.splitlines()]

    assert [event["seq"] for event in events] == list(range(1, 9))
    assert events[-1]["kind"] == "deployment.succeeded"


def test_quiet_leaves_only_the_data(klepaas: Klepaas) -> None:
    said = klepaas("deploy", "good", "--quiet")

    assert (said.out, said.err) == (f"{URL}\n", "")


def test_a_broken_stream_is_resumed_where_it_broke(klepaas: Klepaas, world: World) -> None:
    world.drop_streams = 2

    events = [json.loads(line) for line in klepaas("deploy", "good", "--json", "--watch").out.splitlines()]

    assert [event["seq"] for event in events] == list(range(1, 9))
    assert len(world.sent("GET", "deployments/dep_good0/events")) == 3


def test_a_lost_answer_is_asked_for_again_under_the_same_key(klepaas: Klepaas, world: World) -> None:
    world.lose_answers = 1

    said = klepaas("deploy", "good")

    assert said.code == 0
    assert len(world.keys) == 2
    assert len(set(world.keys)) == 1
    assert len(world.deployments) == 1
    assert "accepted before" in said.err


def test_two_commands_have_two_keys_and_a_given_key_is_sent_as_it_is(klepaas: Klepaas, world: World) -> None:
    klepaas("deploy", "good")
    klepaas("deploy", "good")
    klepaas("deploy", "good", "--key", "ci-run-17")

    assert len(set(world.keys)) == 3
    assert world.keys[-1] == "ci-run-17"


def test_without_waiting_stdout_is_the_id(klepaas: Klepaas, world: World) -> None:
    said = klepaas("deploy", "endless", "--no-wait")

    assert said.out == "dep_endless0\n"
    assert world.sent("GET", "deployments/dep_endless0/events") == []


def test_a_timeout_says_how_to_attach_again(klepaas: Klepaas) -> None:
    said = klepaas("deploy", "endless", "--timeout", "0.3s")

    assert "klepaas status dep_endless0 --watch" in said.err
    assert "klepaas logs --follow dep_endless0" in said.err


def test_the_whole_build_log_is_shown_when_asked_for(klepaas: Klepaas) -> None:
    assert "  step 3" in klepaas("deploy", "good", "--verbose").err.splitlines()
    assert "step 3" not in klepaas("deploy", "good").err


def environment(world: World, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"KLEPAAS_HOME": str(home), "KLEPAAS_URL": world.url, "KLEPAAS_TOKEN": TOKEN, "TERM": "xterm"}


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["plain", "json"])
def test_interrupting_detaches_with_130_and_cancels_nothing(
    world: World, tmp_path: Path, form: tuple[str, ...]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "klepaas", "deploy", "endless", *form],
        env=environment(world, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not world.sent("GET", "deployments/dep_endless0/events"):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "klepaas status dep_endless0 --watch" in err
    assert "Traceback" not in err
    assert [method for method, _, _ in world.requests].count("POST") == 1
    if form:
        assert json.loads(out)["id"] == "dep_endless0"


class Terminal:
    """A command at a terminal of 100 columns that we look at."""

    def __init__(self, world: World, home: Path, *arguments: str) -> None:
        self._screen, end = pty.openpty()
        os.set_blocking(self._screen, False)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "klepaas", *arguments],
            env=environment(world, home) | {"COLUMNS": "100"},
            stdin=end,
            stdout=end,
            stderr=end,
        )
        os.close(end)
        self.text = ""

    def until(self, pattern: str) -> None:
        self._read(lambda: re.search(pattern, self.text) is not None)
        assert re.search(pattern, self.text), self.text

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def end(self) -> int:
        self._read(lambda: False)
        return self._process.wait(timeout=20)

    def _read(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not enough():
            if not select.select([self._screen], [], [], 0.2)[0]:
                if self._process.poll() is not None:
                    return
                continue
            try:
                self.text += os.read(self._screen, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                return


def test_on_a_terminal_the_rail_is_drawn_in_place(world: World, tmp_path: Path) -> None:
    terminal = Terminal(world, tmp_path, "deploy", "good")

    assert terminal.end() == 0
    assert re.search(r"✓.*build +12\.1 s", terminal.text)
    assert "build done in" not in terminal.text


def test_at_a_terminal_a_rollback_shows_its_plan_and_asks(world: World, tmp_path: Path) -> None:
    terminal = Terminal(world, tmp_path, "rollback", "good")
    terminal.until(r"Roll back\? \[y/N\]")

    assert "port: 8080 → unset" in terminal.text
    assert world.deployments == {}

    terminal.type("n\n")

    assert terminal.end() == 6
    assert world.deployments == {}


def test_a_yes_at_the_terminal_rolls_back(world: World, tmp_path: Path) -> None:
    terminal = Terminal(world, tmp_path, "rollback", "good")
    terminal.until(r"Roll back\?")
    terminal.type("y\n")

    assert terminal.end() == 0
    assert len(world.deployments) == 1


def test_a_yes_to_a_plan_that_is_outdated_rolls_nothing_back(world: World, tmp_path: Path) -> None:
    terminal = Terminal(world, tmp_path, "rollback", "good")
    terminal.until(r"Roll back\?")
    world.releases += 1
    terminal.type("y\n")

    assert terminal.end() == 6
    assert world.deployments == {}


def test_live_is_said_with_what_proves_it_where_nobody_asked_the_app() -> None:
    shifted = {"kind": "traffic.shifted", "release_id": "rel_1"}
    seen = {"health": "healthy", "detail": "SourceDeploy says success of its run 80001."}
    answered = {"status": 200, "url": URL, "detail": ""}

    assert Progress().feed({**shifted, "seq": 1, "evidence": seen}) == [f"live: {seen['detail']}"]
    assert Progress().feed({**shifted, "seq": 1, "evidence": answered}) == ["live: the new version answers"]
