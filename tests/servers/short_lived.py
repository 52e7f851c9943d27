"""Folders of what ends with the test run: in memory where there is room, since a disk makes each file dear."""

import os
import re
import tempfile
from functools import cache
from pathlib import Path

ROOM_BYTES = 8 * 2**30
"""A test run keeps one or two GiB there at a time, most of them layers of images."""


def short_lived_folder(prefix: str) -> Path:
    """A new folder whose path is short enough for a socket in it. Whoever asks for it removes it."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=short_lived_root()))


@cache
def short_lived_root() -> Path:
    """Chosen once for each process: what others keep there meanwhile changes nothing."""
    memory = Path("/dev/shm")
    has_room = os.path.ismount(memory) and min(_free_bytes(memory), _available_bytes()) > ROOM_BYTES
    return memory if has_room and os.access(memory, os.W_OK) else Path("/tmp")


def _free_bytes(folder: Path) -> int:
    files = os.statvfs(folder)
    return files.f_bavail * files.f_frsize


def _available_bytes() -> int:
    """Of this machine's memory."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
