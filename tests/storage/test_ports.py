import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.errors import Unavailable
from klepaas.storage.database import Database
from klepaas.storage.ports import REFUSED_FOR, PortLeaseTable
from tests.storage.worlds import SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ports(database: Database, clock: SetClock) -> PortLeaseTable:
    return PortLeaseTable(database, clock, (20000, 29999))


async def test_a_holder_keeps_its_port(ports: PortLeaseTable, database: Database, clock: SetClock) -> None:
    port = await ports.lease("release:rel_1")
    after_a_restart = PortLeaseTable(database, clock, (20000, 29999))

    assert await ports.lease("release:rel_1") == port == await after_a_restart.lease("release:rel_1")
    assert 20000 <= port <= 29999
    assert await ports.leased() == {"release:rel_1": port}


async def test_holders_that_ask_at_once_get_ports_of_their_own(ports: PortLeaseTable) -> None:
    made = await asyncio.gather(*(ports.lease(f"release:rel_{n % 20}") for n in range(40)))

    assert made[:20] == made[20:]
    assert len(set(made)) == 20


async def test_a_narrow_range_is_used_up_to_its_last_port_and_then_refused(database: Database, clock: SetClock) -> None:
    first = _free_run(4)
    ports = PortLeaseTable(database, clock, (first, first + 3))
    made = await asyncio.gather(*(ports.lease(f"release:rel_{n}") for n in range(4)))

    assert sorted(made) == list(range(first, first + 4))
    with pytest.raises(Unavailable, match=f"between {first} and {first + 3}"):
        await ports.lease("release:one-too-many")
    await ports.free("release:rel_0")
    await ports.free("release:rel_0")
    assert await ports.lease("release:another") == made[0]


async def test_a_port_that_somebody_else_listens_on_is_passed_over(database: Database, clock: SetClock) -> None:
    first = _free_run(2)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", first))
        stranger.listen()

        assert await PortLeaseTable(database, clock, (first, first + 1)).lease("release:rel_1") == first + 1


async def test_a_replaced_port_is_not_offered_again_for_a_while(database: Database, clock: SetClock) -> None:
    first = _free_run(2)
    ports = PortLeaseTable(database, clock, (first, first + 1))
    taken = await ports.lease("release:rel_1")
    other = await ports.replace("release:rel_1", taken)
    assert {taken, other} == {first, first + 1}
    assert await ports.replace("release:rel_1", taken) == other, "repeated, it changes nothing"

    with pytest.raises(Unavailable):
        await ports.lease("release:rel_2")
    clock.time += REFUSED_FOR + timedelta(seconds=1)
    assert await ports.lease("release:rel_2") == taken


async def test_a_port_is_handed_over_at_once_or_not_at_all(ports: PortLeaseTable) -> None:
    port = await ports.lease("release:rel_1")
    assert await ports.hand_over("release:rel_1", "door:app") == port
    assert await ports.leased() == {"door:app": port}
    assert await ports.hand_over("release:rel_1", "door:app") is None, "the holder has none any more"

    other = await ports.lease("release:rel_2")
    assert await ports.hand_over("release:rel_2", "door:app") is None, "the door has one"
    assert await ports.leased() == {"door:app": port, "release:rel_2": other}


async def test_leases_are_read_once_where_nobody_else_writes(
    ports: PortLeaseTable, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await ports.lease("release:rel_1")
    reads = 0
    read = database.read

    def counted() -> AbstractAsyncContextManager[AsyncConnection]:
        nonlocal reads
        reads += 1
        return read()

    monkeypatch.setattr(database, "read", counted)
    for _ in range(3):
        assert await ports.leased() == {"release:rel_1": port}

    assert reads == (1 if database.is_sqlite else 3)


async def test_leases_that_were_read_while_they_changed_are_not_kept(
    ports: PortLeaseTable, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = database.read

    @asynccontextmanager
    async def read_late() -> AsyncIterator[AsyncConnection]:
        async with read() as connection:
            yield connection
        monkeypatch.setattr(database, "read", read)
        await ports.lease("release:rel_1")

    monkeypatch.setattr(database, "read", read_late)

    assert await ports.leased() == {}
    assert list(await ports.leased()) == ["release:rel_1"]


def _free_run(length: int) -> int:
    """The first of so many neighbouring ports that nobody holds now."""
    for first in random.sample(range(21000, 29000), 1000):
        try:
            for port in range(first, first + length):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise RuntimeError("no free ports")
