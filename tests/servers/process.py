"""Whether a process is gone, for tests that end what is not their own child."""

import time
from pathlib import Path

LEAVES_WITHIN_S = 10


def leaves(pid: int) -> bool:
    """Wait for a process that was ended to be gone, or a zombie that its parent has not fetched yet."""
    deadline = time.monotonic() + LEAVES_WITHIN_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
