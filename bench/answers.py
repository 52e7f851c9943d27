"""When does which version answer? Asked over bare sockets, the same way whoever is measured.

Every question has a connection of its own: one that is kept would hide refused connections, and an HTTP library
would add its own milliseconds."""

import socket
import threading
import time
from urllib.parse import urlsplit

from bench.report import BenchFailed

PATIENCE_S = 2.0
"""For one answer. A question that takes longer is asked again."""


def body_at(port: int, path: str, *, timeout_s: float = PATIENCE_S) -> bytes | None:
    """The body of a 2xx answer of 127.0.0.1:`port`; None for anything else."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(request)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
    except OSError:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head.split(b" ", 2)[1:2] and head.split(b" ", 2)[1].startswith(b"2") else None


def port_of(url: str) -> int:
    """Errors: BenchFailed when the URL names none."""
    port = urlsplit(url).port
    if port is None:
        raise BenchFailed(f"{url} names no port.")
    return port


class FirstAnswer:
    """Watches in a thread for the first answer that is `wanted`. Enter it before the work it times begins.

    `every_s` is the rest between two questions, and so how late an answer is noticed at most."""

    def __init__(self, port: int, path: str, wanted: str, *, every_s: float) -> None:
        self._port, self._path, self._wanted, self._every_s = port, path, wanted.encode(), every_s
        self._given_up = threading.Event()
        self._seen = threading.Event()
        self._seen_at = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "FirstAnswer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._given_up.set()
        self._thread.join()

    def at(self, *, within_s: float) -> float:
        """`time.perf_counter()` when it was there. Errors: BenchFailed."""
        if not self._seen.wait(within_s):
            raise BenchFailed(f"{self._wanted.decode()!r} did not answer within {within_s:g} s.")
        return self._seen_at

    def _watch(self) -> None:
        while not self._given_up.is_set():
            body = body_at(self._port, self._path)
            if body is not None and body.strip() == self._wanted:
                self._seen_at = time.perf_counter()
                self._seen.set()
                return
            time.sleep(self._every_s)
