"""A page on this machine that sends a browser to GitHub with the App's manifest, and waits for the code it comes
back with. Only who was sent from here is taken back: the state says so."""

import asyncio
import hmac
import html
import json
import secrets
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from klepaas.errors import Conflict

WAIT_S = 900.0
LOOK_EVERY_S = 0.1

_FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>klepaas and GitHub</title>
<body style="font-family: sans-serif; max-width: 36rem; margin: 4rem auto">
<h1>Make the GitHub App of klepaas</h1>
<p>GitHub will show what the App may do and ask you to confirm.</p>
<form method="post" action="{action}"><input type="hidden" name="manifest" value="{manifest}">
<button style="font-size: 1.2rem; padding: .6rem 1.2rem">Continue at GitHub</button></form></body></html>"""
_DONE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>klepaas and GitHub</title>
<body style="font-family: sans-serif; max-width: 36rem; margin: 4rem auto">
<h1>{title}</h1><p>Go on in the terminal.</p></body></html>"""


class Page:
    """Serves on a free port of the loopback for a `with` block."""

    def __init__(self) -> None:
        self._state = secrets.token_urlsafe(24)
        self._codes: Queue[str] = Queue()
        self._form = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.made_url = f"{self.url}made"

    def __enter__(self) -> "Page":
        threading.Thread(target=self._server.serve_forever, args=(LOOK_EVERY_S,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def offer(self, post_to: str, manifest: Mapping[str, Any]) -> None:
        """What the page sends to GitHub."""
        action = f"{post_to}?{urlencode({'state': self._state})}"
        self._form = _FORM.format(action=html.escape(action), manifest=html.escape(json.dumps(manifest)))

    async def code(self) -> str:
        """The code, once the browser is back. Errors: Conflict when it does not come."""
        for _ in range(int(WAIT_S / LOOK_EVERY_S)):
            try:
                return self._codes.get_nowait()
            except Empty:
                await asyncio.sleep(LOOK_EVERY_S)
        raise Conflict("GitHub sent nobody back.", hint="Begin again: klepaas github connect")

    def answer(self, path: str) -> tuple[int, str]:
        """Status and page for what a browser asks."""
        parts = urlsplit(path)
        if parts.path == "/":
            return 200, self._form
        if parts.path != "/made":
            return 404, _DONE.format(title="There is nothing here")
        query = parse_qs(parts.query)
        state, code = query.get("state", [""])[0], query.get("code", [""])[0]
        if not code or not hmac.compare_digest(state.encode(), self._state.encode()):
            return 400, _DONE.format(title="This did not begin here")
        self._codes.put(code)
        return 200, _DONE.format(title="The App is made")


def open_in_browser(url: str) -> None:
    """Where there is one; the address was shown in any case."""
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _handler(page: Page) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page of another site must not ask here under a name of its own.
            host = (self.headers.get("Host") or "").partition(":")[0]
            status, text = page.answer(self.path) if host == "127.0.0.1" else (404, "")
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
            """The code would stand in it."""

    return Handler
