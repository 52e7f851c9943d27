"""The other side of `cradle.py`: has klepaas imported, and forks for every line it reads."""

import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import sys
from typing import Any, NoReturn

import klepaas.interfaces.api.server
import klepaas.interfaces.cli.serve
import klepaas.serving  # noqa: F401
from klepaas.interfaces.cli.app import main

_IMPORTED_LATE = ("alembic.command", "anyio._backends._asyncio", "h11", "httpcore", "mako.template")
"""What every life would import by itself."""

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG. Source: prctl(2)."""


def serve() -> None:
    for name in _IMPORTED_LATE:
        importlib.import_module(name)
    gc.freeze()
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    waiting = b""
    while True:
        for key, _ in selector.select():
            said = os.read(key.fd, 1 << 20)
            if key.fd == woken:
                _tell_of_the_dead()
                continue
            if not said:
                return
            *lines, waiting = (waiting + said).split(b"\n")
            for line in lines:
                wanted = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _live(wanted)
                _tell(born=pid)


def _tell_of_the_dead() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(ended=pid, code=os.waitstatus_to_exitcode(status))


def _tell(**what: int) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _live(wanted: dict[str, Any]) -> NoReturn:
    """Become `klepaas` as if it had just been started."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(wanted["cwd"])
    log = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for fd in (1, 2):
        os.dup2(log, fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(wanted["env"])
    sys.argv = ["klepaas", *wanted["argv"]]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
