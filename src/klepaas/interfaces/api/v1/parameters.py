"""The parameters several routes share, with their limits and examples, and the errors every guarded route has."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Header, Path, Query

from klepaas.interfaces.api.errors import ERROR_SCHEMA
from klepaas.interfaces.api.stream import LARGEST_SEQ

PREFIX = "/api/v1"

ProjectReference = Annotated[
    str, Path(alias="project", max_length=200, description="Id or name of the project.", examples=["shop"])
]
DeploymentId = Annotated[str, Path(max_length=200, examples=["dep_7c1e2d3b4a596877"])]
TokenId = Annotated[str, Path(max_length=200, examples=["0011223344556677"])]
ConnectionId = Annotated[
    str, Path(max_length=200, description="Id or name of the connection.", examples=["con_8a9b0c1d2e3f4051"])
]
Environment = Annotated[
    str | None,
    Query(max_length=200, description="Unset: the project's own environment.", examples=["production"]),
]
AfterSeq = Annotated[int, Query(ge=0, le=LARGEST_SEQ, description="Only events with a higher number.", examples=[3])]
AfterPosition = Annotated[str | None, Query(max_length=200, description="Only lines behind this position.")]
Limit = Annotated[int, Query(ge=1, le=1000, examples=[50])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Names the request: repeated with the same key it is the same deployment. A UUID is a good key.",
        examples=["7d9f8a52-0a54-4f60-a9de-0a2c3fd2a6a1"],
    ),
]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="Where a stream goes on.")]

_WORDS = {
    400: "Something it needs is not set up yet.",
    401: "The token is missing, wrong, expired or revoked.",
    403: "The token's scope does not allow it.",
    404: "There is no such thing, or it is somebody else's.",
    409: "It stands against what there is.",
    413: "The body is too large.",
    422: "The request is not valid.",
    502: "Another system says no; the code says who and why.",
    503: "Something klepaas needs does not answer now; try again after Retry-After.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the errors a route may answer with, besides those of every guarded one."""
    content = {"application/json": {"schema": {"$ref": ERROR_SCHEMA}}}
    return {status: {"description": _WORDS[status], "content": content} for status in {401, 422, 503, *statuses}}


def streamed(
    model: Any, what: str, frames: str, forms: Mapping[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: a route that also answers as a stream of Server-Sent Events, such as these frames, and in other
    forms, by media type."""
    return {
        200: {
            "model": model,
            "description": f"{what}; with `Accept: text/event-stream` as a stream. While nothing comes, the comment "
            "`: keep-alive` shows that it lives.",
            "content": {"text/event-stream": text(frames), **(forms or {})},
        },
        **refusals(404),
    }


def text(example: str) -> dict[str, Any]:
    """For OpenAPI: an answer, or one form of it, that is no JSON."""
    return {"schema": {"type": "string"}, "example": example}
