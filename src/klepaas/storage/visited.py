"""Threads with a database connection each, for transactions that need to know nothing while they run.

An asynchronous driver comes back to the event loop with every statement, on SQLite from another thread at that. Where
transactions come by the hundred a second, coming and going would be most of the work; a visit goes once."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
_Errand = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Visited:
    """One thread over one engine. It starts with its first visitor, and again with the first one after `close`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._errands: SimpleQueue[_Errand | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def visit(self, work: Callable[[sa.Connection], T]) -> T:
        """`work` in a transaction: committed when it returns, rolled back when it raises.

        A transaction that was begun ends, also when nobody waits for it any more."""
        if self._thread is None:
            # Not joined when the process ends: it may wait for a database that never answers.
            self._errands = SimpleQueue()
            arguments = (self._errands,)
            self._thread = threading.Thread(target=self._serve, args=arguments, name="klepaas-database", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._errands.put((loop, done, lambda: self._transaction(work)))
        return await done

    async def finished(self) -> None:
        """Whatever was begun before has ended."""
        if self._thread is not None:
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            self._errands.put((loop, done, lambda: None))
            await done

    def close(self) -> None:
        """Close the connection once the last transaction has ended."""
        self._errands.put(None)
        self._thread = None

    def _transaction(self, work: Callable[[sa.Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _serve(self, errands: "SimpleQueue[_Errand | None]") -> None:
        while (errand := errands.get()) is not None:
            loop, done, work = errand
            result, fault = None, None
            try:
                result = work()
            except BaseException as error:
                fault = error
            with suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
                loop.call_soon_threadsafe(_tell, done, result, fault)
        self._engine.dispose()


def _tell(done: "asyncio.Future[Any]", result: Any, fault: BaseException | None) -> None:
    if done.done():  # whoever came was cancelled
        return
    if fault is not None:
        done.set_exception(fault)
    else:
        done.set_result(result)
