"""The watcher that says when a version first answered."""

import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from bench.answers import FirstAnswer, body_at, port_of
from bench.report import BenchFailed
from bench.surroundings import free_port


class App(http.server.BaseHTTPRequestHandler):
    status, version = 200, "1"

    def do_GET(self) -> None:
        body = self.version.encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def app() -> Iterator[tuple[type[App], int]]:
    kind = type("OneApp", (App,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield kind, server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_only_the_wanted_version_counts_as_its_answer(app: tuple[type[App], int]) -> None:
    kind, port = app
    with FirstAnswer(port, "/version", "2", every_s=0.001) as first:
        with pytest.raises(BenchFailed, match="did not answer"):
            first.at(within_s=0.05)
        changed_at = time.perf_counter()
        kind.version = "2\n"

        assert first.at(within_s=10) >= changed_at


def test_an_error_page_is_no_answer_even_when_it_says_the_right_words(app: tuple[type[App], int]) -> None:
    kind, port = app
    kind.status, kind.version = 502, "2"

    assert body_at(port, "/version") is None


def test_nobody_there_is_no_answer() -> None:
    assert body_at(free_port(), "/version") is None


def test_a_url_without_a_port_is_refused() -> None:
    assert port_of("http://127.0.0.1:8080/x") == 8080
    with pytest.raises(BenchFailed, match="names no port"):
        port_of("http://localhost/")
