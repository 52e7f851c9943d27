"""Child programs: what they print arrives whole, and nothing of them stays when they or we are gone."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klepaas import processes
from klepaas.process_guard import guard
from klepaas.processes import LineSplitter, run, stream
from tests.processes.worlds import is_alive, pid_in, python, soon

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Each test runs on both event loops: the server uses uvloop, the command line may not."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def test_run_tells_exit_code_and_both_outputs() -> None:
    done = await run(python("print('out'); print('err', file=sys.stderr); sys.exit(3)"), env=ENV)

    assert (done.exit_code, done.stdout, done.stderr, done.truncated) == (3, "out\n", "err\n", False)


async def test_a_program_ended_by_a_signal_has_a_negative_exit_code() -> None:
    done = await run(python("os.kill(os.getpid(), 9)"), env=ENV)

    assert done.exit_code == -9


async def test_a_program_sees_only_the_environment_it_was_given() -> None:
    done = await run(python("print(sorted(os.environ))"), env={"PATH": ENV["PATH"], "ONE": "1", "LC_ALL": "C"})

    assert done.stdout.strip() == "['LC_ALL', 'ONE', 'PATH']"


async def test_a_missing_program_is_an_error_and_not_an_exit_code() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await run(["no-such-program"], env=ENV)


async def test_input_is_written_whole_and_a_program_may_ignore_it() -> None:
    wanted = b"x" * 3_000_000

    counted = await run(python("print(len(sys.stdin.buffer.read()))"), env=ENV, stdin=wanted)
    ignored = await run(python("print('no thanks')"), env=ENV, stdin=wanted)

    assert (counted.stdout, ignored.stdout) == ("3000000\n", "no thanks\n")


async def test_run_keeps_the_beginning_of_stdout_and_the_end_of_stderr() -> None:
    done = await run(
        python("w = 'first' + 'x' * 500_000 + 'last'; sys.stdout.write(w); sys.stderr.write(w)"),
        env=ENV,
        output_limit_bytes=1000,
    )

    assert done.truncated
    assert (len(done.stdout), len(done.stderr)) == (1000, 1000)
    assert done.stdout.startswith("first")
    assert done.stderr.endswith("last")


async def test_stream_hands_on_lines_while_the_program_runs() -> None:
    async with stream(python("print('one', flush=True); time.sleep(600)"), env=ENV) as (lines, child):
        first = await anext(lines)

        assert (first, child.returncode) == ("one", None)
    assert not is_alive(child.pid)


async def test_stream_ends_with_the_program_and_knows_its_exit_code() -> None:
    async with stream(python("print('a'); print('b', file=sys.stderr); sys.exit(7)"), env=ENV) as (lines, child):
        seen = {line async for line in lines}

        assert (seen, await child.wait()) == ({"a", "b"}, 7)


async def test_a_hundred_thousand_lines_arrive_once_and_in_order() -> None:
    """R-11"""
    async with stream(python("[print(i) for i in range(100_000)]"), env=ENV) as (lines, _):
        seen = [line async for line in lines]

    assert seen == [str(i) for i in range(100_000)]


async def test_a_slow_reader_loses_nothing_after_the_program_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.05)
    async with stream(python("[print('x' * 99) for i in range(4_000)]"), env=ENV) as (lines, _):
        count = 0
        async for _line in lines:
            count += 1
            if count % 1000 == 0:
                await asyncio.sleep(0.2)

    assert count == 4_000


async def test_leaving_the_block_ends_a_program_that_fills_the_pipe() -> None:
    async with stream(python("while True: print('x' * 9999)"), env=ENV) as (lines, child):
        await anext(lines)

    assert not is_alive(child.pid)


async def test_progress_that_returns_to_the_start_of_its_line_is_seen_live() -> None:
    script = "sys.stdout.write('10%\\r20%\\r30%'); sys.stdout.flush(); time.sleep(600)"
    async with stream(python(script), env=ENV) as (lines, _):
        seen = [await anext(lines), await anext(lines)]

    assert seen == ["10%", "20%"]


async def test_what_a_program_left_in_its_group_ends_with_it(tmp_path: Path) -> None:
    left = tmp_path / "left"
    done = await run(python(f"p = spawn('time.sleep(600)'); write({str(left)!r}, p.pid)"), env=ENV)

    assert done.exit_code == 0
    await soon(lambda: not is_alive(pid_in(left)))


async def test_one_that_left_its_group_and_holds_the_pipe_does_not_hold_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-01"""
    monkeypatch.setattr(processes, "GRACE_S", 0.2)
    escaped = tmp_path / "escaped"
    script = f"p = spawn('time.sleep(600)', start_new_session=True); write({str(escaped)!r}, p.pid); print('done')"
    try:
        done = await asyncio.wait_for(run(python(script), env=ENV), 60)
    finally:
        os.kill(pid_in(escaped), 9)

    assert done.stdout == "done\n"


async def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    """R-03"""
    below = tmp_path / "below"
    script = f"p = spawn('time.sleep(600)'); write({str(below)!r}, p.pid); time.sleep(600)"
    task = asyncio.create_task(run(python(script), env=ENV))
    await soon(below.exists)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await soon(lambda: not is_alive(pid_in(below)))


async def test_cancelling_ends_a_program_that_ignores_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-03"""
    monkeypatch.setattr(processes, "GRACE_S", 0.1)
    stubborn = tmp_path / "stubborn"
    script = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); write({str(stubborn)!r}, os.getpid()); time.sleep(600)"
    task = asyncio.create_task(run(python(script), env=ENV))
    await soon(stubborn.exists)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not is_alive(pid_in(stubborn))


async def test_a_second_cancel_does_not_spare_a_stubborn_program(tmp_path: Path) -> None:
    """R-03: an impatient caller must not leave a child behind."""
    stubborn = tmp_path / "stubborn"
    script = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); write({str(stubborn)!r}, os.getpid()); time.sleep(600)"
    task = asyncio.create_task(run(python(script), env=ENV))
    await soon(stubborn.exists)

    task.cancel()
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await soon(lambda: not is_alive(pid_in(stubborn)))


async def test_a_killed_guard_is_replaced_and_knows_every_group(tmp_path: Path) -> None:
    async with stream(python("time.sleep(600)"), env=ENV) as (_, first):
        old = guard.pid
        assert old is not None
        os.kill(old, 9)
        await soon(lambda: not is_alive(old))
        async with stream(python("time.sleep(600)"), env=ENV):
            assert guard.pid != old
            guard.stop()  # as when klepaas ends: every watched group goes

            await asyncio.wait_for(first.wait(), 60)
    assert first.returncode == -9


def test_crlf_is_one_line_end_and_empty_lines_stay() -> None:
    splitter = LineSplitter()

    lines = [*splitter.feed(b"a\r"), *splitter.feed(b"\n\n\r\nb\r\r\rc"), *splitter.feed(b"", final=True)]

    assert lines == ["a", "", "", "b", "c"]


def test_a_line_without_an_end_comes_in_bounded_pieces() -> None:
    splitter = LineSplitter()
    limit = processes.LINE_LIMIT

    lines = [*splitter.feed(b"x" * (3 * limit + 1)), *splitter.feed(b"y\n")]

    assert max(map(len, lines)) <= limit
    assert "".join(lines) == "x" * (3 * limit + 1) + "y"


@given(st.lists(st.text(alphabet=st.sampled_from("a한🚀\n \x00é"), max_size=30)), st.integers(1, 7))
def test_lines_do_not_depend_on_where_the_pieces_were_cut(texts: list[str], size: int) -> None:
    data = "".join(texts).encode()
    splitter = LineSplitter()

    lines = [line for i in range(0, len(data), size) for line in splitter.feed(data[i : i + size])]
    lines += splitter.feed(b"", final=True)

    *whole, rest = data.decode().split("\n")
    assert lines == whole + ([rest] if rest else [])
