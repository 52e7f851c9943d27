"""Whether there is room to keep a frozen release: its memory stays taken."""

from pathlib import Path

_SPARE_SHARE = 0.1
"""Of the machine's memory; that much stays free for the next build and the next release."""


def has_room_for(memory_bytes: int) -> bool:
    """Whether at least `memory_bytes` (a guess of what the next release needs) and a tenth of the memory are free.

    True where that cannot be seen. Source: proc_meminfo(5), in kB."""
    try:
        rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        seen = {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1}
    except OSError:
        return True
    return seen["MemAvailable"] > memory_bytes + _SPARE_SHARE * seen["MemTotal"]
