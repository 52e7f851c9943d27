"""Making something that has a name exactly once: look, make, and when the answer is unclear, look again and adopt."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from klepaas.errors import AnswerLost, Conflict, Rejected
from klepaas.targets.ncp.refusal import is_duplicate

T = TypeVar("T")


@dataclass(frozen=True)
class Ensured(Generic[T]):
    """`was_made`: it was not there when we looked, and is now."""

    value: T
    was_made: bool


async def ensured(
    find: Callable[[], Awaitable[T | None]],
    make: Callable[[], Awaitable[T | None]],
    *,
    looks_s: Sequence[float],
    what: str,
) -> Ensured[T]:
    """`make` returns None when only a look tells what was made.

    Errors: those of both; Conflict when the name is taken by something that cannot be seen; AnswerLost when it
    never appeared: calling again begins with a look."""
    if (found := await find()) is not None:
        return Ensured(found, was_made=False)
    unclear: AnswerLost | Rejected | None = None
    try:
        made = await make()
        if made is not None:
            return Ensured(made, was_made=True)
    except AnswerLost as lost:
        unclear = lost
    except Rejected as refused:
        if not is_duplicate(refused):
            raise
        unclear = refused
    if (found := await appears(find, looks_s)) is not None:
        return Ensured(found, was_made=not isinstance(unclear, Rejected))
    if isinstance(unclear, Rejected):
        raise Conflict(
            f"The name of {what} is taken by something that these keys may not see.",
            hint="Remove or rename it in Naver Cloud's console, or give the account the permission to see it.",
            evidence=unclear.evidence,
        ) from unclear
    raise unclear or AnswerLost(
        f"Naver Cloud made {what}, but does not show it yet.", hint="Nothing is lost: it is looked for again."
    )


async def appears(find: Callable[[], Awaitable[T | None]], looks_s: Sequence[float]) -> T | None:
    """What was just made, once it is shown: lists lag."""
    for rest_s in looks_s:
        await asyncio.sleep(rest_s)
        if (found := await find()) is not None:
            return found
    return None
