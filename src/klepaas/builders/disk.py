"""Room on the disk a build writes to: asked before it begins, watched while it runs."""

import asyncio
import shutil
from pathlib import Path

from klepaas.errors import DiskFull

_LOOK_EVERY_S = 1.0
_NEARLY_BYTES = 2**30
"""About what a fast disk writes between two looks."""


class BuildDisk:
    """The file system that holds `folder`, of which `min_free_bytes` stay free. One for each build."""

    def __init__(self, folder: Path, *, min_free_bytes: int) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._lowest_free_bytes = shutil.disk_usage(folder).free

    def require_room(self) -> None:
        """Refuse a build that begins with too little room. Errors: DiskFull."""
        if self._free_bytes() < self._min_free_bytes:
            raise self.full("No build was begun")

    async def until_nearly_full(self) -> None:
        """Return when less than half of the room to leave is left."""
        while self._free_bytes() >= self._min_free_bytes // 2:  # noqa: ASYNC110 (a disk has no event for this)
            await asyncio.sleep(_LOOK_EVERY_S)

    @property
    def was_nearly_full(self) -> bool:
        """Whether little was left at the fullest moment seen: what filled the disk may be gone again."""
        return self._lowest_free_bytes < max(self._min_free_bytes, _NEARLY_BYTES)

    def full(self, what: str) -> DiskFull:
        free = self._free_bytes()
        return DiskFull(
            f"{what}: no space left on device. {self._folder} has {_mib(free)} free, and klepaas keeps "
            f"{_mib(self._min_free_bytes)} of it free.",
            hint="Free some space, e.g. remove images that nothing uses, or lower KLEPAAS_DOCKER__MIN_FREE_BYTES.",
            evidence={"folder": str(self._folder), "free_bytes": free, "min_free_bytes": self._min_free_bytes},
        )

    def _free_bytes(self) -> int:
        free = shutil.disk_usage(self._folder).free
        self._lowest_free_bytes = min(free, self._lowest_free_bytes)
        return free


def visible_folder(path: str) -> Path | None:
    """The engine's data folder if it is on this machine. An engine inside a virtual machine names one of its own."""
    folder = Path(path)
    return folder if folder.is_absolute() and folder.is_dir() else None


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
