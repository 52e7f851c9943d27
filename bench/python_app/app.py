"""A small ASGI app: /version, /health, /slow?seconds=S, and a websocket at /echo.

The websocket answers with the version and what it was sent."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

VERSION = (Path(__file__).parent / "version.txt").read_text().strip()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["path"] == "/slow":
        seconds = float(parse_qs(scope["query_string"].decode()).get("seconds", ["1"])[0])
        await asyncio.sleep(seconds)
        await answer(send, 200, f"slow {seconds:g} {VERSION}\n")
    elif scope["path"] in ("/version", "/"):
        await answer(send, 200, f"{VERSION}\n")
    elif scope["path"] == "/health":
        await answer(send, 200, "ok\n")
    else:
        await answer(send, 404, "There is nothing here.\n")


async def answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{VERSION} {message.get('text')}"})
