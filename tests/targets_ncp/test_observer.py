"""R-08: many waiters, few calls; who waited longest is next; nobody is forgotten."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from klepaas.errors import Rejected, Unavailable
from klepaas.targets.ncp.observer import Observer
from klepaas.targets.ncp.run import Run
from klepaas.targets.ncp.states import RunState


class History:
    def __init__(self) -> None:
        self.reads: list[int] = []
        self.faults: list[Exception] = []
        self.at_once = self.most_at_once = 0
        self.takes_s = 0.0

    async def read(self, project_id: int) -> Sequence[Run]:
        self.reads.append(project_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.takes_s)
        self.at_once -= 1
        if self.faults:
            raise self.faults.pop(0)
        return [Run(id=f"{project_id}-{len(self.reads)}", state=RunState.RUNNING, word="inprogress")]


async def test_all_who_wait_for_one_project_share_one_read() -> None:
    history = History()
    observer = Observer(history.read, every_s=0.05)
    seen = await asyncio.gather(*(observer.look(7) for _ in range(200)))
    await observer.close()

    assert history.reads == [7]
    assert {runs[0].id for runs in seen} == {"7-1"}


async def test_a_project_is_looked_at_once_an_interval_however_often_it_is_asked_for() -> None:
    history = History()
    observer = Observer(history.read, every_s=0.1, first_s=0)
    began = time.monotonic()
    for _ in range(4):
        await observer.look(7)
    took_s = time.monotonic() - began
    await observer.close()

    assert took_s >= 0.3


async def test_who_waited_longest_is_next_and_all_have_their_turn() -> None:
    history = History()
    history.takes_s = 0.002
    observer = Observer(history.read, every_s=0.01)

    async def rounds(project_id: int) -> None:
        for _ in range(3):
            await observer.look(project_id)

    await asyncio.gather(*(rounds(each) for each in range(100)))
    await observer.close()

    assert set(Counter(history.reads).values()) == {3}
    assert history.most_at_once <= 4
    halves = [Counter(history.reads[:150]), Counter(history.reads[150:])]
    assert max(halves[0].values()) <= 2, "nobody is looked at for the third time before all were twice"


async def test_a_fault_is_told_to_all_who_wait_and_ends_nothing() -> None:
    history = History()
    history.faults = [Rejected("No.")]
    observer = Observer(history.read, every_s=0.01)
    told = await asyncio.gather(*(observer.look(7) for _ in range(3)), return_exceptions=True)
    again = await observer.look(7)
    await observer.close()

    assert [type(each) for each in told] == [Rejected] * 3
    assert again[0].state is RunState.RUNNING


async def test_a_service_that_wants_to_rest_is_left_alone_by_all() -> None:
    history = History()
    history.faults = [Unavailable("429", retry_after=timedelta(seconds=0.3))]
    observer = Observer(history.read, every_s=0.01)
    with pytest.raises(Unavailable):
        await observer.look(1)
    began = time.monotonic()
    await asyncio.gather(observer.look(2), observer.look(3))
    took_s = time.monotonic() - began
    await observer.close()

    assert took_s >= 0.25


async def test_who_goes_away_costs_no_read() -> None:
    history = History()
    observer = Observer(history.read, every_s=0.5, first_s=0.5)
    gone = asyncio.create_task(observer.look(7))
    stays = asyncio.create_task(observer.look(8))
    await asyncio.sleep(0.01)
    gone.cancel()
    await stays
    await observer.close()

    assert history.reads == [8]


async def test_who_comes_back_stands_where_he_stood() -> None:
    """With many in flight a turn takes longer than somebody waits who settles an unknown outcome."""
    history = History()
    observer = Observer(history.read, every_s=0.2, first_s=0.2)
    patient = asyncio.create_task(observer.look(7))
    await asyncio.sleep(0.1)
    others = [asyncio.create_task(observer.look(each)) for each in (8, 9)]
    patient.cancel()
    await asyncio.sleep(0.01)
    again = asyncio.create_task(observer.look(7))
    await asyncio.gather(again, *others)
    await observer.close()

    assert history.reads[0] == 7


async def test_without_anybody_waiting_nothing_runs() -> None:
    history, before = History(), asyncio.all_tasks()
    observer = Observer(history.read, every_s=0.01)
    await observer.look(7)
    await asyncio.sleep(0.1)
    left = asyncio.all_tasks() - before
    await observer.close()

    assert history.reads == [7]
    assert left == set()
