"""R-27: how often a service is asked, counted; with a clock that stands still until it is moved."""

import asyncio
from types import SimpleNamespace

import pytest

from klepaas.errors import Unavailable
from klepaas.targets.ncp import budget
from klepaas.targets.ncp.budget import Budget, Budgets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        made.now += seconds
        await real(0)

    # There alone: whatever else runs in this process sleeps as it did.
    monkeypatch.setattr(budget, "asyncio", SimpleNamespace(sleep=sleep))
    return made


async def rest_of(made: Budget, is_polling: bool) -> float | None:
    """None when the turn came; else how long to stay away."""
    try:
        await made.take(is_polling=is_polling)
    except Unavailable as refused:
        return None if refused.retry_after is None else refused.retry_after.total_seconds()
    return None


@pytest.mark.parametrize("per_minute", [2, 7, 60, 600])
@pytest.mark.parametrize("is_polling", [True, False])
async def test_no_minute_has_more_calls_than_the_budget(clock: Clock, per_minute: int, is_polling: bool) -> None:
    made, at = Budget("SourceBuild", per_minute, clock=clock), []
    while clock.now < 1300:
        rest_s = await rest_of(made, is_polling)
        if rest_s is None:
            at.append(clock.now)
        else:
            clock.now += rest_s
    share = max(1, per_minute // 2) if is_polling else max(1, per_minute - per_minute // 2)

    assert max(sum(1 for other in at if one <= other < one + 60) for one in at) <= max(share, 1)
    assert len(at) >= share * 3


async def test_watching_takes_nobody_elses_turn() -> None:
    """Those who watch wait here without end; who asks is let through at once."""
    made = Budget("SourceBuild", 60)
    watchers = [asyncio.create_task(rest_of(made, True)) for _ in range(100)]
    await asyncio.sleep(0)
    asked = asyncio.create_task(made.take(is_polling=False))
    await asyncio.sleep(0)

    assert asked.done()
    assert sum(not each.done() for each in watchers) > 5
    for each in watchers:
        each.cancel()


async def test_accounts_and_services_have_their_own(clock: Clock) -> None:
    budgets = Budgets(2, clock=clock)

    assert budgets.of("SourceBuild", "a") is budgets.of("SourceBuild", "a")
    assert budgets.of("SourceBuild", "a") is not budgets.of("SourceBuild", "b")
    assert budgets.of("SourceBuild", "a") is not budgets.of("SourceDeploy", "a")
