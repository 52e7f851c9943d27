"""Logs nobody asks for any more: of builds, and the last words of containers that are gone."""

import contextlib
import os
from datetime import datetime
from pathlib import Path


def forget_logs(folder: Path, *, before: datetime) -> int:
    """Remove the logs below `folder` that nobody wrote to since `before`, and folders that are empty then.

    Returns how many were removed. Links are neither followed nor removed: klepaas makes none there."""
    removed = 0
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            file = Path(place, name)
            with contextlib.suppress(OSError):
                if name.endswith(".log") and not file.is_symlink() and file.stat().st_mtime < before.timestamp():
                    file.unlink()
                    removed += 1
        if Path(place).parent != folder and Path(place) != folder:
            with contextlib.suppress(OSError):  # it is not empty
                Path(place).rmdir()
    return removed
