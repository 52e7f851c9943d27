"""Which front door belongs to which app, which host names lead there, and which release is behind it.

Ports are leased in the database. What else the proxy needs is in files beside its configuration, so that it serves
again after a reboot before klepaas itself is up."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from klepaas.domain.project import App
from klepaas.targets.local.files import private_folder, remove_whole, write_whole
from klepaas.targets.local.ports import PortLeases
from klepaas.targets.local.proxy_config import Site, upstream_file

SPARES = 8
"""Doors made beforehand with each change of the configuration, so that seven of eight new apps need no reload."""
MOST_SPARES = 32

_DOOR = "door:"
_SPARE = "door:spare-"


class Doors:
    def __init__(self, leases: PortLeases, folder: Path) -> None:
        self._leases, self._folder = leases, folder
        private_folder(folder / "up")
        self._sites = private_folder(folder / "sites")
        self._read: tuple[int, list[tuple[str, Site]]] = (-1, [])

    async def all(self) -> Mapping[str, int]:
        """Every door there should be, the spare ones included: holder → port."""
        return {holder: port for holder, port in (await self._leases.leased()).items() if holder.startswith(_DOOR)}

    async def of(self, app: App) -> int | None:
        return (await self._leases.leased()).get(_holder(app))

    async def take(self, app: App) -> int:
        """The app's door: its own, else a spare one, else a new one that comes with new spares."""
        doors = await self.all()
        if (mine := doors.get(_holder(app))) is not None:
            return mine
        spares = sorted((holder for holder in doors if holder.startswith(_SPARE)), key=lambda holder: doors[holder])
        for spare in spares:
            port = await self._leases.hand_over(spare, _holder(app))
            if port is not None:
                return port
        for number in range(SPARES):
            await self._leases.lease(f"{_SPARE}new-{number}")
        return await self._leases.lease(_holder(app))

    async def give_back(self, app: App) -> None:
        """Nothing is behind the app's door any more, and another app may get it."""
        doors = await self.all()
        port = doors.get(_holder(app))
        if port is None:
            return
        self.point(port, None)
        self._site_file(port).unlink(missing_ok=True)
        spares = sum(holder.startswith(_SPARE) for holder in doors)
        if spares >= MOST_SPARES or await self._leases.hand_over(_holder(app), f"{_SPARE}{port}") is None:
            await self._leases.free(_holder(app))

    async def replace(self, holder: str, port: int) -> int:
        """Move a door whose port a stranger took; host names and the release behind it move along."""
        new = await self._leases.replace(holder, port)
        upstream = self.upstream(port)
        if site := self._site_file(port).read_bytes() if self._site_file(port).exists() else b"":
            write_whole(self._site_file(new), site)
            self._site_file(port).unlink(missing_ok=True)
        self.point(new, upstream)
        self.point(port, None)
        return new

    def sites(self) -> list[tuple[str, Site]]:
        """(app key, its site) of every door that has host names."""
        changed = self._sites.stat().st_mtime_ns
        if self._read[0] != changed:
            self._read = (changed, [_site_of(path) for path in self._sites.glob("[0-9]*")])
        return self._read[1]

    def name(self, app: App, door: int, hosts: Sequence[str]) -> bool:
        """Have exactly these host names lead to the app's door; True when that is a change."""
        file = self._site_file(door)
        before = file.read_bytes() if file.exists() else b""
        after = json.dumps({"app": app.key, "hosts": list(hosts)}).encode() if hosts else b""
        if before == after:
            return False
        if after:
            write_whole(file, after)
        else:
            file.unlink()
        return True

    def hosts(self, door: int) -> tuple[str, ...]:
        return next((site.hosts for _, site in self.sites() if site.door == door), ())

    def upstream(self, door: int) -> str | None:
        """`127.0.0.1:port` of what is behind the door."""
        try:
            return upstream_file(self._folder, door).read_text().strip() or None
        except FileNotFoundError:
            return None

    def point(self, door: int, upstream: str | None) -> None:
        """Send every new request to `upstream`, atomically, or nowhere."""
        file = upstream_file(self._folder, door)
        if upstream is None:
            remove_whole(file)
        else:
            write_whole(file, upstream.encode())

    def _site_file(self, door: int) -> Path:
        return self._sites / str(door)


def _holder(app: App) -> str:
    return f"{_DOOR}{app.key}"


def _site_of(path: Path) -> tuple[str, Site]:
    data = json.loads(path.read_bytes())
    return data["app"], Site(door=int(path.name), hosts=tuple(data["hosts"]))
