"""How a request finds its handler, and the answers every handler may give."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from klepaas.testing.github.callers import Caller
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.shapes import Account, Json
from klepaas.testing.github.world import World

DOCS = "https://docs.github.com/rest"

BY_NAME, BY_ID = "/repos/{owner}/{repo}", "/repositories/{number_of_repository}"


class Answer(Exception):
    """An answer instead of what was asked for, in GitHub's words."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.body = {"message": message, **more, "documentation_url": DOCS, "status": str(status)}

    def response(self) -> Response:
        return JSONResponse(self.body, self.status, self.headers)


def not_found() -> Answer:
    return Answer(404, "Not Found")


def invalid(resource: str, field: str, code: str = "invalid", message: str = "") -> Answer:
    error = {"resource": resource, "field": field, "code": code, **({"message": message} if message else {})}
    return Answer(422, "Validation Failed", errors=[error])


@dataclass(frozen=True)
class Asked:
    """One request to the API: who asks, with what, in which part of the path."""

    world: World
    caller: Caller
    request: Request
    path: str
    """Without `/api/v3`."""
    parts: Mapping[str, str]
    body: Json

    def repository(self, permission: str = "metadata", level: str = "read") -> Repository:
        """The repository the path names, when the caller may do this there. Errors: Answer 301, 401, 403, 404."""
        if "number_of_repository" in self.parts:
            found = self.world.repositories.get(self.number("number_of_repository"))
        else:
            found = self.world.find(f"{self.parts['owner']}/{self.parts['repo']}")
        self.refuse_suspended()
        if found is None or not self.caller.sees(found):
            raise not_found()
        self._refuse_old_name(found)
        if self.caller.may(found, permission, level):
            return found
        if self.caller.kind == "none":
            raise Answer(401, "Requires authentication")
        kind = "integration" if self.caller.kind == "installation" else "personal access token"
        wanted = {"x-accepted-github-permissions": f"{permission}={level}"}
        raise Answer(403, f"Resource not accessible by {kind}", headers=wanted)

    def account(self) -> Account:
        """Whom the caller acts as. Errors: Answer 401."""
        if self.caller.account is None:
            raise Answer(401, "Requires authentication")
        return self.caller.account

    def number(self, part: str) -> int:
        """Errors: Answer 404 when it is none."""
        text = self.parts[part]
        if not text.isascii() or not text.isdigit():
            raise not_found()
        return int(text)

    def text(self, field: str, resource: str, default: str | None = None) -> str:
        """A text of the body. Errors: Answer 422 when it is missing or none."""
        value = self.body.get(field, default)
        if value is None:
            raise invalid(resource, field, "missing_field")
        if not isinstance(value, str):
            raise Answer(422, f"Invalid request.\n\nFor 'properties/{field}', {json.dumps(value)} is not a string.")
        return value

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)

    def refuse_suspended(self) -> None:
        number = self.caller.installation_id
        if number is not None and self.world.installations[number].suspended_at is not None:
            raise Answer(403, "This installation has been suspended")

    def _refuse_old_name(self, found: Repository) -> None:
        if (
            "owner" not in self.parts
            or found.full_name.lower() == f"{self.parts['owner']}/{self.parts['repo']}".lower()
        ):
            return
        rest = self.path.split("/", 4)[4:]
        url = "/".join([f"{self.world.links.api}/repositories/{found.id}", *rest])
        query = self.request.url.query
        # Only a GET may become a GET on its way.
        status, words = (301, "Moved Permanently") if self.request.method == "GET" else (307, "Temporary Redirect")
        raise Answer(status, words, headers={"location": url + (f"?{query}" if query else "")}, url=url)


Handler = Callable[[Asked], Awaitable[Response]]

Route = tuple[str, str, Handler]
"""Method, path with `{part}` (one segment) and `{part:path}` (any), handler."""


class Routes:
    def __init__(self, routes: Sequence[Route]) -> None:
        # Whatever is below a repository's name is below its id as well; old names redirect there.
        by_id = [(m, p.replace(BY_NAME, BY_ID, 1), h) for m, p, h in routes if p.startswith(BY_NAME)]
        self._routes = [(method, re.compile(_pattern(path)), handler) for method, path, handler in [*routes, *by_id]]

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        """Errors: Answer 404."""
        for wanted, pattern, handler in self._routes:
            if wanted == method and (match := pattern.fullmatch(path)):
                return handler, match.groupdict()
        raise not_found()


def _pattern(path: str) -> str:
    parts = re.split(r"\{(\w+)(:path)?\}", path)
    found = re.escape(parts[0])
    for name, is_path, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        found += f"(?P<{name}>{'.+' if is_path else '[^/]+'}){re.escape(rest)}"
    return found


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(body, status, dict(headers or {}))


def paged(asked: Asked, items: Sequence[Any], *, wrap: str = "") -> Response:
    """One page of a list with its `Link` header; `wrap` names the list within `{total_count, …}`."""
    per_page = min(100, max(1, _int(asked.query("per_page"), 30)))
    page = max(1, _int(asked.query("page"), 1))
    last = max(1, -(-len(items) // per_page))
    links = []
    if page > 1:
        links += [("prev", page - 1), ("first", 1)]
    if page < last:
        links += [("next", page + 1), ("last", last)]
    shown = list(items[(page - 1) * per_page : page * per_page])
    headers = {"link": ", ".join(f'<{url_with(asked, page=n)}>; rel="{rel}"' for rel, n in links)} if links else {}
    return answer({"total_count": len(items), wrap: shown} if wrap else shown, headers=headers)


def url_with(asked: Asked, **query: object) -> str:
    """This request's URL with some of its query changed."""
    values = {**dict(asked.request.query_params), **{name: str(value) for name, value in query.items()}}
    return f"{asked.world.links.api}{asked.path}?{urlencode(values)}"


def _int(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() else default
