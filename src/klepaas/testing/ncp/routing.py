"""How a request finds its handler, and what every handler may ask of it."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from klepaas.testing.ncp.answers import Answer, no_such_url
from klepaas.testing.ncp.signature import KeyPair
from klepaas.testing.ncp.world import World

T = TypeVar("T")

LONGEST_PAGE = 100


@dataclass(frozen=True)
class Asked:
    """One signed request: who asks, in which part of the path, with what."""

    world: World
    caller: KeyPair
    request: Request
    parts: Mapping[str, str]
    body: Any

    def number(self, part: str, code: int) -> int:
        """Errors: Answer 404 when it is none."""
        text = self.parts[part]
        if not (text.isascii() and text.isdigit()):
            raise Answer(404, code, "not found", f"{part} {text} not found")
        return int(text)

    def query(self, name: str) -> str:
        return self.request.query_params.get(name, "")


Handler = Callable[[Asked], Awaitable[Response]]

Route = tuple[str, str, Handler]
"""Method, path with `{part}` (one segment), handler."""


class Routes:
    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(method, _pattern(path), handler) for method, path, handler in routes]

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        """Errors: Answer 404, also for a method that a path does not know."""
        for wanted, pattern, handler in self._routes:
            if wanted == method and (match := pattern.fullmatch(path)):
                return handler, match.groupdict()
        raise no_such_url()


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def filtered(asked: Asked, things: Sequence[T], name: Callable[[T], str], *queries: str) -> list[T]:
    """Those whose names contain what the query asks for."""
    for query in queries:
        if wanted := asked.query(query):
            return [thing for thing in things if wanted in name(thing)]
    return list(things)


def page(
    asked: Asked, things: Sequence[T], code: int, *, default: int | None = None, together: bool = False
) -> list[T]:
    """One page; everything (or `default`) without `pageSize`. `together`: one of the two needs the other.

    Errors: Answer 400."""
    number, size = asked.query("pageNo"), asked.query("pageSize")
    if together and bool(number) != bool(size):
        raise Answer(400, code, "invalid parameters", "pageNo and pageSize go together")
    for text in (number, size):
        if text and not (text.isascii() and text.isdigit() and int(text) > 0):
            raise Answer(400, code, "invalid parameters", "pageNo and pageSize are positive numbers")
    per_page = int(size) if size else default
    if per_page is None:
        return list(things)
    if default is not None and per_page > LONGEST_PAGE:
        raise Answer(400, code, "invalid parameters", f"pageSize is at most {LONGEST_PAGE}")
    first = (int(number or 1) - 1) * per_page
    return list(things[first : first + per_page])


def newest_first(asked: Asked, runs: Sequence[T]) -> list[T]:
    """`runs` are oldest first; as the service lists them."""
    return list(runs) if asked.world.faults.quirks.oldest_first else list(reversed(runs))
