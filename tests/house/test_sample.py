"""The sample app keeps the promises that deployments rely on: health, version, graceful end, no crash."""

import http.client
import os
import platform
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

SAMPLE = Path(__file__).parents[2] / "examples" / "sample"
FILLING = "." * 30_000
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")

pytestmark = pytest.mark.skipif(not ARCHITECTURE, reason="the sample is built for amd64 and arm64")


@dataclass(frozen=True)
class Sample:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def say(self, request: bytes) -> bytes:
        """Everything the server answers until it closes the connection."""
        with self.connect() as connection:
            connection.sendall(request)
            return _until_closed(connection)


@pytest.fixture(scope="module", params=["as committed", *(["rebuilt"] if shutil.which("gcc") else [])])
def binary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "as committed":
        return SAMPLE / f"server-{ARCHITECTURE}"
    built = tmp_path_factory.mktemp("sample") / "server"
    subprocess.run([SAMPLE / "build.sh", ARCHITECTURE, built], check=True)
    return built


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<title>{{version}}</title><b>{{version}}</b> {{other}} {{" + FILLING)
    (tmp_path / "version.txt").write_text("v-7 é\n")
    return tmp_path


@pytest.fixture
def sample(binary: Path, site: Path) -> Iterator[Sample]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([binary, site], env={"PORT": str(port)}, stderr=subprocess.PIPE)
    started = Sample(port, process)
    assert process.stderr is not None
    assert b"listening, version v-7" in process.stderr.readline()
    yield started
    process.kill()
    process.wait()
    process.stderr.close()


def _until_closed(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def test_the_page_shows_the_version_wherever_it_is_asked_for(sample: Sample) -> None:
    page = httpx.get(sample.url)

    assert page.text == "<title>v-7 é</title><b>v-7 é</b> {{other}} {{" + FILLING
    assert page.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/health", 200, "ok"),
        ("/health?from=probe", 200, "ok"),
        ("/version", 200, "v-7 é"),
        ("/healthy", 404, "There is nothing here.\n"),
        ("/../etc/passwd", 404, "There is nothing here.\n"),
    ],
)
def test_each_path_has_its_answer(sample: Sample, path: str, status: int, body: str) -> None:
    answer = httpx.get(sample.url + path)

    assert (answer.status_code, answer.text) == (status, body)


def test_head_answers_as_get_without_the_body(sample: Sample) -> None:
    with httpx.Client() as client:
        head, get = client.head(sample.url), client.get(sample.url)

    assert head.content == b""
    assert head.headers == get.headers


def test_many_requests_share_one_connection(sample: Sample) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sample.port, timeout=10)
    connection.connect()
    first = connection.sock
    for _ in range(50):
        connection.request("GET", "/version")
        connection.getresponse().read()

    assert connection.sock is first
    connection.close()


def test_requests_sent_together_are_answered_in_order(sample: Sample) -> None:
    together = b"GET /health HTTP/1.1\r\n\r\nGET /version HTTP/1.1\r\nConnection: close\r\n\r\n"
    answers = sample.say(together)

    assert answers.index(b"\r\n\r\nok") < answers.index("v-7 é".encode())


def test_an_idle_and_a_slow_client_do_not_hold_up_others(sample: Sample) -> None:
    with sample.connect(), sample.connect() as slow:
        slow.sendall(b"GET /version HTT")
        assert httpx.get(f"{sample.url}/health").text == "ok"
        slow.sendall(b"P/1.1\r\nConnection: close\r\n\r\n")
        assert "v-7 é".encode() in _until_closed(slow)


def test_http_1_0_is_closed_unless_it_asks_to_stay(sample: Sample) -> None:
    assert b"Connection: close" in sample.say(b"GET /health HTTP/1.0\r\n\r\n")
    with sample.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        assert b"Connection: keep-alive" in connection.recv(1000)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"GET  / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (b"GET http://else/ HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03 hello \r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405"),
        (b"GET / HTTP/1.1\r\nContent-Length: 24\r\n\r\nGET /version HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"431"),
    ],
)
def test_what_it_does_not_understand_is_refused_and_the_connection_ended(
    sample: Sample, request_bytes: bytes, status: bytes
) -> None:
    answer = sample.say(request_bytes)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert httpx.get(f"{sample.url}/health").text == "ok"


def test_random_bytes_and_vanished_clients_do_not_crash_it(sample: Sample) -> None:
    for length in (1, 7, 100, 8191, 8192, 8193, 30000):
        with sample.connect() as connection:
            connection.sendall(os.urandom(length))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert httpx.get(f"{sample.url}/health").text == "ok"
    assert sample.process.poll() is None


def test_a_client_that_reads_slowly_gets_every_answer(sample: Sample) -> None:
    with sample.connect() as connection:
        asked = b"GET / HTTP/1.1\r\n\r\n" * 500 + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
        sender = threading.Thread(target=connection.sendall, args=(asked,))
        sender.start()
        time.sleep(0.2)  # 15 MB are more than the buffers hold: the server has to wait for us
        answers = _until_closed(connection)
        sender.join()

    assert answers.count(b"HTTP/1.1 200 OK") == 501


def test_sigterm_closes_idle_connections_finishes_what_has_begun_and_exits_0(sample: Sample) -> None:
    with sample.connect() as idle, sample.connect() as begun:
        begun.sendall(b"GET /version HTTP/1.1\r\n")
        assert httpx.get(f"{sample.url}/health").text == "ok"
        sample.process.send_signal(signal.SIGTERM)
        assert _until_closed(idle) == b""
        assert sample.process.poll() is None
        begun.sendall(b"\r\n")
        assert b"Connection: close" in (answer := _until_closed(begun))
        assert "v-7 é".encode() in answer

    assert sample.process.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        sample.connect()


def test_it_says_what_is_wrong_with_its_port_or_its_page(binary: Path, site: Path, tmp_path: Path) -> None:
    def words(port: str, folder: Path) -> bytes:
        done = subprocess.run([binary, folder], env={"PORT": port}, capture_output=True, check=False, timeout=10)
        assert done.returncode == 1
        return done.stderr

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        assert b"cannot listen" in words(str(taken.getsockname()[1]), site)
    assert b"not a port number: PORT=http" in words("http", site)
    assert b"not a port number" in words("65536", site)
    assert b"cannot open" in words("8080", tmp_path / "missing")


def test_it_is_idle_when_nobody_asks(sample: Sample) -> None:
    before = _cpu_ticks(sample.process.pid)
    with sample.connect():
        time.sleep(1)

    assert _cpu_ticks(sample.process.pid) - before <= 5  # hundredths of a second


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.docker
@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_it_builds_and_runs_with_either_builder(
    docker_host: str, instance_id: str, tmp_path: Path, buildkit: str
) -> None:
    docker = shutil.which("docker", path="/usr/bin") or "docker"
    env = {"DOCKER_HOST": docker_host, "DOCKER_BUILDKIT": buildkit, "HOME": str(tmp_path), "PATH": os.defpath}

    def cli(*arguments: str) -> str:
        return subprocess.run([docker, *arguments], env=env, check=True, capture_output=True, text=True).stdout.strip()

    label = f"klepaas.instance={instance_id}"
    cli("build", "--quiet", "--label", label, "--tag", f"klepaas-sample:{instance_id}", str(SAMPLE))
    container = cli(
        "run", "--detach", "--label", label, "--publish", "127.0.0.1::8080", f"klepaas-sample:{instance_id}"
    )
    address = cli("port", container, "8080").splitlines()[0]
    with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=10) as client:
        assert client.get(f"http://{address}/version").text == (SAMPLE / "site/version.txt").read_text().strip()
    cli("stop", container)

    assert cli("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
