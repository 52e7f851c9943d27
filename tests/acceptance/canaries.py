"""Secrets that must not turn up: every dress they may wear, and eyes on all places where programs show what they do."""

import base64
import contextlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

SHORTEST = 12


class Canaries:
    """`name` → secret. Ask `found_in` for the names of those that a text holds in any dress."""

    def __init__(self) -> None:
        self._dresses: dict[bytes, str] = {}

    def add(self, name: str, secret: str) -> None:
        assert len(secret) >= SHORTEST, "too short to be told from chance"
        for dress in dresses(secret):
            self._dresses[dress] = name

    def forget(self, name: str) -> None:
        self._dresses = {dress: of for dress, of in self._dresses.items() if of != name}

    def found_in(self, data: bytes) -> set[str]:
        return {name for dress, name in list(self._dresses.items()) if dress in data}


def dresses(secret: str) -> Iterator[bytes]:
    """Raw, in JSON, URL-encoded, and in base64 wherever in a longer text it may begin (three ways to cut it)."""
    yield secret.encode()
    yield json.dumps(secret)[1:-1].encode()
    yield quote(secret, safe="").encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            packed = encode(b"\0" * before + secret.encode())
            # Its first and last characters also hold bits of what stands before and behind.
            yield packed[4 if before else 0 : len(packed) // 4 * 4 - 4]


class Eyes:
    """Look again and again at what every process was started with and at git's files below a folder, for a `with`
    block."""

    def __init__(self, canaries: Canaries, folder: Path) -> None:
        self._canaries, self._folder = canaries, folder
        self.seen: set[str] = set()
        """`<canary> in <place>`."""
        self.programs: set[str] = set()
        """Names of programs that were seen with their arguments."""
        self.git_files = 0
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Eyes":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self._thread.join()

    def _watch(self) -> None:
        # A git program lives for some ten milliseconds.
        while not self._leave.wait(0.003):
            self._look_at_processes()
            self._look_at_git()

    def _look_at_processes(self) -> None:
        for process in os.listdir("/proc"):
            if process.isdigit():
                with contextlib.suppress(OSError):
                    said = Path(f"/proc/{process}/cmdline").read_bytes()
                    self.programs.add(os.path.basename(said.split(b"\0")[0].decode(errors="replace")))
                    self._note(said, "a process's arguments")

    def _look_at_git(self) -> None:
        for path in git_files(self._folder):
            with contextlib.suppress(OSError):
                data = path.read_bytes()
                self.git_files += 1
                self._note(data, f"git's {path.name}")

    def _note(self, data: bytes, place: str) -> None:
        self.seen |= {f"{name} in {place}" for name in self._canaries.found_in(data)}


def git_files(folder: Path) -> Iterator[Path]:
    """Where git keeps addresses: its settings and what it fetched last."""
    for name in ("config", "FETCH_HEAD"):
        with contextlib.suppress(OSError):
            yield from folder.rglob(name)


def files_with(canaries: Canaries, folder: Path, *, without: Iterable[Path] = ()) -> list[str]:
    """`<canary> in <file>` for every file below."""
    left_out = set(without)
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path not in left_out:
            with contextlib.suppress(OSError):
                found += [f"{name} in {path}" for name in canaries.found_in(path.read_bytes())]
    return found


def text_of(value: Any) -> bytes:
    return json.dumps(value, default=str, ensure_ascii=False).encode()
