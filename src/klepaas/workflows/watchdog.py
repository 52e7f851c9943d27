"""Ends a process that slept through its lease: another node works on its deployments by now.

A stopped or starved process cannot notice by itself in time; this thread looks at the clock that goes on while
everything sleeps. The children of the process die with it."""

import os
import sys
import threading
import time
from collections.abc import Callable

EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: a supervisor should start us again."""
LOOK_EVERY_S = 0.1
PART_OF_LEASE = 0.8
ASLEEP_S = 1.0
"""A thread that meant to sleep LOOK_EVERY_S and slept this long was stopped, and so was everything else here."""


def start(renewed_at: Callable[[], float], lease_s: float) -> None:
    """Watch from a thread. `renewed_at` reads the boot-time clock of the last renewal that succeeded."""

    def watch() -> None:
        while True:
            before = _boottime()
            time.sleep(LOOK_EVERY_S)
            now = _boottime()
            if now - before > ASLEEP_S and now - renewed_at() > lease_s * PART_OF_LEASE:
                sys.stderr.write("klepaas slept through its lease; another process took over. Stopping.\n")
                sys.stderr.flush()
                os._exit(EXIT_CODE)

    threading.Thread(target=watch, name="lease-watchdog", daemon=True).start()


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
