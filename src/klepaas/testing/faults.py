"""The fault harness: named points at which a process dies or stops, and outside calls that hang, fail or are slow.

Crash points are reached in the running product (`Reached`), so the tests kill the very process a user would run."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from klepaas.errors import DiskFull, Unavailable
from klepaas.settings import TestingSettings
from klepaas.targets.protocol import Reached, nothing_reached


def reached_from(settings: TestingSettings) -> Reached:
    """What the settings ask for: `promote.recorded` kills at its first time, `promote.recorded#2` at its second.
    `@FILE` reads that from a file, so that a process can be told later; its times count from then on."""
    plans = [_Plan(text, signum) for text, signum in _asked(settings) if text]
    if not plans and not settings.record_to:
        return nothing_reached

    async def reached(point: str) -> None:
        if settings.record_to:
            _note(Path(settings.record_to), point)
        for plan in plans:
            if plan.is_due(point):
                os.kill(os.getpid(), plan.signum)

    return reached


def _note(record: Path, point: str) -> None:
    with record.open("a") as lines:
        lines.write(f"{point}\n")


def _asked(settings: TestingSettings) -> tuple[tuple[str, signal.Signals], ...]:
    return ((settings.crash_at, signal.SIGKILL), (settings.stop_at, signal.SIGSTOP))


@dataclass
class _Plan:
    text: str
    signum: signal.Signals
    _asked: str = ""
    _times: int = 0

    def is_due(self, point: str) -> bool:
        asked = Path(self.text[1:]).read_text() if self.text.startswith("@") else self.text
        if asked != self._asked:
            self._asked, self._times = asked, 0
        name, _, time = asked.partition("#")
        if name != point:
            return False
        self._times += 1
        return self._times == int(time or 1)


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
