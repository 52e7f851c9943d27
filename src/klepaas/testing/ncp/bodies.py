"""Bodies of requests, read strictly: no unknown field, no text where a number is wanted."""

import json
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.requests import Request

from klepaas.testing.ncp.answers import Answer, gateway_error


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


T = TypeVar("T", bound=Body)

LONGEST_BODY_BYTES = 1024 * 1024


def _up_to_500_bytes(text: str) -> str:
    if len(text.encode()) > 500:
        raise ValueError("it is longer than 500 bytes")
    return text


Description = Annotated[str, AfterValidator(_up_to_500_bytes)]

Text = Annotated[str, StringConstraints(min_length=1)]

Name30 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,30}$")]
Name50 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,50}$")]
Name80 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,80}$")]
Name100 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]


async def json_of(request: Request) -> Any:
    """The JSON of a request; an empty object when it has no body. Errors: Answer 400, 413."""
    raw = await request.body()
    if len(raw) > LONGEST_BODY_BYTES:
        raise gateway_error(413)
    if not raw:
        return {}
    try:
        return json.loads(raw)
    except ValueError:
        raise gateway_error(400) from None


def read(model: type[T], body: Any, code: int) -> T:
    """Errors: Answer 400 with this code and the field in its details."""
    try:
        # Through JSON, since strictness then takes a list for what it is.
        return model.model_validate_json(json.dumps(body))
    except ValidationError as error:
        raise Answer(400, code, "invalid parameters", _where(error)) from None


def _where(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5])
