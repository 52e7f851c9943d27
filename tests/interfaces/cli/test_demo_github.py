"""The demo with GitHub, the whole way: a merge puts the app's next version live, GitHub says so, and so it does of
the way back."""

import re
import signal
from pathlib import Path

import pytest

from tests.interfaces.cli.demo_process import demo, nothing_is_left

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_a_merge_goes_live_and_a_rollback_takes_it_back_and_github_says_so(tmp_path: Path, docker_host: str) -> None:
    with demo(tmp_path, docker_host, "--github", "--once") as shown:
        out, err = shown.communicate(timeout=110)

    assert shown.returncode == 0, err
    last = out.splitlines()[-1]
    assert last.startswith("demo: ok: a merged pull request put version 1.1 live and a rollback brought version 1 back")
    before, after = err.split("Rolling back …")
    assert "The webhook arrived: merge by webhook." in before
    assert before.count("in_progress → success\n") == 1
    assert len(re.findall(r"to production: (?:in_progress → )?success\n", after)) == 1
    assert after.count("→ success → inactive\n") == 2
    assert "not running any more" in after
    nothing_is_left(tmp_path, docker_host)


def test_interrupted_it_takes_everything_away(tmp_path: Path, docker_host: str) -> None:
    with demo(tmp_path, docker_host, "--github") as shown:
        assert shown.stdout is not None
        url = shown.stdout.readline()
        shown.send_signal(signal.SIGINT)
        _, err = shown.communicate(timeout=60)

    assert url.startswith("http://127.0.0.1:"), err
    assert shown.returncode in {0, 130}, err
    nothing_is_left(tmp_path, docker_host)
