"""Room on the disk a build writes to: asked before it begins, watched while it runs."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from klepaas.errors import DiskFull

_LOOK_EVERY_S = 1.0
"""A fast disk writes about 1 GB in this time; half of `min_free_bytes` is left for that."""


@dataclass(frozen=True, kw_only=True)
class BuildDisk:
    """The file system that holds `folder`, of which `min_free_bytes` stay free."""

    folder: Path
    min_free_bytes: int

    def require_room(self) -> None:
        """Refuse a build that begins with too little room. Errors: DiskFull."""
        if self.free_bytes < self.min_free_bytes:
            raise self.full("No build was begun")

    async def until_nearly_full(self) -> None:
        """Return when less than half of the room to leave is left."""
        while self.free_bytes >= self.min_free_bytes // 2:  # noqa: ASYNC110 (a disk has no event for this)
            await asyncio.sleep(_LOOK_EVERY_S)

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def full(self, what: str) -> DiskFull:
        free = self.free_bytes
        return DiskFull(
            f"{what}: no space left on device. {self.folder} has {_mib(free)} free, and klepaas keeps "
            f"{_mib(self.min_free_bytes)} of it free.",
            hint="Free some space, e.g. remove images that nothing uses, or lower KLEPAAS_DOCKER__MIN_FREE_BYTES.",
            evidence={"folder": str(self.folder), "free_bytes": free, "min_free_bytes": self.min_free_bytes},
        )


def visible_folder(path: str) -> Path | None:
    """The engine's data folder if it is on this machine. An engine inside a virtual machine names one of its own."""
    folder = Path(path)
    return folder if folder.is_absolute() and folder.is_dir() else None


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
