"""The envelopes of answers: `result` alone, or `error` with a code. Bodies end without a newline, as the SDK needs."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

JSON = "application/json;charset=UTF-8"


class Answer(Exception):
    """An answer instead of what was asked for. `code` is text from the gateway and a number from a service."""

    def __init__(
        self, status: int, code: str | int, message: str, details: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{code} {message}: {details}")
        self.status, self.headers = status, dict(headers or {})
        self.body = {"error": {"errorCode": code, "message": message, "details": details}}

    def response(self) -> Response:
        return said(self.body, self.status, self.headers)


def said(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(body, ensure_ascii=False), status, dict(headers or {}), media_type=JSON)


def result(body: Any) -> Response:
    return said({"result": body})


def done() -> Response:
    """The answer to an operation without data, outside of SourceCommit."""
    return result({"result": True})


def authentication_failed() -> Answer:
    return Answer(401, "200", "Authentication Failed", "Invalid authentication information.")


def permission_denied() -> Answer:
    return Answer(401, "210", "Permission Denied", "Insufficient permission to perform the action.")


def no_such_url() -> Answer:
    return Answer(404, "300", "Not Found Exception", "The requested URL was not found.")


GATEWAY: Mapping[int, tuple[str, str]] = {
    400: ("100", "Bad Request Exception"),
    413: ("430", "Request Entity Too Large"),
    429: ("410", "Throttle Limited"),
    500: ("900", "Unexpected Error"),
    503: ("500", "Endpoint Error"),
    504: ("510", "Endpoint Timeout"),
}
"""HTTP status → code and message of the gateway's own errors."""


def gateway_error(status: int, code: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    usual, message = GATEWAY.get(status, ("900", "Unexpected Error"))
    message = {"400": "Quota Exceeded", "420": "Rate Limited"}.get(code, message)
    return Answer(status, code or usual, message, headers=headers)
