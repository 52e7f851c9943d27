"""A dockerd that klepaas starts itself, on a machine without systemd: it outlives klepaas and its apps outlive it."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from klepaas.docker.discovery import look
from klepaas.docker.machine import SYSTEM_PATH
from klepaas.errors import EngineUnavailable

STARTS_WITHIN_S = 20.0
"""Plain dockerd was up in 0.4 to 1.3 s."""
ENDS_WITHIN_S = 20.0
"""It gives its containers 15 s."""
_POLL_S = 0.05

_STEP_LOG_LIMITS = {"BUILDKIT_STEP_LOG_MAX_SIZE": "10485760", "BUILDKIT_STEP_LOG_MAX_SPEED": "10485760"}
"""Bytes, and bytes per second. BuildKit's own limits (1 MiB a step, 100 KiB/s) cut the logs of ordinary builds."""

_MEANINGS = (
    # what dockerd writes → what it means, what to do
    (
        "needs to be started with root",
        "dockerd must be started as root",
        "Run klepaas with sudo, or start the engine yourself.",
    ),
    (
        "devices cgroup isn't mounted",
        "this container has no control groups of its own",
        "Run the outer container with --privileged, or give it the host's Docker socket.",
    ),
    (
        "permission denied (you must be root)",
        "this container may not change the firewall",
        "Run the outer container with --privileged, or give it the host's Docker socket.",
    ),
    (
        "flags: invalid argument",
        "the root folder is not a mount point, as in a chroot",
        "Start the engine outside of the chroot.",
    ),
    ("iptables not found", "iptables is missing", "Install it: apt-get install -y iptables"),
    ('exec: "iptables"', "iptables is missing", "Install it: apt-get install -y iptables"),
    ("failed to find runc binary", "runc is missing", "Install it: apt-get install -y runc"),
    ('exec: "runc"', "runc is missing", "Install it: apt-get install -y runc"),
    ('exec: "containerd"', "containerd is missing", "Install it: apt-get install -y containerd"),
    (
        "pid file found",
        "another dockerd is running and does not answer",
        "Look at its log, end it (its number is in /var/run/docker.pid), then try again.",
    ),
    ("no space left on device", "the disk is full", "Make room where Docker keeps its data (/var/lib/docker)."),
)


async def start_daemon(
    folder: Path, socket: Path, *, environment: Mapping[str, str], options: Sequence[str] = ()
) -> int | None:
    """Have a dockerd answering at `socket`, with its log in `folder`. Return its process id.

    None when somebody else's engine began to answer there meanwhile: that one is used, ours has ended.
    Errors: EngineUnavailable with what its log says."""
    # Beside the socket, where dockerd has it anyway: of two that start at once only one gets further than this,
    # and the other does not touch its socket.
    pidfile = socket.with_suffix(".pid")
    log = _prepared(folder, pidfile)
    began = log.stat().st_size
    pid = _spawn(_command(socket, pidfile, options), {**environment, **_STEP_LOG_LIMITS, "PATH": SYSTEM_PATH}, log)
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        if await asyncio.to_thread(look, socket) is None:
            return pid if _number_in(pidfile) == pid else None
        if _has_ended(pid) and not _is_dockerd(pidfile):
            raise explain(_text_from(log, began), log)
        await asyncio.sleep(_POLL_S)
    await end_daemon(pid)
    raise explain(_text_from(log, began), log)


async def end_daemon(pid: int) -> None:
    """End a dockerd by its process id and wait until it is gone. Its containers live on (live-restore)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not _has_ended(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_POLL_S)


def explain(text: str, log: Path) -> EngineUnavailable:
    """What a dockerd that did not start says in its log, in words for people."""
    lowered = text.lower()
    tail = [line for line in text.splitlines() if line.strip()][-3:]
    evidence = {"log": str(log), "last_lines": tail}
    for sign, meaning, hint in _MEANINGS:
        if sign in lowered:
            return EngineUnavailable(
                f"The Docker engine could not be started: {meaning}.", hint=hint, evidence=evidence
            )
    said = f" It said last: {tail[-1]}" if tail else ""
    return EngineUnavailable(
        f"The Docker engine could not be started.{said}", hint=f"Its whole log is {log}.", evidence=evidence
    )


def uplink_mtu() -> int | None:
    """The MTU of the default route in bytes. None when there is no such route or this is not Linux.

    A bridge with a larger one makes every connection from a build stall where ICMP is filtered."""
    try:
        routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
        # Columns: interface, destination, gateway, flags, references, uses, metric.
        defaults = sorted((int(route[6]), route[0]) for route in routes if route[1] == "00000000")
        return int(Path("/sys/class/net", defaults[0][1], "mtu").read_text()) if defaults else None
    except (OSError, ValueError, IndexError):
        return None


def _command(socket: Path, pidfile: Path, options: Sequence[str]) -> list[str]:
    mtu = uplink_mtu()
    return [
        shutil.which("dockerd", path=SYSTEM_PATH) or "dockerd",
        *("--host", f"unix://{socket}", "--pidfile", str(pidfile)),
        # Containers live on while dockerd restarts; without its proxies their published ports answer meanwhile.
        *("--live-restore", "--userland-proxy=false"),
        *(("--mtu", str(mtu)) if mtu else ()),
        *options,
    ]


def _spawn(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a program that is meant to outlive us; everything else goes through `klepaas.processes`."""
    return os.posix_spawn(
        argv[0],
        list(argv),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # not ours: started by an earlier klepaas, or waited for already
        return _is_gone(pid)


def _is_gone(pid: int) -> bool:
    """Whether the process has left, be it as a zombie that nobody fetches (in a container without an init)."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _prepared(folder: Path, pidfile: Path) -> Path:
    """The log in a folder that is made when it is missing. No pid file of a dead dockerd is in the way."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "dockerd.log"
    log.touch(0o600)
    # dockerd refuses to start when the number in its pid file is in use, after a reboot maybe by somebody else.
    if not _is_dockerd(pidfile):
        pidfile.unlink(missing_ok=True)
    return log


def _is_dockerd(pidfile: Path) -> bool:
    try:
        return Path("/proc", str(_number_in(pidfile)), "comm").read_text().strip() == "dockerd"
    except OSError:
        return False


def _number_in(pidfile: Path) -> int | None:
    try:
        return int(pidfile.read_text())
    except (OSError, ValueError):
        return None


def _text_from(log: Path, offset: int) -> str:
    """What was written since `offset`, its last 64 KiB at most."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(offset, size - 64 * 1024))
        return file.read().decode(errors="replace")
