"""Find the Docker engine to work with, or say which one thing is in the way.

Somebody's choice (klepaas' setting, DOCKER_HOST, a docker context) is taken at its word: when that engine does
not answer, no other is taken in its place. Without a choice the usual sockets are tried in order."""

import errno
import hashlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx

from klepaas.docker.machine import Machine
from klepaas.errors import EngineUnavailable

PING_S = 3.0
"""An engine answers in about 1 ms; one under heavy load was seen to need a second."""


class Trouble(StrEnum):
    """Why there is no engine; in the evidence of EngineUnavailable as `trouble`."""

    ABSENT = "absent"
    NOT_RUNNING = "not_running"
    NO_SOCKET = "no_socket"
    REFUSED = "refused"
    DENIED = "denied"
    SILENT = "silent"
    STRANGER = "stranger"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Choice:
    """An engine somebody chose, and the words for where: `the setting KLEPAAS_DOCKER__HOST`."""

    host: str
    where: str


def find_engine(
    explicit: str | None,
    docker_host_env: str | None,
    home: Path,
    *,
    machine: Machine | None = None,
    sockets: Sequence[Path] | None = None,
) -> str:
    """Return `unix:///…` of an engine that answers now.

    `explicit` is klepaas' own setting, `docker_host_env` the value of DOCKER_HOST, `home` the user's home folder
    (for the docker context). `machine` and `sockets` are this machine's unless given.

    Errors: EngineUnavailable; `trouble` in its evidence is a Trouble."""
    machine = machine or Machine.this()
    if choice := _choice(explicit, docker_host_env, home):
        path = _socket_of(choice)
        if trouble := look(path):
            raise _unavailable(trouble, path, machine, chosen_by=choice.where)
        return f"unix://{path}"
    troubles: dict[Path, Trouble] = {}
    for path in usual_sockets(home) if sockets is None else sockets:
        if not (trouble := look(path)):
            return f"unix://{path}"
        troubles[path] = trouble
    raise _most_telling(troubles, machine)


def look(path: Path) -> Trouble | None:
    """Ask the engine at this socket whether it is there. None: it answers."""
    try:
        _connect(path)
        # A socket of this machine: reading all certificate authorities would be for nothing.
        transport = httpx.HTTPTransport(uds=str(path), verify=False)
        with httpx.Client(transport=transport, trust_env=False, timeout=PING_S) as client:
            answer = client.get("http://engine/_ping")
    except PermissionError:
        return Trouble.DENIED
    except FileNotFoundError:
        return Trouble.NO_SOCKET
    except (TimeoutError, httpx.TimeoutException):
        return Trouble.SILENT
    except httpx.TransportError:
        return Trouble.STRANGER
    except OSError as error:
        # ENOTSOCK, a plain file in the socket's place, is refused just the same on Linux.
        return Trouble.SILENT if error.errno == errno.EAGAIN else Trouble.REFUSED
    if not answer.is_success:
        return Trouble.SILENT
    return None if "Api-Version" in answer.headers else Trouble.STRANGER


def usual_sockets(home: Path) -> tuple[Path, ...]:
    """Where engines listen when nobody said otherwise, the likeliest first."""
    runtime = Path("/run/user", str(os.geteuid()))
    return (
        Path("/var/run/docker.sock"),
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        home / ".colima/default/docker.sock",
        runtime / "docker.sock",
        Path("/run/podman/podman.sock"),
        runtime / "podman/podman.sock",
    )


def _choice(explicit: str | None, docker_host_env: str | None, home: Path) -> Choice | None:
    if explicit:
        return Choice(explicit, "the setting KLEPAAS_DOCKER__HOST")
    if docker_host_env:
        return Choice(docker_host_env, "DOCKER_HOST")
    return _context(home / ".docker")


def _context(folder: Path) -> Choice | None:
    """The docker CLI's current context. Source: docker/cli, docs of `docker context`; one folder per context,
    named by the SHA-256 of its name."""
    name = _member(folder / "config.json", "currentContext")
    if not name or name == "default":
        return None
    digest = hashlib.sha256(name.encode()).hexdigest()
    host = _member(folder / "contexts/meta" / digest / "meta.json", "Endpoints", "docker", "Host")
    return Choice(host, f"the docker context {name!r}") if host else None


def _member(path: Path, *names: str) -> str:
    """A text inside a JSON file; empty when the file or the member is not there or is something else."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return ""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _socket_of(choice: Choice) -> Path:
    host = choice.host.strip()
    path = host.removeprefix("unix://")
    if path.startswith("/") and "\0" not in path:
        return Path(path)
    raise EngineUnavailable(
        f"{_sentence(choice.where)} points at {host!r}, and klepaas works only with an engine on this machine.",
        hint="Give its socket, e.g. unix:///var/run/docker.sock, in KLEPAAS_DOCKER__HOST.",
        evidence={"trouble": Trouble.UNSUPPORTED, "host": host},
    )


def _connect(path: Path) -> None:
    """Reach the socket, or fail with the system's own reason, which the HTTP client does not hand on."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PING_S)
        probe.connect(str(path))


_TELLING = (Trouble.DENIED, Trouble.SILENT, Trouble.REFUSED, Trouble.STRANGER)
"""The nearer to a working engine, the more it tells."""


def _most_telling(troubles: dict[Path, Trouble], machine: Machine) -> EngineUnavailable:
    for telling in _TELLING:
        for path, trouble in troubles.items():
            if trouble is telling:
                return _unavailable(trouble, path, machine)
    return _unavailable(Trouble.NOT_RUNNING if machine.dockerd else Trouble.ABSENT, None, machine)


def _unavailable(trouble: Trouble, path: Path | None, machine: Machine, *, chosen_by: str = "") -> EngineUnavailable:
    chosen = f" {_sentence(chosen_by)} points there." if chosen_by else ""
    message, hint = _words(trouble, path, machine)
    evidence = {"trouble": trouble, **({"socket": str(path)} if path else {})}
    return EngineUnavailable(message + chosen, hint=hint, evidence=evidence)


def _words(trouble: Trouble, path: Path | None, machine: Machine) -> tuple[str, str]:
    """What happened, and what to do next."""
    start = f"Start the engine: {machine.command_to_start()}"
    install = machine.command_to_install()
    match trouble:
        case Trouble.DENIED:
            return (
                f"The user {machine.user} may not use the Docker engine at {path}: permission denied.",
                f"sudo usermod -aG docker {machine.user}, then log in again "
                "(this makes the user as powerful as root), or run klepaas with sudo.",
            )
        case Trouble.REFUSED:
            return f"Nobody listens at the Docker socket {path}: its engine has stopped.", start
        case Trouble.SILENT:
            return (
                f"The Docker engine at {path} accepts connections and does not answer in {PING_S:g} s.",
                "It may be starting or overloaded; look at its log, then try again.",
            )
        case Trouble.STRANGER:
            return (
                f"What listens at {path} is not a Docker engine.",
                "Point KLEPAAS_DOCKER__HOST at the engine's own socket.",
            )
        case Trouble.NO_SOCKET:
            return f"There is no Docker socket at {path}.", start if machine.dockerd else _install_hint(install)
        case Trouble.NOT_RUNNING:
            return "The Docker engine is installed here and does not run.", start
        case _:
            return "There is no Docker engine on this machine.", _install_hint(install)


def _install_hint(command: str) -> str:
    return f"Install one: {command}" if command else "Install Docker or Podman and start it."


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
