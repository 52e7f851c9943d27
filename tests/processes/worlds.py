"""Small programs to start, and questions about processes."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

_PRELUDE = """
import os, signal, subprocess, sys, time
def write(path, pid):
    with open(path + ".part", "w") as file: file.write(str(pid))
    os.rename(path + ".part", path)
def spawn(code, **how):
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; " + code], **how)
"""


def python(code: str) -> list[str]:
    """A program that runs this code; `spawn(code)` starts a child of it, `write(path, pid)` tells us a pid."""
    return [sys.executable, "-I", "-S", "-c", _PRELUDE + code]


def pid_in(file: Path) -> int:
    return int(file.read_text())


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


async def soon(happened: Callable[[], bool], patience_s: float = 60) -> None:
    """Wait until it happened; fail when our patience with a busy machine ends."""
    async with asyncio.timeout(patience_s):
        while not happened():
            await asyncio.sleep(0.02)
