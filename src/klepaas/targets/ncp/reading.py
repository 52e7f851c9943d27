"""Reading the provider's answers: something else than was expected is one sentence, whatever it was."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from klepaas.targets.ncp.refusal import not_understood

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A line of a list. `may_read` False: the account sees that it is there, and no more."""

    id: int
    name: str
    may_read: bool = True


@contextmanager
def understood(service: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise not_understood(service) from error


def each_of(data: Any, key: str, read: Callable[[Any], T]) -> list[T]:
    """Of the list under `key`; an absent one is empty."""
    found = data.get(key)
    if found is not None and not isinstance(found, list):
        raise TypeError(f"{key} is no list")
    return [read(one) for one in found or ()]


def listed(data: Any) -> Listed:
    return Listed(id=int(data["id"]), name=str(data["name"]), may_read=data.get("permission") != "Deny")


def id_of(data: Any) -> int:
    """Of something that was made: two spellings are known."""
    return int(data["id"] if "id" in data else data["projectId"])


def named(found: Sequence[Listed], name: str) -> Listed | None:
    """The lists' filters find parts of names: the whole one counts."""
    return next((one for one in found if one.name == name), None)
