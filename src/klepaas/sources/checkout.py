"""A folder that git fills, and the limits that hold while it does."""

import asyncio
import os
import shutil
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from klepaas.errors import DiskFull, NetworkTimeout, RepositoryTooLarge
from klepaas.sources.git_errors import Asked

_FIRST_LOOK_S = 0.25
"""Most checkouts are over before anybody looks; at 1 GB/s of zeros this still bounds the damage."""
_ENTRY_BYTES = 512
"""What a file or folder counts beside its content: a million empty ones are not nothing."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    max_bytes: int
    """Of the folder, git's own data included."""
    min_free_bytes: int
    """Left on the disk."""
    silence: timedelta
    """How long git may neither say nor write anything."""


class Watch:
    """Looks at a folder while git fills it."""

    def __init__(self, folder: Path, limits: Limits, asked: Asked) -> None:
        self._folder, self._limits, self._asked = folder, limits, asked
        self._size = 0
        self.heard()

    def heard(self) -> None:
        """git gave a sign of life."""
        self._alive_at = time.monotonic()

    async def until_trouble(self) -> None:
        """Look until a limit is broken. Errors: DiskFull, RepositoryTooLarge, NetworkTimeout."""
        rest_s = _FIRST_LOOK_S
        while True:
            await asyncio.sleep(rest_s)
            began = time.monotonic()
            size = await asyncio.to_thread(size_of, self._folder)
            if size != self._size:
                self._size = size
                self.heard()
            self.check_room()
            self.check_size(size)
            self._check_silence()
            # A look at a large tree is slow: spend at most a tenth of the time on looking.
            rest_s = max(_FIRST_LOOK_S, 10 * (time.monotonic() - began))

    def check_room(self) -> None:
        """Errors: DiskFull when too little of the disk is left."""
        free = shutil.disk_usage(self._folder).free
        if free < self._limits.min_free_bytes:
            raise DiskFull(
                f"The disk is too full to check {self._asked.repository.display} out: {_mib(free)} MiB are free, "
                f"{_mib(self._limits.min_free_bytes)} MiB must stay free.",
                hint="Free some space where klepaas keeps its state, then deploy again.",
                evidence={"free_bytes": free, "min_free_bytes": self._limits.min_free_bytes},
            )

    def check_size(self, size: int) -> None:
        """Errors: RepositoryTooLarge."""
        if size > self._limits.max_bytes:
            raise RepositoryTooLarge(
                f"The checkout of {self._asked.repository.display} is larger than {_mib(self._limits.max_bytes)} MiB.",
                hint="Take large files out of the repository, or let the operator raise the limit.",
                evidence={"max_bytes": self._limits.max_bytes},
            )

    def _check_silence(self) -> None:
        if time.monotonic() - self._alive_at > self._limits.silence.total_seconds():
            raise NetworkTimeout(
                f"The server of {self._asked.repository.display} has sent nothing for "
                f"{self._limits.silence.total_seconds():g} seconds.",
                hint="Try again; if it stays slow, look at the network between klepaas and the server.",
            )


def make(folder: Path) -> None:
    """Errors: FileExistsError, for what is there is not ours to fill or to remove."""
    folder.mkdir(parents=True)


def size_of(folder: Path) -> int:
    """Bytes of all files below, links not followed; what vanishes meanwhile does not count."""
    total = 0
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_size + _ENTRY_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return total


async def remove(folder: Path) -> None:
    """Have the folder gone, also while the caller is being cancelled."""
    await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _mib(size: int) -> int:
    return size // 2**20
