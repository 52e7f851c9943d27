"""The guard: one small program beside klepaas that kills the process groups of its children when klepaas is gone.

The kernel can kill a child with its parent, but not what the child started (git's transfer program, a plugin of
the docker CLI). The guard holds the read end of a pipe that only klepaas can write to; the pipe ends when klepaas
does, however it ends.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys


class Guard:
    """Our side: starts the program when the first child is started, and again when somebody killed it."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._program: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._program.pid if self._program else None

    def watch(self, group: int) -> None:
        """Have the process group killed when this process ends."""
        self._groups.add(group)
        if self._program is None or self._program.poll() is not None:
            self._start()
            self._tell(*(f"+{group}" for group in self._groups))
        else:
            self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        """The group is gone; its number may soon belong to somebody else."""
        self._groups.discard(group)
        self._tell(f"-{group}")

    def stop(self) -> None:
        """End the guard, and with it every group that is still watched."""
        if self._program is not None and self._program.stdin is not None:
            with contextlib.suppress(OSError):
                self._program.stdin.close()
            self._program.wait()
            self._program = None

    def _start(self) -> None:
        self.stop()
        self._program = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,  # what ends our process group must not end the guard before us
            bufsize=0,
        )
        assert self._program.stdin is not None
        os.set_blocking(self._program.stdin.fileno(), False)

    def _tell(self, *words: str) -> None:
        if self._program is None or self._program.stdin is None:
            return
        # A guard that was killed is replaced at the next `watch`; a stopped one must not stop us.
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            self._program.stdin.write("".join(f"{word}\n" for word in words).encode())


def _watch_until_klepaas_is_gone() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    groups: set[int] = set()
    for word in sys.stdin.buffer:
        (groups.add if word.startswith(b"+") else groups.discard)(int(word[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    _watch_until_klepaas_is_gone()
else:
    guard = Guard()
    atexit.register(guard.stop)
