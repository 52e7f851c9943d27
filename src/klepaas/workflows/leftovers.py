"""Checkouts that a killed process left behind."""

import asyncio
import shutil
import time
from pathlib import Path

from klepaas.operations.context import Context

OLD_S = 3600.0
"""Folders that belong to no deployment are scratch of a running program, or an hour later, of a dead one."""


async def clear(context: Context, work: Path) -> None:
    """Remove folders of ended deployments, and old ones that belong to none. Another process may share `work`."""
    for folder in await asyncio.to_thread(lambda: [each for each in work.iterdir() if each.is_dir()]):
        deployment = await context.deployments.get(folder.name)
        if deployment.status.is_terminal if deployment else _is_old(folder):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > OLD_S
    except FileNotFoundError:  # another process has removed it since we looked
        return False
