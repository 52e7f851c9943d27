"""A thaw is over when the container answers, or when the engine says so, whichever comes first. The engine here is one
whose replies the test gives; a real one thaws in test_local_target.py."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineConflict, EngineNotFound
from klepaas.errors import Unavailable
from klepaas.targets.local.thaw import Thaw


class Engine:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def unpause(self, container: str) -> None:
        self.asked.append(container)
        await asyncio.shield(self.reply)


def answering(value: bool) -> Callable[[], Awaitable[bool]]:
    async def answers() -> bool:
        return value

    return answers


async def nobody_can_say() -> bool:
    raise Unavailable("The database does not answer.")


async def never() -> bool:
    await asyncio.Event().wait()
    return True


@pytest.fixture
async def engine() -> Engine:
    return Engine()


@pytest.fixture
def thaw(engine: Engine) -> Thaw:
    return Thaw(cast(DockerEngine, engine))


async def test_a_container_that_answers_is_thawed_whatever_the_engine_has_yet_to_say(
    engine: Engine, thaw: Thaw
) -> None:
    await thaw.begin("rel_1", "c1", answering(True))
    assert engine.asked == ["c1"]

    engine.reply.set_exception(EngineConflict("The engine refused: it is not paused."))
    await thaw.ended("rel_1")
    await thaw.ended("rel_1")


async def test_the_engines_word_is_enough_where_nothing_answers(engine: Engine, thaw: Thaw) -> None:
    for answers in (answering(False), nobody_can_say, never):
        beginning = asyncio.create_task(thaw.begin("rel_1", "c1", answers))
        await asyncio.sleep(0.01)
        assert not beginning.done()
        engine.reply.set_result(None)
        await beginning
        engine.reply = asyncio.get_running_loop().create_future()


async def test_what_the_engine_refuses_is_told_to_whoever_waits(engine: Engine, thaw: Thaw) -> None:
    engine.reply.set_exception(EngineNotFound("There is no such container."))

    with pytest.raises(EngineNotFound):
        await thaw.begin("rel_1", "c1", never)


async def test_who_wants_to_look_waits_for_the_engines_word(engine: Engine, thaw: Thaw) -> None:
    await thaw.begin("rel_1", "c1", answering(True))
    looking = asyncio.create_task(thaw.ended("rel_1"))
    await thaw.ended("rel_2")
    await asyncio.sleep(0.01)
    assert not looking.done()

    engine.reply.set_result(None)
    await looking


async def test_a_thaw_nobody_waits_for_any_more_goes_on(engine: Engine, thaw: Thaw) -> None:
    beginning = asyncio.create_task(thaw.begin("rel_1", "c1", never))
    await asyncio.sleep(0.01)
    beginning.cancel()
    await asyncio.gather(beginning, return_exceptions=True)
    ending = asyncio.create_task(thaw.ended("rel_1"))
    await asyncio.sleep(0.01)
    assert not ending.done()

    engine.reply.set_result(None)
    await ending
