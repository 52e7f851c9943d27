"""Sockets as the Linux kernel lists them. Elsewhere, or where we may not look, nothing can be said: None.

Source: proc_net_tcp(5). Addresses are in hexadecimal, in the byte order of the machine."""

import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED = "01"
_LISTEN = "0A"
_DOCKER_DNS = "127.0.0.11"
"""The engine's own name server inside containers on user-made networks."""


@dataclass(frozen=True, order=True)
class Listener:
    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host.startswith("127.") or self.host in {"::1", "::ffff:127.0.0.1"}

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listeners_in(pid: int, container_id: str) -> tuple[Listener, ...] | None:
    """Where programs listen in the network of that container's process; None when that cannot be seen."""
    folder = Path(f"/proc/{pid}")
    try:
        # Beside the engine we may see other process numbers than it does; then this is another process.
        if container_id not in (folder / "cgroup").read_text():
            return None
        rows = [*_rows(folder / "net/tcp"), *_rows(folder / "net/tcp6")]
    except OSError:
        return None
    found = {Listener(*local) for local, _, state in rows if state == _LISTEN and local[0] != _DOCKER_DNS}
    return tuple(sorted(found))


def connections_to(host: str, port: int) -> int | None:
    """How many connections to this address are open on this machine; None when that cannot be seen."""
    try:
        rows = list(_rows(Path("/proc/net/tcp")))
    except OSError:
        return None
    # Counted at the caller's end: the far end is in another network when the kernel redirects published ports.
    return sum(1 for _, remote, state in rows if state == _ESTABLISHED and remote == (host, port))


def bindable(host: str, port: int) -> bool:
    """Whether a program could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def _rows(table: Path) -> Iterator[tuple[tuple[str, int], tuple[str, int], str]]:
    """(local address, remote address, state) of each socket."""
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        yield _address(fields[1]), _address(fields[2]), fields[3]


def _address(text: str) -> tuple[str, int]:
    host, port = text.split(":")
    words = [int(host[i : i + 8], 16) for i in range(0, len(host), 8)]
    raw = struct.pack(f"{'<' if sys.byteorder == 'little' else '>'}{len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)
