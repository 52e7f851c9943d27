"""The proxy in front of all apps, kept serving what the record says.

Everything it needs lies in one folder: the engine brings it back after a crash or a reboot without us. Its
configuration changes only when the set of doors or of host names does."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from klepaas.docker.engine import DockerEngine
from klepaas.errors import Invalid, Rejected, Unavailable
from klepaas.file_lock import held
from klepaas.settings import ProxySettings
from klepaas.targets.local.admin import CaddyAdmin
from klepaas.targets.local.doors import Doors
from klepaas.targets.local.files import private_folder, write_whole
from klepaas.targets.local.plan import LOOPBACK
from klepaas.targets.local.proxy_config import ADMIN_SOCKET, CONFIG_FILE, generation_of, listen_port, render
from klepaas.targets.local.proxy_container import ProxyContainer
from klepaas.targets.local.sockets import bindable

_SOCKET_PATH_BYTES = 100
"""The kernel takes 107 bytes for the path of a unix socket; a few stay for what Caddy adds."""
_LOCK_PATIENCE_S = 5.0
_FRESH_S = 2.0
"""How long a proxy that was seen to serve the right configuration is believed to."""
_TURNS = 20
"""Each of many apps that come at once may change the doors between a load and the look at what it did."""


class Proxy:
    def __init__(
        self, engine: DockerEngine, doors: Doors, *, folder: Path, instance_id: str, settings: ProxySettings
    ) -> None:
        _refuse_folder(folder)
        self._doors, self._folder, self._settings = doors, folder, settings
        private_folder(folder / "data")
        self.container = ProxyContainer(engine, folder=folder, instance_id=instance_id)
        self.token = _token(folder / "token")
        self._admin = CaddyAdmin(folder / ADMIN_SOCKET)
        self._alone = asyncio.Lock()
        self._is_current = False
        self._given_up: frozenset[str] = frozenset()
        """Addresses for custom host names that a stranger holds."""
        self._seen: tuple[float, frozenset[int]] = (float("-inf"), frozenset())
        self._put_right: list[str] = []
        """What was done and not told yet: whoever did it may have lost patience before all was well."""
        self._was_down = False

    async def close(self) -> None:
        await self._admin.close()

    async def serve(self, door: int | None = None) -> list[str]:
        """Have the proxy running with every door and every host name. Returns what had to be put right.

        With `door`, a proxy that was just seen to serve it is left in peace. Errors: Rejected when Caddy refuses
        or does not start, Unavailable when it does not keep up, EngineUnavailable."""
        seen_at, seen = self._seen
        if door in seen and time.monotonic() - seen_at < _FRESH_S:
            return []
        async with self._alone, held(self._folder / "lock", patience_s=_LOCK_PATIENCE_S):
            done = self._put_right
            for _ in range(_TURNS):
                if await self._is_as_it_should(done):
                    self._put_right = []
                    return done
        raise Unavailable(
            "The proxy does not serve every front door yet: they change as fast as it is told of them.",
            evidence={"tried": done},
        )

    def refuse_stranger(self) -> None:
        """Errors: Rejected when another program holds an address for custom host names."""
        if self._given_up:
            raise Rejected(
                f"Another program listens on {', '.join(sorted(self._given_up))}, where custom host names should be "
                "served.",
                hint="Stop that program, or set KLEPAAS_PROXY__HTTP_LISTEN and KLEPAAS_PROXY__HTTPS_LISTEN to others.",
            )

    async def _is_as_it_should(self, done: list[str]) -> bool:
        """One turn: True when all is well; else one thing was put right and it must be looked at again."""
        self._given_up = frozenset(listen for listen in self._given_up if not _free(listen))
        doors = await self._doors.all()
        config = self._render(doors)
        if await self._serves(generation_of(config)) and await self._current_container(done):
            self._seen = (time.monotonic(), frozenset(doors.values()))
            if self._was_down:
                done.append("The proxy was started.")
                self._was_down = False
            return True
        alive = await self.container.comes_back(self._answers)
        if not alive:
            await self.container.remove()
        ours = await self._admin.listens() if alive else set()
        if await self._gave_way(doors, ours, done):
            return False
        await asyncio.to_thread(write_whole, self._folder / CONFIG_FILE, json.dumps(config, indent=1).encode())
        if alive:
            await self._admin.load(config)
            done.append("The proxy was given its new configuration.")
        else:
            self._was_down = True
            await self.container.start(self._answers)
            self._is_current = True
        return False

    async def _current_container(self, done: list[str]) -> bool:
        # Asked once: only an upgrade of klepaas changes the answer.
        self._is_current = self._is_current or await self.container.is_current()
        if not self._is_current:
            await self.container.remove()
            done.append("The proxy of another version was taken away.")
        return self._is_current

    async def _gave_way(self, doors: Mapping[str, int], ours: set[str], done: list[str]) -> bool:
        """Leave addresses to strangers who hold them: one of them would keep the whole proxy from starting."""
        taken = {
            holder: port for holder, port in doors.items() if (at := f"{LOOPBACK}:{port}") not in ours and not _free(at)
        }
        for holder, port in taken.items():
            new = await self._doors.replace(holder, port)
            done.append(f"Another program listens on port {port}; the front door moved to {new}.")
        lost = {listen for listen in self._listens() - ours if not _free(listen)} - self._given_up
        self._given_up |= lost
        done.extend(f"Another program listens on {listen}; custom host names are not served there." for listen in lost)
        return bool(taken or lost)

    def _listens(self) -> set[str]:
        return {listen for listen in (self._settings.http_listen, self._settings.https_listen) if listen}

    def _render(self, doors: Mapping[str, int]) -> dict[str, Any]:
        gone = {
            field: "" for field in ("http_listen", "https_listen") if getattr(self._settings, field) in self._given_up
        }
        settings = self._settings.model_copy(update=gone)
        sites = [site for _, site in self._doors.sites()]
        return render(folder=self._folder, doors=set(doors.values()), sites=sites, settings=settings, token=self.token)

    async def _serves(self, generation: str) -> bool:
        with suppress(Unavailable):
            return await self._admin.serves(generation)
        return False

    async def _answers(self) -> bool:
        with suppress(Unavailable):
            await self._admin.serves("anything")
            return True
        return False


def _free(listen: str) -> bool:
    return bindable(listen.rpartition(":")[0].strip("[]") or "0.0.0.0", listen_port(listen))


def _refuse_folder(folder: Path) -> None:
    if len(bytes(folder / ADMIN_SOCKET)) > _SOCKET_PATH_BYTES:
        raise Invalid(
            f"The folder {folder} has too long a path for the proxy's socket.",
            hint=f"Set KLEPAAS_HOME to a folder with at most {_SOCKET_PATH_BYTES - 20} bytes in its path.",
        )
    if not folder.is_absolute() or set("{}|\n") & set(str(folder)):
        raise Invalid(f"The proxy cannot work in {folder}.", hint="Set KLEPAAS_HOME to an absolute path without { } |.")


def _token(path: Path) -> str:
    """The secret that lets us ask the proxy which release answered; made once, for our user only."""
    private_folder(path.parent)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token_hex(16))
    return path.read_text()
