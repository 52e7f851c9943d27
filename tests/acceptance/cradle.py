"""Processes for tests that kill and start klepaas by the dozen: forked from one that has imported it already.

What runs is the same program, with an environment, files and a session of its own; only the second of importing it is
not paid each time. Tests of the start, and of what a process shows of itself, start it as users do."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_STARTS_WITHIN_S = 60.0


class Forked:
    """What tests use of `subprocess.Popen`."""

    def __init__(self, cradle: "Cradle", pid: int) -> None:
        self._cradle, self.pid = cradle, pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._cradle.ended.get(self.pid)

    def wait(self) -> int:
        return self._cradle.wait(self.pid)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)


class Cradle:
    """Started with the first process that is wanted; ends with the test run, and with it every process."""

    def __init__(self) -> None:
        self.ended: dict[int, int] = {}
        """Exit codes by process id, negative after a signal."""
        self._born: list[int] = []
        self._news = threading.Condition()
        self._mother: subprocess.Popen[str] | None = None

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Forked:
        """`klepaas` with these arguments; what it says is added to the log."""
        if self._mother is None:
            self._mother = subprocess.Popen(
                [*DIES_WITH_US, sys.executable, str(Path(__file__).with_name("cradle_mother.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            threading.Thread(target=self._listen, args=(self._mother,), daemon=True).start()
        log.touch()
        wanted = {"argv": list(argv), "env": dict(env), "cwd": str(cwd), "log": str(log)}
        assert self._mother.stdin is not None
        with self._news:
            self._mother.stdin.write(json.dumps(wanted) + "\n")
            self._mother.stdin.flush()
            assert self._news.wait_for(lambda: self._born, _STARTS_WITHIN_S), "the cradle does not answer"
            return Forked(self, self._born.pop())

    def wait(self, pid: int) -> int:
        with self._news:
            self._news.wait_for(lambda: pid in self.ended)
        return self.ended[pid]

    def close(self) -> None:
        if self._mother is not None:
            self._mother.kill()
            self._mother.wait()
            for pipe in (self._mother.stdin, self._mother.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()

    def _listen(self, mother: "subprocess.Popen[str]") -> None:
        assert mother.stdout is not None
        for line in mother.stdout:
            told = json.loads(line)
            with self._news:
                if "born" in told:
                    self.ended.pop(told["born"], None)
                    self._born.append(told["born"])
                else:
                    self.ended[told["ended"]] = told["code"]
                self._news.notify_all()
