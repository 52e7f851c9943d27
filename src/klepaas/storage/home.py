"""klepaas' home: the one folder with all of its state, private to its user."""

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from klepaas.errors import Conflict, DiskFull, Invalid

_PRIVATE = 0o700
_BESIDE = "Stop it first, choose another folder with KLEPAAS_HOME, or use PostgreSQL for several processes."


class Home:
    """Enter it to have the folders made; leaving it gives up the claim or the share. The folders stay."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "klepaas.db"
        self.key_file = self.path / "secret.key"
        self.build_logs = self.path / "logs" / "builds"
        self.work = self.path / "work"
        """Sources and builds of running deployments; what is left there belongs to nobody."""
        self.mirrors = self.path / "mirrors"
        """What was fetched for mirrors at providers. May be removed while klepaas is down: it is fetched again."""
        self._lock_file = self.path / "klepaas.lock"
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Errors: Invalid when the folder cannot be made or is somebody else's."""
        for folder in (self.path, self.build_logs.parent, self.build_logs, self.work):
            try:
                folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
                if folder.stat().st_mode & 0o077:
                    folder.chmod(_PRIVATE)
            except OSError as error:
                raise Invalid(
                    f"klepaas cannot use {folder}: {error.strerror}.",
                    hint="Choose another folder with KLEPAAS_HOME, or give this one to the user klepaas runs as.",
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def claim(self, *, hint: str = _BESIDE) -> None:
        """Be the only process in this home, until it ends. SQLite needs that, and so does who takes everything down.

        Errors: Conflict, naming the process that has claimed it; with `hint`."""
        lock = self._locked(fcntl.LOCK_EX, hint)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def share(self) -> None:
        """Be one of several processes in this home (PostgreSQL): none of them is alone there until all have ended.

        Errors: Conflict while a process has claimed it."""
        self._locked(fcntl.LOCK_SH, _BESIDE)

    def _locked(self, kind: int, hint: str) -> int:
        # Not inherited by children: a git or docker that outlives us does not hold the claim.
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
            os.close(lock)
            raise Conflict(
                f"klepaas runs here already: {f'process {holder}' if holder else 'somebody'} uses {self.path}.",
                hint=hint,
                evidence={"pid": holder},
            ) from error
        # Whoever was named here has ended. Those who share are many, and not named.
        os.ftruncate(lock, 0)
        self._lock = lock
        return lock

    def free_bytes(self) -> int:
        """What this user may still write on the disk of the home."""
        return shutil.disk_usage(self.path).free

    def require_free(self, wanted_bytes: int) -> None:
        """Errors: DiskFull."""
        free = self.free_bytes()
        if free < wanted_bytes:
            raise DiskFull(
                f"The disk of {self.path} has {free // 2**20} MiB free; {wanted_bytes // 2**20} MiB are wanted.",
                hint="Free some space and try again.",
                evidence={"free_bytes": free, "wanted_bytes": wanted_bytes},
            )
