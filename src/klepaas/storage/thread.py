"""A thread for what waits for the disk, while the event loop goes on."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Errand = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Thread:
    """One thread. It starts with its first errand, and again with the first one after its end."""

    def __init__(self) -> None:
        self._errands: SimpleQueue[_Errand | Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, errand: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._started().put((loop, done, errand))
        return await done

    async def finished(self) -> None:
        """Whatever came before has ended."""
        if self._thread is not None:
            await self.run(lambda: None)

    def end_with(self, last: Callable[[], None]) -> None:
        """After whatever came before."""
        self._started().put(last)
        self._thread = None

    def _started(self) -> "SimpleQueue[_Errand | Callable[[], None]]":
        if self._thread is None:
            # Not joined when the process ends: it may wait for a disk or a database that never answers.
            self._errands = SimpleQueue()
            self._thread = threading.Thread(
                target=self._serve, args=(self._errands,), name="klepaas-database", daemon=True
            )
            self._thread.start()
        return self._errands

    def _serve(self, errands: "SimpleQueue[_Errand | Callable[[], None]]") -> None:
        while isinstance(given := errands.get(), tuple):
            loop, done, errand = given
            result, fault = None, None
            try:
                result = errand()
            except BaseException as error:
                fault = error
            with suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
                loop.call_soon_threadsafe(_tell, done, result, fault)
        given()


def _tell(done: "asyncio.Future[Any]", result: Any, fault: BaseException | None) -> None:
    if done.done():  # whoever came was cancelled
        return
    if fault is not None:
        done.set_exception(fault)
    else:
        done.set_result(result)
