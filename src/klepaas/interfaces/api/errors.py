"""How the API says no: one table of statuses, one shape for every error."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from klepaas.errors import (
    BodyTooLarge,
    Conflict,
    DiskFull,
    ImageMissing,
    Invalid,
    KlepaasError,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Outside,
    Refused,
    Unavailable,
)

log = structlog.get_logger()

STATUSES: dict[type[KlepaasError], int] = {
    NotAuthenticated: 401,
    NotAllowed: 403,
    NotFound: 404,
    Conflict: 409,
    ImageMissing: 409,
    BodyTooLarge: 413,
    Invalid: 422,
    Refused: 422,
    DiskFull: 507,
    Unavailable: 503,
    Outside: 502,
    KlepaasError: 500,
}
"""The nearest class in the error's own line of descent decides."""

RETRY_AFTER_S = 5
"""Said with 503 when the error itself does not know better."""


class ErrorDetail(BaseModel):
    """What happened, why, and what to do next. Programs test `code`, people read the rest."""

    code: str
    message: str
    hint: str
    evidence: dict[str, Any]
    request_id: str


class ErrorAnswer(BaseModel):
    """The one shape of every error of this API."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "not_found",
                        "message": "There is no project 'shop'.",
                        "hint": "List yours with: klepaas projects",
                        "evidence": {},
                        "request_id": "req_5f0c1d2e3b4a5968",
                    }
                }
            ]
        }
    )
    error: ErrorDetail = Field()


_SCHEMAS = "#/components/schemas/"
ERROR_SCHEMA = f"{_SCHEMAS}{ErrorAnswer.__name__}"
"""Where OpenAPI finds it. Referred to by hand: FastAPI would build a validator for each error of each route."""


def error_schemas() -> dict[str, Any]:
    """What `ERROR_SCHEMA` refers to, and what that refers to, by name."""
    schema = ErrorAnswer.model_json_schema(ref_template=_SCHEMAS + "{model}", mode="serialization")
    parts: dict[str, Any] = schema.pop("$defs")
    return {**parts, ErrorAnswer.__name__: schema}


class MethodNotAllowed(Refused):
    """The path exists and does not know this method."""

    code = "method_not_allowed"


STATUSES[MethodNotAllowed] = 405


def status_of(error: KlepaasError) -> int:
    return next(STATUSES[each] for each in type(error).__mro__ if each in STATUSES)


def fields_of(error: KlepaasError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint, "evidence": error.evidence}


def error_response(error: KlepaasError, request_id: str) -> Response:
    body = {"error": {**fields_of(error), "request_id": request_id}}
    content = to_json(body, inf_nan_mode="null", fallback=str)
    return Response(content, status_code=status_of(error), headers=_headers(error), media_type="application/json")


def internal_error(request_id: str) -> Response:
    """The answer to a fault of our own. What happened is in the log, under the request's id, and nowhere else."""
    return error_response(
        _Internal(
            "Something went wrong inside klepaas.",
            hint=f"The operator finds the reason in the log under {request_id}.",
        ),
        request_id,
    )


def install(app: FastAPI) -> None:
    """Have every error of the app answered in our shape. Faults of our own are answered by RequestLine."""
    app.add_exception_handler(KlepaasError, _answer_ours)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)


class _Internal(KlepaasError):
    code = "internal_error"


async def _answer_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, KlepaasError)
    return error_response(error, request.state.request_id)


async def _answer_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(invalid_from(error.errors()), request.state.request_id)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    translated: KlepaasError
    match error.status_code:
        case 404:
            translated = NotFound(
                f"There is nothing at {request.url.path[:200]!r}.", hint="The routes are in /api/v1/openapi.json."
            )
        case 405:
            translated = MethodNotAllowed(
                f"{request.method} is not possible here.", hint="The routes are in /api/v1/openapi.json."
            )
        case 413:
            translated = body_too_large(request.app.state.door.settings.max_body_bytes)
        case status if status < 500:
            translated = Invalid("The request cannot be read.", hint="Send JSON in UTF-8.")
        case _:
            translated = _Internal("Something went wrong inside klepaas.")
    response = error_response(translated, request.state.request_id)
    response.headers.update(error.headers or {})
    return response


def body_too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body of the request is larger than {limit_bytes} bytes.",
        hint="Send less, or ask the operator to raise KLEPAAS_SERVER__MAX_BODY_BYTES.",
        evidence={"limit_bytes": limit_bytes},
    )


def invalid_from(problems: Sequence[Any]) -> Invalid:
    """What pydantic found wrong, in our words. Names fields, never shows what was in them."""
    fields = [{"field": _place(problem["loc"]), "problem": _problem(problem)} for problem in problems]
    first = problems[0]
    where = fields[0]["field"]
    match first["type"]:
        case "json_invalid":
            message, hint = "The body is not JSON.", f"{first.get('ctx', {}).get('error', 'It cannot be parsed')}."
        case "extra_forbidden":
            message, hint = f"There is no field {where!r} here.", "Remove it or correct its name."
        case "value_error" if where == "body":
            message, hint = f"The request is not valid: {fields[0]['problem']}.", ""
        case _ if where == "body":
            message, hint = "The request needs a JSON object as its body.", "Send it as Content-Type: application/json."
        case "missing":
            message, hint = f"The field {where!r} is missing.", ""
        case _:
            message, hint = f"The field {where!r} is not valid: {fields[0]['problem']}.", ""
    return Invalid(message, hint=hint, evidence={"fields": fields})


def _place(location: Sequence[Any]) -> str:
    # In a body that is not JSON, the place is a number of characters.
    parts = [str(part)[:80] for part in location if not isinstance(part, int) or len(location) > 2]
    return ".".join(parts[1:] if len(parts) > 1 and parts[0] in {"body", "query", "path", "header"} else parts)


def _problem(problem: Any) -> str:
    text: str = problem["msg"]
    return text.removeprefix("Value error, ").rstrip(".")


def _headers(error: KlepaasError) -> dict[str, str]:
    if isinstance(error, NotAuthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, Unavailable):
        wait = ceil(error.retry_after.total_seconds()) if error.retry_after is not None else RETRY_AFTER_S
        return {"Retry-After": str(max(wait, 1))}
    return {}
