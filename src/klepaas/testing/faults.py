"""The fault harness: named points at which a process dies or stops, and outside calls that hang, fail or are slow.

Crash points are reached in the running product (`Reached`), so the tests kill the very process a user would run."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from klepaas.errors import DiskFull, Unavailable
from klepaas.settings import TestingSettings
from klepaas.targets.protocol import Reached, nothing_reached


def reached_from(settings: TestingSettings) -> Reached:
    """What the settings ask for: `promote.recorded` kills at its first time, `promote.recorded#2` at its second."""
    plans = [(_point(text), signum) for text, signum in _asked(settings) if text]
    if not plans:
        return nothing_reached
    counts: dict[str, int] = {}

    async def reached(point: str) -> None:
        counts[point] = counts.get(point, 0) + 1
        for (name, at), signum in plans:
            if name == point and at == counts[point]:
                os.kill(os.getpid(), signum)

    return reached


def _asked(settings: TestingSettings) -> tuple[tuple[str, signal.Signals], ...]:
    return ((settings.crash_at, signal.SIGKILL), (settings.stop_at, signal.SIGSTOP))


def _point(text: str) -> tuple[str, int]:
    name, _, count = text.partition("#")
    return name, int(count or 1)


Fault = Callable[[], Awaitable[None]]
"""Happens before the real call; raises, waits or returns."""


async def hang() -> None:
    await asyncio.Event().wait()


async def disk_full() -> None:
    raise DiskFull("No space left on device.", hint="Free some space.")


async def unavailable() -> None:
    raise Unavailable("It does not answer.")


def slow(seconds: float) -> Fault:
    async def wait() -> None:
        await asyncio.sleep(seconds)

    return wait


@dataclass
class Faulty:
    """A stand-in in front of a real part: its methods first meet their fault, then do what they do.

    `faults` maps a method name to the faults of its calls, in order; without one left the call is untouched."""

    real: Any
    faults: Mapping[str, list[Fault]]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if name not in self.faults:
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.faults[name]:
                await self.faults[name].pop(0)()
            return await found(*args, **kwargs)

        return call
