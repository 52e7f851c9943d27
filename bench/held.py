"""What is under way while traffic is switched: a websocket that is held open, and slow requests."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from bench.load import PATIENCE_S

ECHO_EVERY_S = 0.1
SILENCE_S = 2.0
"""A websocket that does not answer for this long is given up."""
SLOW_S = 1.5
SLOW_EVERY_S = 0.5


@dataclass
class Session:
    """One websocket, by the wall clock. `ended` is how: closed, silent, or open when the bench was over."""

    opened_at: float
    alive_at: float
    ended: str = "open"


@dataclass
class Held:
    """Holds both against one app until it is cancelled."""

    port: int
    sessions: list[Session] = field(default_factory=list)
    refused: int = 0
    """Times a new websocket could not be opened."""
    slow: int = 0
    slow_failures: list[str] = field(default_factory=list)

    async def hold(self, stopped: asyncio.Event) -> None:
        """Until `stopped`; slow requests that are under way are waited for."""
        async with asyncio.TaskGroup() as group:
            websocket = group.create_task(self._websocket())
            while not stopped.is_set():
                group.create_task(self._slow())
                await asyncio.sleep(SLOW_EVERY_S)
            websocket.cancel()

    async def _websocket(self) -> None:
        while True:
            try:
                async with connect(f"ws://127.0.0.1:{self.port}/echo", proxy=None, close_timeout=0.1) as websocket:
                    session = Session(opened_at=time.time(), alive_at=time.time())
                    self.sessions.append(session)
                    try:
                        while True:
                            async with asyncio.timeout(SILENCE_S):
                                await websocket.send("?")
                                await websocket.recv()
                            session.alive_at = time.time()
                            await asyncio.sleep(ECHO_EVERY_S)
                    except TimeoutError:
                        session.ended = "silent"
                    except WebSocketException:
                        session.ended = "closed"
            except (OSError, WebSocketException):
                self.refused += 1
                await asyncio.sleep(ECHO_EVERY_S)

    async def _slow(self) -> None:
        self.slow += 1
        request = f"GET /slow?seconds={SLOW_S} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(SLOW_S + PATIENCE_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(request.encode())
                answer = await reader.read(-1)
                writer.close()
        except (OSError, TimeoutError) as error:
            self.slow_failures.append(type(error).__name__)
            return
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1:2] != [b"200"] or not body.startswith(b"slow "):
            self.slow_failures.append(head.partition(b"\r\n")[0].decode(errors="replace") or "no answer")


def dropped_too_early(sessions: Sequence[Session], switches: Sequence[float], drain_s: float, slack_s: float) -> int:
    """How many websockets ended before their release was drained: all that ended without a switch away from it, or
    sooner than `drain_s` after it. Times are of the wall clock."""
    dropped = 0
    for session in sessions:
        if session.ended == "open":
            continue
        left_at = next((at for at in sorted(switches) if at > session.opened_at), None)
        if left_at is None or session.alive_at < left_at + drain_s - slack_s:
            dropped += 1
    return dropped
