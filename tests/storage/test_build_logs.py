import asyncio
import os
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from klepaas.errors import Invalid
from klepaas.storage.build_logs import BuildLogFiles
from klepaas.storage.old_logs import forget_logs
from tests.storage.worlds import NOW, SetClock


@pytest.fixture
def logs(tmp_path: Path) -> BuildLogFiles:
    return BuildLogFiles(tmp_path / "builds", SetClock())


async def test_lines_come_back_in_order_with_their_times(logs: BuildLogFiles) -> None:
    await _write(logs, 1, "first", "", "  third \t", "넷째", "\x1b[31mred\x1b[0m\r", "lone \ud800 surrogate")

    page = await logs.page("dep_1", after=None, limit=100)
    assert [line.text for line in page] == [
        "first",
        "",
        "  third \t",
        "넷째",
        "\x1b[31mred\x1b[0m\r",
        "lone \\ud800 surrogate",
    ]
    times = [line.at for line in page]
    assert all(at is not None and at > NOW for at in times)
    assert times == sorted(times, key=str)


async def test_every_page_goes_on_right_after_the_one_before(logs: BuildLogFiles) -> None:
    """R-11."""
    await _write(logs, 1, *(f"line {n}" for n in range(2500)))
    await _write(logs, 2, *(f"again {n}" for n in range(700)))

    seen, position = [], None
    while page := await logs.page("dep_1", after=position, limit=333):
        seen += page
        position = page[-1].position
    assert [line.text for line in seen] == [f"line {n}" for n in range(2500)] + [f"again {n}" for n in range(700)]
    positions = [line.position for line in seen]
    assert positions == sorted(set(positions))


async def test_a_newer_attempt_follows_the_older_one_also_with_two_digits(logs: BuildLogFiles) -> None:
    for fence in (10, 9, 2):
        await _write(logs, fence, f"attempt {fence}")

    page = await logs.page("dep_1", after=None, limit=100)
    assert [line.text for line in page] == ["attempt 2", "attempt 9", "attempt 10"]
    assert [line.position for line in page] == sorted(line.position for line in page)


async def test_reading_on_deep_inside_a_long_log_costs_no_more_than_at_its_beginning(logs: BuildLogFiles) -> None:
    """R-11: measured against reading the whole file, in the same run."""
    await _write(logs, 1, *(f"line {n} " + "x" * 80 for n in range(100_000)))
    everything = await logs.page("dep_1", after=None, limit=200_000)
    deep = everything[98_000].position

    whole = await _took(lambda: logs.page("dep_1", after=None, limit=200_000))
    page = await _took(lambda: logs.page("dep_1", after=deep, limit=1000))
    tail = await _took(lambda: logs.tail("dep_1", 1000))
    assert len(everything) == 100_000
    assert (await logs.page("dep_1", after=deep, limit=1000))[0].text.startswith("line 98001 ")
    assert page < whole / 10
    assert tail < whole / 10


async def test_the_tail_is_the_end_of_all_attempts(logs: BuildLogFiles) -> None:
    await _write(logs, 1, *(f"line {n}" for n in range(5000)))
    await _write(logs, 2, "again 0", "again 1")

    assert [line.text for line in await logs.tail("dep_1", 4)] == ["line 4998", "line 4999", "again 0", "again 1"]
    assert [line.text for line in await logs.tail("dep_1", 1)] == ["again 1"]
    assert list(await logs.tail("dep_1", 0)) == []
    assert len(await logs.tail("dep_1", 100_000)) == 5002
    everything = await logs.page("dep_1", after=None, limit=100_000)
    assert await logs.tail("dep_1", 3000) == everything[-3000:]


async def test_a_written_line_can_be_read_soon_without_closing(logs: BuildLogFiles) -> None:
    writer = logs.writer("dep_1", 1)
    await writer.write("building …")
    async with asyncio.timeout(10):
        while not await logs.page("dep_1", after=None, limit=10):
            await asyncio.sleep(0.01)
    await writer.close()


async def test_a_line_that_is_being_written_is_not_shown_in_halves(logs: BuildLogFiles, tmp_path: Path) -> None:
    await _write(logs, 1, "whole")
    file = tmp_path / "builds" / "dep_1" / "1.log"
    with file.open("ab") as out:
        out.write(b"2026-03-01T12:00:00.000000Z half of a li")

    assert [line.text for line in await logs.page("dep_1", after=None, limit=10)] == ["whole"]
    assert [line.text for line in await logs.tail("dep_1", 10)] == ["whole"]
    await _write(logs, 1, "next")
    texts = [line.text for line in await logs.page("dep_1", after=None, limit=10)]
    assert texts == ["whole", "half of a li", "next"]


async def test_a_cancelled_writer_loses_and_repeats_no_line(logs: BuildLogFiles) -> None:
    writer = logs.writer("dep_1", 1)
    written = 0

    async def build() -> None:
        nonlocal written
        try:
            while True:
                written += 1
                await writer.write(f"line {written} " + "x" * 3000)
                await asyncio.sleep(0)
        finally:
            await writer.close()

    task = asyncio.create_task(build())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    page = await logs.page("dep_1", after=None, limit=1_000_000)
    assert [line.text.split()[1] for line in page] == [str(n) for n in range(1, written + 1)]


async def test_logs_are_private_from_birth(logs: BuildLogFiles, tmp_path: Path) -> None:
    """S-06."""
    before = os.umask(0)
    try:
        await _write(logs, 1, "secret?")
    finally:
        os.umask(before)

    folder = tmp_path / "builds" / "dep_1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "1.log").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "name", ["../other", "..", ".", "", "a/b", "/etc", "dep_1\0", "dep_1/../dep_2", "-x", "a" * 200]
)
async def test_no_name_leaves_the_folder(logs: BuildLogFiles, name: str) -> None:
    """S-03."""
    with pytest.raises(Invalid):
        logs.writer(name, 1)
    with pytest.raises(Invalid):
        await logs.page(name, after=None, limit=1)
    with pytest.raises(Invalid):
        await logs.tail(name, 1)


async def test_a_log_file_that_is_a_link_is_not_followed(logs: BuildLogFiles, tmp_path: Path) -> None:
    """S-03."""
    target = tmp_path / "target"
    target.write_text("")
    (tmp_path / "builds" / "dep_1").mkdir(parents=True)
    (tmp_path / "builds" / "dep_1" / "1.log").symlink_to(target)
    await _write(logs, 1, "line")

    assert target.read_text() == ""


@pytest.mark.parametrize("position", ["", "x", "1", "1.x", "-1.5", "1.5.6", "1." + "9" * 40, "0x1.2", "１.２a"])
async def test_what_is_no_position_is_refused(logs: BuildLogFiles, position: str) -> None:
    await _write(logs, 1, "line one", "line two")

    with pytest.raises(Invalid):
        await logs.page("dep_1", after=position, limit=10)


async def test_a_position_inside_a_line_is_refused(logs: BuildLogFiles) -> None:
    await _write(logs, 1, "line one", "line two")

    with pytest.raises(Invalid):
        await logs.page("dep_1", after="1.5", limit=10)


async def test_a_full_disk_costs_lines_and_says_so_once_and_in_the_log() -> None:
    """A device that is always full stands in for the log file."""
    logs = BuildLogFiles(Path("/nowhere"), SetClock())
    writer = logs.writer("dep_1", 1)
    writer._file = os.open("/dev/full", os.O_WRONLY)
    with capture_logs() as said:
        for n in range(10):
            await writer.write(f"{n}" + "x" * 30_000)
        await writer.close()

    assert [entry["event"] for entry in said] == ["build_log_not_written"]


async def test_a_log_goes_on_after_a_gap_that_it_names(logs: BuildLogFiles, tmp_path: Path) -> None:
    writer = logs.writer("dep_1", 1)
    await writer.write("before")
    await writer._flush()
    real, writer._file = writer._file, os.open("/dev/full", os.O_WRONLY)
    await writer.write("lost")
    await writer._flush()
    writer._file = real
    await writer.write("after")
    await writer.close()

    texts = [line.text for line in await logs.page("dep_1", after=None, limit=10)]
    assert texts == ["before", "[klepaas: about 1 lines are missing here]", "after"]


async def test_a_flood_ends_at_the_limit_of_a_log(tmp_path: Path) -> None:
    logs = BuildLogFiles(tmp_path, SetClock(), max_bytes=200_000)
    await _write(logs, 1, *("x" * 1000 for _ in range(1000)))

    assert (tmp_path / "dep_1" / "1.log").stat().st_size < 201_000
    assert "lines are missing here" in (await logs.tail("dep_1", 1))[0].text


async def test_a_log_that_was_forgotten_is_empty(logs: BuildLogFiles, tmp_path: Path) -> None:
    await _write(logs, 1, "line")
    assert forget_logs(tmp_path, before=datetime.now(UTC) + timedelta(minutes=1)) == 1

    assert list(await logs.page("dep_1", after=None, limit=10)) == []
    assert list(await logs.tail("dep_1", 10)) == []


async def _write(logs: BuildLogFiles, fence: int, *lines: str) -> None:
    writer = logs.writer("dep_1", fence)
    for line in lines:
        await writer.write(line)
    await writer.close()


async def _took(work) -> float:  # type: ignore[no-untyped-def]
    """The best of three, in seconds."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        await work()
        times.append(time.perf_counter() - began)
    return min(times)
