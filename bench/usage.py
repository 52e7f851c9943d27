"""What a process takes of the machine."""

import os
from pathlib import Path


def cpu_s(pid: int, *, with_ended_children: bool = True) -> float:
    """Of the process, and of children that ended. Source: proc_pid_stat(5), fields 14 to 17."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11 : 15 if with_ended_children else 13]) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Of the process and its children."""
    return sum(_resident_bytes(each) for each in [pid, *_children(pid)]) / 2**20


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    direct = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [each for child in direct for each in (child, *_children(child))]
