import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from klepaas.errors import Conflict, DiskFull, Invalid
from klepaas.storage.home import Home

HOLDER = """
import sys, time
from pathlib import Path
from klepaas.storage.home import Home
home = Home(Path(sys.argv[1])).__enter__()
home.claim()
print("claimed", flush=True)
time.sleep(600)
"""


def test_every_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """S-06."""
    before = os.umask(0)
    try:
        with Home(tmp_path / "a" / "home") as home:
            folders = [home.path, home.build_logs, home.build_logs.parent, home.work]
    finally:
        os.umask(before)

    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 4


def test_a_home_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    """S-06."""
    tmp_path.chmod(0o755)
    with Home(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Invalid, match="cannot use"), Home(tmp_path / "file" / "home"):
        pass


def test_a_second_process_is_refused_and_told_who_is_here(tmp_path: Path) -> None:
    with (
        _holder(tmp_path) as holder,
        Home(tmp_path) as home,
        pytest.raises(Conflict, match=f"process {holder.pid} ") as refused,
    ):
        home.claim()

    assert refused.value.evidence == {"pid": str(holder.pid)}


def test_the_claim_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    with _holder(tmp_path) as holder:
        holder.kill()
        holder.wait()

    with Home(tmp_path) as home:
        home.claim()


def test_several_share_a_home_that_nobody_has_alone_until_all_have_left(tmp_path: Path) -> None:
    with Home(tmp_path) as one, Home(tmp_path) as two:
        one.share()
        two.share()
        one.__exit__(None, None, None)
        with Home(tmp_path) as alone, pytest.raises(Conflict, match="somebody uses") as refused:
            alone.claim(hint="Stop klepaas first.")

    assert refused.value.hint == "Stop klepaas first."
    with Home(tmp_path) as alone:
        alone.claim()


def test_a_home_that_somebody_has_alone_is_shared_by_nobody(tmp_path: Path) -> None:
    with (
        _holder(tmp_path) as holder,
        Home(tmp_path) as home,
        pytest.raises(Conflict, match=f"process {holder.pid} "),
    ):
        home.share()


def test_those_who_share_a_home_are_not_taken_for_who_had_it_before(tmp_path: Path) -> None:
    with Home(tmp_path) as before:
        before.claim()
    with Home(tmp_path) as one, Home(tmp_path) as alone:
        one.share()

        with pytest.raises(Conflict) as refused:
            alone.claim()

    assert refused.value.evidence == {"pid": ""}


def test_leaving_the_home_gives_up_the_claim(tmp_path: Path) -> None:
    with Home(tmp_path) as first:
        first.claim()
    with Home(tmp_path) as second:
        second.claim()


def test_a_child_that_outlives_us_does_not_hold_the_claim(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        home.claim()
        child = subprocess.Popen(["sleep", "60"])
    try:
        with Home(tmp_path) as again:
            again.claim()
    finally:
        child.kill()
        child.wait()


def test_too_little_space_is_refused_with_the_numbers(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        home.require_free(1)
        with pytest.raises(DiskFull, match=r"MiB free"):
            home.require_free(2**60)


@contextmanager
def _holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(home)], stdout=subprocess.PIPE, text=True)
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "claimed\n"
            yield holder
        finally:
            holder.kill()
