"""What a stage leaves behind, and how it repeats what the outside could not do just now."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from klepaas.domain.deployment import Failure
from klepaas.domain.events import Event
from klepaas.errors import Unavailable
from klepaas.workflows.engine import Run
from klepaas.workflows.scene import Scene
from klepaas.workflows.stages import persistently

OnRetry = Callable[[int, float, Unavailable], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage leaves for the history. `failure`: the stage was done and what it saw says no."""

    events: tuple[Event, ...] = ()
    detail: str = ""
    failure: Failure | None = None
    following: "Outcome | None" = None
    """Of the next stage, when its work was done along the way: the ends of both are written down as one."""


T = TypeVar("T")
Step = Callable[[Run, Scene, OnRetry], Awaitable[Outcome]]


async def until_done(work: Callable[[], Awaitable[T]], on_retry: OnRetry) -> T:
    """Repeat while the target is away; the stage's deadline ends it."""
    return await persistently(work, tries=None, first_rest_s=0.2, longest_rest_s=3, on_retry=on_retry)
