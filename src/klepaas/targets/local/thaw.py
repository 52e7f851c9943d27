"""Unfreezing a container. It answers some 6 of 18 ms before the engine says that it runs: the engine writes first."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from klepaas.docker.engine import DockerEngine
from klepaas.errors import KlepaasError, Outside


class Thaw:
    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._replies: dict[str, asyncio.Task[None]] = {}
        """By release: what the engine has yet to say."""

    async def begin(self, release_id: str, container: str, answers: Callable[[], Awaitable[bool]]) -> None:
        """Unfreeze a container and return once it `answers` or the engine has said that it runs, whichever is first.

        Errors: as of `DockerEngine.unpause`, when the engine is first."""
        reply = asyncio.create_task(self._engine.unpause(container))
        self._replies[release_id] = reply
        reply.add_done_callback(lambda _: self._forget(release_id, reply))
        seen = asyncio.create_task(_until(answers, reply))
        try:
            await asyncio.wait({reply, seen}, return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                reply.result()
        finally:
            seen.cancel()

    async def ended(self, release_id: str) -> None:
        """Once the engine has said what became of it. What it says of the container before that may be over."""
        if reply := self._replies.get(release_id):
            with suppress(Outside):
                await asyncio.shield(reply)

    def _forget(self, release_id: str, reply: asyncio.Task[None]) -> None:
        if self._replies.get(release_id) is reply:
            del self._replies[release_id]
        if not reply.cancelled():
            reply.exception()  # told to whoever still waits; a container that answered runs, whatever the engine says


async def _until(answers: Callable[[], Awaitable[bool]], reply: asyncio.Task[None]) -> None:
    with suppress(KlepaasError):
        if await answers():
            return
    await asyncio.wait({reply})
