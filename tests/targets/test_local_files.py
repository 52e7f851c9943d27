import asyncio
import os
from pathlib import Path

import pytest

from klepaas.errors import Invalid
from klepaas.file_lock import held
from klepaas.targets.local.files import write_whole
from klepaas.targets.local.proxy import _refuse_folder
from klepaas.targets.local.runtime_log import KEPT_BYTES, RuntimeLogs
from klepaas.targets.local.sockets import bindable, connections_to


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "up"
    write_whole(path, b"one")
    reader = path.open("rb")
    write_whole(path, b"two")

    assert (reader.read(), path.read_bytes()) == (b"one", b"two")
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["up"]


async def test_a_saved_log_keeps_whole_last_lines_for_its_owner_only(tmp_path: Path) -> None:
    logs = RuntimeLogs(tmp_path / "logs")
    await logs.save("shop", "r1", [f"line {number} " + "x" * 100 for number in range(2000)])
    kept = await logs.read("shop", "r1", 10_000)
    file = tmp_path / "logs/shop/r1.log"

    assert kept[-1].startswith("line 1999 ")
    assert kept[0].startswith("line ")
    assert file.stat().st_size <= KEPT_BYTES
    assert file.stat().st_mode & 0o777 == 0o600


async def test_an_empty_log_does_not_replace_what_was_kept(tmp_path: Path) -> None:
    logs = RuntimeLogs(tmp_path)
    await logs.save("shop", "r1", ["last words"])
    await logs.save("shop", "r1", [])

    assert await logs.read("shop", "r1", 5) == ["last words"]


@pytest.mark.parametrize("name", ["../../etc", "..", "/etc/x", ""])
async def test_names_from_labels_cannot_leave_the_log_folder(tmp_path: Path, name: str) -> None:
    logs = RuntimeLogs(tmp_path / "logs")
    await logs.save(name, name, ["x"])
    written = [folder for folder, _, files in os.walk(tmp_path) if files]

    assert [Path(folder).parent for folder in written] == [tmp_path / "logs"]


async def test_a_lock_is_held_by_one_and_a_stuck_holder_does_not_stop_everybody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    async with held(path, patience_s=1) as first, held(path, patience_s=0.05) as second:
        locked = (first, second)
    async with held(path, patience_s=1) as third:
        pass

    assert (*locked, third) == (True, False, True)


async def test_connections_are_counted_at_the_callers_end_only() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        before = connections_to(host, port)
        _, writer = await asyncio.open_connection(host, port)
        during = connections_to(host, port)
        writer.close()
        free = bindable(host, port)

    assert (before, during, free) == (0, 1, False)


@pytest.mark.parametrize("folder", ["/" + "x" * 100, "/srv/{a}", "relative"])
def test_a_home_the_proxy_cannot_work_in_is_refused(folder: str) -> None:
    with pytest.raises(Invalid):
        _refuse_folder(Path(folder))
