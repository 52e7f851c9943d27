"""One at a time, over all processes of this machine."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

_LOOK_AGAIN_S = 0.02


@contextlib.asynccontextmanager
async def held(path: Path, *, patience_s: float) -> AsyncIterator[bool]:
    """Hold the lock of this file. Yields False when its holder did not let go within `patience_s`: a stopped
    process must not stop everybody, so callers use it for what is merely wasteful to do twice at once."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield await _locked(descriptor, patience_s)
    finally:
        os.close(descriptor)


async def _locked(descriptor: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_AGAIN_S)
        else:
            return True
