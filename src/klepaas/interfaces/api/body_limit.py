"""No request body larger than the limit gets in, whatever its headers promise."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from klepaas.interfaces.api.errors import body_too_large, error_response


class BodyLimit:
    """Counts the bytes that really arrive. A body that announces itself as too large is not even read.

    It wraps `receive` and nothing else, so that streams pass through it untouched."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int) -> None:
        self._app, self._limit = app, limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _announced(scope) > self._limit:
            response = error_response(body_too_large(self._limit), scope["state"]["request_id"])
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
        else:
            await self._app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        seen = 0

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._limit:
                    # FastAPI hides every other exception raised while it reads a body.
                    raise HTTPException(413, headers={"Connection": "close"})
            return message

        return counting


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
