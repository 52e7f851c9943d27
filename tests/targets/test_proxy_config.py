import json
from pathlib import Path
from typing import Any

import pytest

from klepaas import processes
from klepaas.errors import Rejected
from klepaas.settings import ProxySettings
from klepaas.targets.local.caddy import find_caddy
from klepaas.targets.local.proxy_config import Site, generation_of, is_public, render, url_of

BOTH = ProxySettings(http_listen="127.0.0.1:8081", https_listen="127.0.0.1:8444", acme_email="ops@example.org")
SITES = (Site(door=20001, hosts=("shop.klepaas.dev", "shop.lan")),)


def _config(
    *, doors: tuple[int, ...] = (20001, 20002), sites: tuple[Site, ...] = (), settings: ProxySettings | None = None
) -> dict[str, Any]:
    return render(folder=Path("/srv/proxy"), doors=doors, sites=sites, settings=settings or ProxySettings(), token="t0")


def test_every_listener_is_on_loopback_unless_host_names_are_served() -> None:
    """S-14: without settings nothing is open to the network."""
    servers = _config()["apps"]["http"]["servers"]

    assert {listen for server in servers.values() for listen in server["listen"]} == {
        "127.0.0.1:20001",
        "127.0.0.1:20002",
    }


def test_the_upstream_is_read_from_a_file_at_every_request() -> None:
    dials = [text for text in json.dumps(_config()).split('"') if text.startswith("{file.")]

    assert set(dials) == {"{file./srv/proxy/up/20001}", "{file./srv/proxy/up/20002}"}


def test_the_same_data_give_the_same_generation_and_a_new_door_another() -> None:
    same = generation_of(_config(doors=(20002, 20001)))

    assert generation_of(_config()) == same
    assert generation_of(_config(doors=(20001,))) != same


def test_host_names_get_tls_only_when_they_are_public() -> None:
    servers = _config(sites=SITES, settings=BOTH)["apps"]["http"]["servers"]
    hosts = {name: [route["match"][0]["host"] for route in servers[name]["routes"]] for name in ("hosts", "hosts-tls")}

    assert hosts == {"hosts": [["shop.lan"]], "hosts-tls": [["shop.klepaas.dev"]]}


def test_without_plain_http_port_80_stays_closed() -> None:
    settings = ProxySettings(https_listen=":8444")
    server = _config(sites=(Site(door=20001, hosts=("shop.klepaas.dev",)),), settings=settings)["apps"]["http"][
        "servers"
    ]

    assert server["hosts-tls"]["automatic_https"] == {"disable_redirects": True}


@pytest.mark.parametrize(
    ("host", "public"),
    [("shop.klepaas.dev", True), ("shop.lan", False), ("a.home.arpa", False), ("10.0.0.1", False), ("shop", False)],
)
def test_public_names_are_told_from_private_ones(host: str, public: bool) -> None:
    assert is_public(host) is public


def test_a_host_name_that_nothing_serves_is_refused_with_what_to_set() -> None:
    with pytest.raises(Rejected) as nothing:
        url_of("shop.klepaas.dev", ProxySettings())
    with pytest.raises(Rejected) as private:
        url_of("shop.lan", ProxySettings(https_listen=":443"))

    assert "HTTP_LISTEN" in nothing.value.hint
    assert "not a public name" in private.value.message


def test_urls_leave_out_the_usual_ports() -> None:
    usual = ProxySettings(http_listen=":80", https_listen=":443")

    assert [url_of(host, usual) for host in ("a.klepaas.dev", "a.lan")] == ["https://a.klepaas.dev", "http://a.lan"]
    assert url_of("a.lan", BOTH) == "http://a.lan:8081"


@pytest.mark.parametrize(
    "settings", [ProxySettings(), BOTH, ProxySettings(https_listen=":8444", acme_directory="https://acme.test/d")]
)
async def test_caddy_itself_accepts_the_configuration(settings: ProxySettings, tmp_path: Path) -> None:
    config = render(folder=tmp_path, doors=(20001,), sites=SITES, settings=settings, token="t0")
    file = tmp_path / "caddy.json"
    file.write_text(json.dumps(config))
    caddy = await find_caddy()
    done = await processes.run(
        [str(caddy.path), "validate", "--config", str(file)], env={"HOME": str(tmp_path), "PATH": "/usr/bin"}
    )

    assert done.exit_code == 0, done.stderr
