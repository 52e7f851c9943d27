"""S-09: what klepaas asks for its users goes to the Internet, and to nothing behind its own walls."""

from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from threading import Thread

import httpx
import pytest

from klepaas.errors import Invalid, Rejected, Unavailable
from klepaas.github.rest import RestApi, Shown
from klepaas.outbound import GuardedTransport, Resolve, is_public

FORBIDDEN = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_behind_the_walls_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["140.82.121.6", "8.8.8.8", "2606:50c0:8000::153", "64:ff9b::808:808"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.fixture
def inside() -> Iterator[tuple[str, list[str]]]:
    """A server on the loopback, and who asked it (its Host headers)."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Host"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def naming(*answers: Sequence[str]) -> Resolve:
    """A name service that gives these answers one after another, and the last one from then on."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def get(transport: GuardedTransport, url: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        return await client.get(url)


@pytest.mark.parametrize(
    "name",
    ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"],
)
async def test_nothing_is_sent_behind_the_walls(inside: tuple[str, list[str]], name: str) -> None:
    url, asked = inside

    with pytest.raises((Invalid, Unavailable, httpx.InvalidURL)):
        await get(GuardedTransport(), url.replace("http://127.0.0.1", f"https://{name}"))

    assert asked == []


async def test_a_name_with_one_address_behind_the_walls_is_refused() -> None:
    transport = GuardedTransport(resolve=naming(["8.8.8.8", "127.0.0.1"]))

    with pytest.raises(Invalid, match="does not speak to"):
        await get(transport, "https://ghe.example.org/api/v3/user")


async def test_the_connection_is_made_to_the_address_that_was_looked_at(
    inside: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the name means something else the second time; nobody asks a second time."""
    connected: list[tuple[str, str, object]] = []

    async def connect(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        connected.append((request.url.host, request.headers["host"], request.extensions["sni_hostname"]))
        return httpx.Response(200, request=request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", connect)

    await get(GuardedTransport(resolve=naming(["8.8.8.8"], ["127.0.0.1"])), "https://ghe.example.org:8443/api/v3/user")

    assert connected == [("8.8.8.8", "ghe.example.org:8443", "ghe.example.org")]


async def test_a_name_is_looked_at_again_with_every_request() -> None:
    transport = GuardedTransport(resolve=naming(["127.0.0.1"]))

    for _ in range(2):
        with pytest.raises(Invalid):
            await get(transport, "https://ghe.example.org/")


async def test_only_https_is_spoken() -> None:
    with pytest.raises(Invalid, match="only spoken to by https"):
        await get(GuardedTransport(resolve=naming(["8.8.8.8"])), "http://ghe.example.org/")


async def test_the_operator_can_allow_a_server_of_the_own_network(inside: tuple[str, list[str]]) -> None:
    url, asked = inside
    port = url.rpartition(":")[2]
    transport = GuardedTransport({"ghe.corp.example"}, resolve=naming(["127.0.0.1"]))

    answer = await get(transport, f"http://ghe.corp.example:{port}/api/v3/user")

    assert answer.status_code == 200
    assert asked == [f"ghe.corp.example:{port}"]


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "fe80::1", "::ffff:169.254.169.254"])
async def test_not_even_an_allowed_server_is_at_the_cloud_s_metadata(address: str) -> None:
    transport = GuardedTransport({"ghe.corp.example"}, resolve=naming([address]))

    with pytest.raises(Invalid):
        await get(transport, "https://ghe.corp.example/")


async def test_a_github_that_a_user_named_leads_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, inside: tuple[str, list[str]]
) -> None:
    async def redirect(self: GuardedTransport, request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": str(request.url.copy_with(path="/api/v3/other"))})

    monkeypatch.setattr(GuardedTransport, "handle_async_request", redirect)
    api = RestApi("https://ghe.example.org/api/v3", transport=GuardedTransport(), follows_redirects=False)

    with pytest.raises(Rejected, match="not sent on"):
        await api.get("/user", shown=Shown(who="a test", account="a"))
    await api.close()
