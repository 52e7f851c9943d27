"""One read for all who ask the same at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


class Shared(Generic[Question, Answer]):
    """Nobody gets an answer that was read before they asked: whoever comes while one is read waits for the next one,
    together with everybody else who came meanwhile."""

    def __init__(self, read: Callable[[Question], Awaitable[Answer]]) -> None:
        self._read = read
        self._next: dict[Question, asyncio.Future[Answer]] = {}
        self._readers: dict[Question, asyncio.Task[None]] = {}

    async def ask(self, question: Question) -> Answer:
        waited_for = self._next.get(question)
        if waited_for is None:
            waited_for = self._next[question] = asyncio.get_running_loop().create_future()
            if question not in self._readers:
                self._readers[question] = asyncio.create_task(self._answer(question))
        return await asyncio.shield(waited_for)

    async def _answer(self, question: Question) -> None:
        """One read after the other while somebody asks."""
        try:
            # Those that were woken by the same event as the first one ask before this goes on.
            await asyncio.sleep(0)
            while (asked := self._next.pop(question, None)) is not None:
                try:
                    asked.set_result(await self._read(question))
                except Exception as error:
                    asked.set_exception(error)
                    asked.exception()  # whoever asked may be gone
        finally:
            del self._readers[question]
