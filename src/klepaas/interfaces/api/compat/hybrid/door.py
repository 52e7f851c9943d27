"""How these routes are asked and how they refuse."""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from klepaas.domain.github import RepositoryName
from klepaas.errors import KlepaasError, Outside
from klepaas.interfaces.api.door import Guarded
from klepaas.interfaces.api.errors import error_response, invalid_from
from klepaas.interfaces.api.v1.bodies import Storable

TARGET = "ncp"
"""What a repository becomes a project of, when it is none yet."""

Id = Annotated[
    str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value), Field(max_length=80)
]
"""Strings; integers are accepted and mean the same."""
Name = Annotated[str, Field(min_length=1, max_length=100)]
Sha = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{7,40}$")]
"""A commit, or the first digits of one."""


class NamesRepository(Storable):
    """A body about a repository. Fields that nobody reads are let through, as they always were."""

    model_config = ConfigDict(frozen=True)
    owner: Name
    repo: Name
    """In any case of letters; answers spell both as GitHub does."""

    @property
    def repository(self) -> RepositoryName:
        return RepositoryName(owner=self.owner, name=self.repo)


class OfOldClients(Guarded):
    """A route whose errors say `detail`, as they always did, and beside it everything that ours say."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await answer(request)
            except RequestValidationError as error:
                # Without what stood there: it may have been meant for another field.
                problems = [{k: v for k, v in each.items() if k in {"type", "loc", "msg"}} for each in error.errors()]
                return _with_detail(request, invalid_from(error.errors()), jsonable_encoder(problems))
            except KlepaasError as error:
                return _with_detail(request, error, error.message)

        return told


def _with_detail(request: Request, error: KlepaasError, detail: Any) -> Response:
    ours = error_response(error, request.state.request_id)
    headers = {name: value for name, value in ours.headers.items() if name not in {"content-length", "content-type"}}
    body = {"detail": detail, **json.loads(bytes(ours.body))}
    return JSONResponse(body, status_code=_status(error, ours.status_code), headers=headers)


def _status(error: KlepaasError, ours: int) -> int:
    """As the provider said it; but 401 and 403 would tell callers that their own login is wrong."""
    theirs = error.evidence.get("status")
    if not isinstance(error, Outside) or not isinstance(theirs, int) or theirs < 400:
        return ours
    return 502 if theirs in {401, 403} else theirs
