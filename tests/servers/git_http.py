"""A git server over HTTP: git's own http-backend behind a small web server on a free loopback port."""

import base64
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from pathlib import Path
from typing import IO, Literal

import pytest

Fault = Literal["hang", "slow", "error_503", "refuse_auth", "not_found", "drop_mid_transfer"]
"""`hang`: requests are read and never answered. `slow`: answers trickle, one byte a second. `refuse_auth`: 401
whatever the credential. `drop_mid_transfer`: a pack's connection is cut in the middle of it."""

_ENV = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{who}_NAME": "Dana 다나" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "dana@example.org" for who in ("AUTHOR", "COMMITTER")},
}


def git(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run git for the test's own needs and return what it printed; a failure is an error with git's words."""
    done = subprocess.run(["git", *words], cwd=cwd, env={**_ENV, **(env or {})}, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"git {' '.join(words)}: {done.stderr.decode()}")
    return done.stdout.decode().strip()


@dataclass(frozen=True)
class WorkingRepository:
    """A repository on the server and a clone of it in which a developer works."""

    url: str
    bare: Path
    """The server's side; also a local repository by this path."""
    work: Path

    def commit(self, files: Mapping[str, str | bytes], message: str = "Change") -> str:
        """Write the files, commit everything on the current branch and return the SHA. Nothing is pushed."""
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        git("add", "-A", cwd=self.work)
        git("commit", "-q", "--allow-empty", "-m", message, cwd=self.work)
        return git("rev-parse", "HEAD", cwd=self.work)

    def publish(self, files: Mapping[str, str | bytes], message: str = "Change") -> str:
        """Commit and push the current branch; return the SHA."""
        sha = self.commit(files, message)
        self.push()
        return sha

    def push(self, *, force: bool = False) -> None:
        git("push", "-q", *(["--force"] if force else []), "origin", "HEAD", cwd=self.work)

    def branch(self, name: str) -> None:
        """Go to a branch, made at the current commit when it is new."""
        git("checkout", "-q", "-B", name, cwd=self.work)

    def delete_branch(self, name: str) -> None:
        """Delete a branch on the server."""
        git("push", "-q", "origin", f":refs/heads/{name}", cwd=self.work)

    def tag(self, name: str) -> None:
        """Make an annotated tag and push it."""
        git("tag", "-a", "-m", name, name, cwd=self.work)
        git("push", "-q", "origin", f"refs/tags/{name}", cwd=self.work)

    def rewind(self, commits: int = 1) -> None:
        """Throw the last commits away and force-push; the server keeps their objects, unreachable."""
        git("reset", "-q", "--hard", f"HEAD~{commits}", cwd=self.work)
        self.push(force=True)

    def configure(self, key: str, value: str) -> None:
        """Set a configuration value of the server's side, e.g. `uploadpack.allowFilter`."""
        git("config", key, value, cwd=self.bare)


@dataclass
class _Served:
    tokens: set[str] = field(default_factory=set)
    """Basic credentials `user:password` that may read it. Empty: everybody may."""
    moved_to: str = ""


class GitHttpServer:
    """Serves the repositories made with `create_repository`. Faults hold for all of them while they are set."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="klepaas-git-"))
        self.root = self.folder / "served"
        self.root.mkdir(parents=True)
        self.fault: Fault | None = None
        self.old_protocol = False
        """Serve the protocol of git before 2.18, in which only what refs show may be fetched."""
        self.words = ""
        """What refusals say instead of their usual words; git shows it to its user."""
        self.requests: Counter[str] = Counter()
        """How often each was asked: `info/refs`, `git-upload-pack`, …"""
        self.authorizations: list[tuple[str, str]] = []
        """Every (Host, Authorization) that came."""
        self.waiting = 0
        """Requests that hang now."""
        self._served: dict[str, _Served] = {}
        self._released = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the server and remove its repositories."""
        self._released.set()
        self._http.shutdown()
        self._http.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_repository(
        self, name: str = "team/shop", *, token: str | None = None, branch: str = "main"
    ) -> WorkingRepository:
        """Make an empty repository `{url}/{name}.git`; with `token` (`user:password`) only for who knows it."""
        bare = self.root / f"{name}.git"
        bare.mkdir(parents=True)
        git("init", "-q", "--bare", "-b", branch, cwd=bare)
        git("config", "uploadpack.allowFilter", "true", cwd=bare)
        self._served[name] = _Served(tokens={token} if token else set())
        work = self.folder / "work" / name
        work.mkdir(parents=True)
        git("init", "-q", "-b", branch, cwd=work)
        git("remote", "add", "origin", str(bare), cwd=work)
        return WorkingRepository(url=f"{self.url}/{name}.git", bare=bare, work=work)

    def allow(self, name: str, token: str) -> None:
        """Have one more credential (`user:password`) that may read this repository."""
        self._served[name].tokens.add(token)

    def move(self, name: str, url: str) -> None:
        """Answer every request for this repository with a redirect below another URL."""
        self._served.setdefault(name, _Served()).moved_to = url

    @contextlib.contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Have the fault in this block only; requests that hang are dropped at its end."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = None
            self._released.set()
            self._released = threading.Event()

    def hold(self) -> None:
        """Keep the calling request waiting until the fault or the server ends."""
        self.waiting += 1
        self._released.wait(timeout=600)
        self.waiting -= 1

    def find(self, path: str) -> tuple[str, _Served] | None:
        """The repository that a path of a request is about, and what we know of it."""
        for name, served in self._served.items():
            if path.startswith((f"/{name}.git/", f"/{name}/")):
                return name, served
        return None


def _handler_of(server: GitHttpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        git_server = server

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    git_server: GitHttpServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: the counters tell what a test wants to know."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        found = self.git_server.find(path)
        body = self._read_body()
        self.git_server.requests[path.partition(".git/")[2] or path] += 1
        authorization = self.headers.get("Authorization", "")
        if authorization:
            self.git_server.authorizations.append((self.headers.get("Host", ""), authorization))
        match self.git_server.fault:
            case "hang":
                self.git_server.hold()
                self.close_connection = True
            case "error_503":
                self._say(503, "Service Unavailable")
            case "not_found":
                self._say(404, "Repository not found.")
            case "refuse_auth":
                self._say(401, "Bad credentials", {"WWW-Authenticate": 'Basic realm="git"'})
            case fault:
                if found is None:
                    self._say(404, "Repository not found.")
                elif found[1].moved_to:
                    rest = self.path.partition(".git/")[2]
                    self._say(301, "Moved", {"Location": f"{found[1].moved_to}/{rest}"})
                elif not self._may_read(found[1], authorization):
                    self._say(401, "Credential wanted", {"WWW-Authenticate": 'Basic realm="git"'})
                else:
                    self._serve(path, query, body, fault)

    def _may_read(self, served: _Served, authorization: str) -> bool:
        return not served.tokens or authorization in {
            f"Basic {base64.b64encode(token.encode()).decode()}" for token in served.tokens
        }

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _say(self, status: int, words: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        body = (self.git_server.words or words).encode()
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve(self, path: str, query: str, body: bytes, fault: Fault | None) -> None:
        backend = subprocess.Popen(
            ["git", "http-backend"],
            env=self._cgi(path, query, len(body)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert backend.stdin is not None
        # Protocol 2 lists the refs by the same path; that is no transfer yet.
        transfers = path.endswith("/git-upload-pack") and b"command=ls-refs" not in body
        with backend:
            feeding = threading.Thread(target=_feed, args=(backend.stdin, body), daemon=True)
            feeding.start()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                assert isinstance(backend.stdout, BufferedReader)
                self._relay(backend.stdout, fault if transfers else None)
            backend.kill()
            feeding.join()

    def _cgi(self, path: str, query: str, length: int) -> dict[str, str]:
        variables = {
            **_ENV,
            "GIT_PROJECT_ROOT": str(self.git_server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if encoding := self.headers.get("Content-Encoding"):
            variables["HTTP_CONTENT_ENCODING"] = encoding
        if (protocol := self.headers.get("Git-Protocol")) and not self.git_server.old_protocol:
            variables["GIT_PROTOCOL"] = protocol
        return variables

    def _relay(self, answer: BufferedReader, fault: Fault | None) -> None:
        status = 200
        headers: list[tuple[str, str]] = []
        while (line := answer.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value.strip()))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := answer.read1(1 if fault == "slow" else 65536):
            if fault == "drop_mid_transfer":
                piece = piece[: max(1, len(piece) // 2)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if fault == "drop_mid_transfer":
                self.close_connection = True
                return
            if fault == "slow":
                time.sleep(1)
        self.wfile.write(b"0\r\n\r\n")


def _feed(stdin: IO[bytes], body: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), stdin:
        stdin.write(body)


@pytest.fixture
def git_server() -> Iterator[GitHttpServer]:
    """A git server of this test's own."""
    server = GitHttpServer()
    server.start()
    yield server
    server.stop()
