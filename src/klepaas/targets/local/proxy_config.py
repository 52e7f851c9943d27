"""Caddy's configuration, rendered as a whole from data. Pure.

Each app has a front door: a server on a loopback port whose upstream Caddy reads from a one-line file at every
request. The rename of that file is the switch of traffic; a reload would drop requests and close websockets of every
app. The configuration of a door says nothing about its app, so spare doors wait in it for apps to come.

Source: https://caddyserver.com/docs/json/"""

import hashlib
import ipaddress
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from klepaas.errors import Rejected
from klepaas.settings import ProxySettings
from klepaas.targets.local.plan import LOOPBACK

VERIFY_HEADER = "X-Klepaas-Verify"
"""A request that carries the token in it learns which upstream answered, in UPSTREAM_HEADER. No other does."""
UPSTREAM_HEADER = "X-Klepaas-Upstream"

ADMIN_SOCKET = "admin.sock"
CONFIG_FILE = "caddy.json"

GRACE = "10s"
"""How long requests may go on in an old configuration. Caddy's own default is for ever, which pins connections."""
STREAMS_OUTLIVE_A_RELOAD = "5m"
IDLE_UPSTREAM = "1s"
"""Idle connections to apps are closed before an app closes them (gunicorn: after 2 s), which would fail a request;
and an old release is drained sooner."""
WAIT_FOR_UPSTREAM = "5s"
"""A request that finds no app at its door waits that long for one: an app that is restarted is back in 1.2 s."""
TRY_AGAIN = "50ms"

_NOT_PUBLIC = {
    "local",
    "localhost",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "private",
    "test",
    "example",
    "invalid",
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """The custom host names that lead to a door."""

    door: int
    hosts: tuple[str, ...]


def render(
    *, folder: Path, doors: Collection[int], sites: Sequence[Site], settings: ProxySettings, token: str
) -> dict[str, Any]:
    """The whole configuration. It carries its own generation (`generation_of`), which Caddy can be asked for."""
    servers: dict[str, Any] = {f"door-{door}": _door(door, folder, token) for door in sorted(doors)}
    servers.update(_host_servers(folder, sites, settings))
    http: dict[str, Any] = {"grace_period": GRACE, "servers": servers}
    if settings.http_listen:
        http["http_port"] = listen_port(settings.http_listen)
    if settings.https_listen:
        http["https_port"] = listen_port(settings.https_listen)
    config: dict[str, Any] = {
        "admin": {"listen": f"unix/{folder / ADMIN_SOCKET}|0600", "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(folder / "data")},
        "apps": {"http": http},
    }
    if issuers := _issuers(settings):
        config["apps"]["tls"] = {"automation": {"policies": [{"issuers": issuers}]}}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    config["admin"]["config"]["@id"] = f"generation-{digest[:16]}"
    return config


def generation_of(config: dict[str, Any]) -> str:
    return str(config["admin"]["config"]["@id"])


def upstream_file(folder: Path, door: int) -> Path:
    """Holds `127.0.0.1:port` of the release behind the door. Only ever replaced by a rename."""
    return folder / "up" / str(door)


def url_of(host: str, settings: ProxySettings) -> str:
    """Where a custom host name is served. Errors: Rejected when nowhere, with what to set."""
    if settings.https_listen and is_public(host):
        port = listen_port(settings.https_listen)
        return f"https://{host}" if port == 443 else f"https://{host}:{port}"
    if settings.http_listen:
        port = listen_port(settings.http_listen)
        return f"http://{host}" if port == 80 else f"http://{host}:{port}"
    if settings.https_listen:
        raise Rejected(
            f"{host} is not a public name, so it cannot get a certificate, and klepaas serves no plain HTTP.",
            hint="Set KLEPAAS_PROXY__HTTP_LISTEN, e.g. to :80, or use a public name.",
        )
    raise Rejected(
        f"klepaas is not set up to serve custom host names such as {host}.",
        hint="Set KLEPAAS_PROXY__HTTP_LISTEN (e.g. :80) or KLEPAAS_PROXY__HTTPS_LISTEN (e.g. :443) and start it again.",
    )


def is_public(host: str) -> bool:
    """Whether a certificate authority could vouch for this name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host and host.rsplit(".", 1)[-1] not in _NOT_PUBLIC and not host.endswith(".home.arpa")
    return False


def listen_port(listen: str) -> int:
    """The port of `host:port` or `:port`. Errors: Rejected."""
    port = listen.rpartition(":")[2]
    if not port.isdigit():
        raise Rejected(f"{listen!r} is not an address to listen on.", hint="Give e.g. :80 or 127.0.0.1:8080.")
    return int(port)


def _door(door: int, folder: Path, token: str) -> dict[str, Any]:
    telling = {
        "headers": {
            # The app behind must not learn the token: it could ask for other apps' upstreams.
            "request": {"delete": [VERIFY_HEADER]},
            "response": {"set": {UPSTREAM_HEADER: ["{http.reverse_proxy.upstream.hostport}"]}},
        }
    }
    return {
        "listen": [f"{LOOPBACK}:{door}"],
        "automatic_https": {"disable": True},
        "routes": [
            {
                "match": [{"header": {VERIFY_HEADER: [token]}}],
                "handle": [_proxy(door, folder) | telling],
                "terminal": True,
            },
            {"handle": [_proxy(door, folder) | _patient()]},
        ],
        "errors": _NOBODY_THERE,
    }


_NOBODY_THERE = {
    "routes": [
        {
            "handle": [
                {
                    "handler": "static_response",
                    "status_code": "{http.error.status_code}",
                    "headers": {"Content-Type": ["text/plain; charset=utf-8"]},
                    "body": "No release of this app answers.\n",
                }
            ]
        }
    ]
}


def _host_servers(folder: Path, sites: Sequence[Site], settings: ProxySettings) -> dict[str, Any]:
    plain: list[dict[str, Any]] = []
    secured: list[dict[str, Any]] = []
    for site in sorted(sites, key=lambda site: site.door):
        with_tls = [host for host in site.hosts if settings.https_listen and is_public(host)]
        without = [host for host in site.hosts if host not in with_tls]
        secured += [_route(site.door, with_tls, folder)] if with_tls else []
        plain += [_route(site.door, without, folder)] if without else []
    servers: dict[str, Any] = {}
    if settings.http_listen and (plain or secured):
        servers["hosts"] = {
            "listen": [settings.http_listen],
            "automatic_https": {"disable": not secured},
            "routes": plain,
            "errors": _NOBODY_THERE,
        }
    if settings.https_listen and secured:
        servers["hosts-tls"] = {
            "listen": [settings.https_listen],
            # Without it Caddy would open port 80 by itself to redirect.
            "automatic_https": {"disable_redirects": not settings.http_listen},
            "routes": secured,
            "errors": _NOBODY_THERE,
        }
    return servers


def _route(door: int, hosts: Sequence[str], folder: Path) -> dict[str, Any]:
    return {"match": [{"host": list(hosts)}], "terminal": True, "handle": [_proxy(door, folder) | _patient()]}


def _proxy(door: int, folder: Path) -> dict[str, Any]:
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{{file.{upstream_file(folder, door)}}}"}],
        "transport": {"protocol": "http", "keep_alive": {"idle_timeout": IDLE_UPSTREAM}},
        "stream_close_delay": STREAMS_OUTLIVE_A_RELOAD,
    }


def _patient() -> dict[str, Any]:
    return {"load_balancing": {"try_duration": WAIT_FOR_UPSTREAM, "try_interval": TRY_AGAIN}}


def _issuers(settings: ProxySettings) -> list[dict[str, Any]]:
    if not settings.https_listen or not (settings.acme_email or settings.acme_directory):
        return []
    issuer: dict[str, Any] = {"module": "acme"}
    if settings.acme_email:
        issuer["email"] = settings.acme_email
    if settings.acme_directory:
        issuer["ca"] = settings.acme_directory
    return [issuer]
