"""Have a Docker engine on a fresh machine: use what is there, start what is installed, install what is missing.

Only root is served so far, and only on Debian and Ubuntu; anybody else is told the one command to type."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from klepaas import processes
from klepaas.docker.daemon import STARTS_WITHIN_S, end_daemon, start_daemon
from klepaas.docker.discovery import Trouble, find_engine, look
from klepaas.docker.machine import SYSTEM_PATH, Machine
from klepaas.errors import EngineUnavailable, Unavailable

SOCKET = Path("/var/run/docker.sock")

_PACKAGES = ("docker.io",)
_APART_SINCE_DEBIAN_13 = ("docker-cli", "docker-buildx")
_INSTALLS_WITHIN = timedelta(minutes=10)
"""5 s on a good line, for 60 MB to download."""


@dataclass(frozen=True, kw_only=True)
class ReadyEngine:
    """An engine that answers, and whether it is ours to stop."""

    host: str
    """`unix:///…`"""
    started_pid: int | None = None
    """Of the dockerd that was started now. None: it ran before, or systemd looks after it."""

    async def stop(self) -> None:
        """End the engine if it was started now. Containers must be removed before: they would live on."""
        if self.started_pid is not None:
            await end_daemon(self.started_pid)


async def ensure_engine(
    explicit: str | None,
    docker_host_env: str | None,
    *,
    user_home: Path,
    state: Path,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    machine: Machine | None = None,
) -> ReadyEngine:
    """Return an engine that answers, after starting or installing one if this machine lets us.

    `user_home` is the user's home folder, `state` KLEPAAS_HOME, `environment` what programs are given beside
    PATH (proxies). `say` is told, in a sentence, before anything takes time or changes the machine.

    Errors: EngineUnavailable with the one thing to do next; Unavailable when packages cannot be installed."""
    machine = machine or Machine.this()
    try:
        host = await asyncio.to_thread(find_engine, explicit, docker_host_env, user_home, machine=machine)
        return ReadyEngine(host=host)
    except EngineUnavailable as error:
        if not _can_be_helped(error, machine):
            raise
    if not machine.dockerd:
        await _install(environment, say)
    return await _start(machine, state, environment, say)


def _can_be_helped(error: EngineUnavailable, machine: Machine) -> bool:
    """Whether we may and can have the engine that is missing: the machine's own, never one chosen elsewhere."""
    trouble, socket = error.evidence.get("trouble"), error.evidence.get("socket")
    missing = trouble in (Trouble.ABSENT, Trouble.NOT_RUNNING)
    stopped = trouble in (Trouble.REFUSED, Trouble.NO_SOCKET) and socket == str(SOCKET)
    return (missing or stopped) and machine.root and (machine.dockerd or machine.apt)


async def _install(environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    say("Installing Docker (Debian's package docker.io) …")
    if not await _known(_PACKAGES[0], environment):
        await _apt(["update"], environment)
    packages = [*_PACKAGES, *[name for name in _APART_SINCE_DEBIAN_13 if await _known(name, environment)]]
    install = ["install", "--no-install-recommends", *packages]
    try:
        await _apt(install, environment)
    except Unavailable:  # a package list from last month names files that are gone
        await _apt(["update"], environment)
        await _apt(install, environment)


async def _start(
    machine: Machine, state: Path, environment: Mapping[str, str], say: Callable[[str], None]
) -> ReadyEngine:
    say("Starting the Docker engine …")
    host = f"unix://{SOCKET}"
    if not machine.systemd:
        pid = await start_daemon(state / "docker", SOCKET, environment=environment)
        return ReadyEngine(host=host, started_pid=pid)
    started = await _run(["systemctl", "enable", "--now", "docker"], environment)
    deadline = time.monotonic() + STARTS_WITHIN_S
    while await asyncio.to_thread(look, SOCKET) is not None:
        if started.exit_code or time.monotonic() > deadline:
            raise EngineUnavailable(
                f"systemd could not start the Docker engine. {_last_line(started.stderr)}".strip(),
                hint="See: journalctl --unit docker --lines 50",
            )
        await asyncio.sleep(0.1)
    return ReadyEngine(host=host)


async def _known(package: str, environment: Mapping[str, str]) -> bool:
    found = await _run(["apt-cache", "show", "--no-all-versions", package], environment)
    return found.exit_code == 0


async def _apt(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    done = await _run(["apt-get", "--yes", "--quiet", "-o", "DPkg::Lock::Timeout=120", *arguments], environment)
    if done.exit_code:
        raise Unavailable(
            f"apt-get {arguments[0]} failed. {_last_line(done.stderr) or _last_line(done.stdout)}".strip(),
            hint="Install an engine yourself: apt-get update && apt-get install -y docker.io",
            evidence={"exit_code": done.exit_code, "last_lines": done.stderr.splitlines()[-10:]},
        )


async def _run(argv: Sequence[str], environment: Mapping[str, str]) -> processes.Finished:
    quietly = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "a", "LC_ALL": "C.UTF-8"}
    try:
        async with asyncio.timeout(_INSTALLS_WITHIN.total_seconds()):
            return await processes.run(argv, env={**environment, **quietly, "PATH": SYSTEM_PATH})
    except TimeoutError:
        raise Unavailable(
            f"{argv[0]} did not end in {_INSTALLS_WITHIN}.", hint="Look at the network, then try again."
        ) from None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
