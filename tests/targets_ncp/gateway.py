"""A gateway that answers from a script: only for what the stand-in of Naver Cloud cannot show."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from klepaas.settings import NcpSettings
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import endpoints_of
from klepaas.targets.ncp.signing import Keys

KEYS = Keys(access="EXAMPLE-ACCESS", secret="example-secret")
Said = httpx.Response | Exception


def result(value: Any, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=json.dumps({"result": value}), headers=headers)


def error(status: int, code: int | str, message: str, details: str = "", **headers: str) -> httpx.Response:
    body = {"error": {"errorCode": code, "message": message, "details": details}}
    return httpx.Response(status, content=json.dumps(body), headers=headers)


class Script(httpx.AsyncBaseTransport):
    """Answers in order; the last one again and again. Keeps what it was asked."""

    def __init__(self, answers: Sequence[Said | Callable[[httpx.Request], Said]]) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = list(answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        answer = answer(request) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def lines(self) -> list[str]:
        return [f"{each.method} {each.url.path}" for each in self.asked]


def client_of(*answers: Said | Callable[[httpx.Request], Said], per_minute: int = 6000) -> tuple[NcpClient, Script]:
    script = Script(answers)
    client = NcpClient(
        KEYS,
        endpoints_of(NcpSettings()),
        transport=script,
        budgets=Budgets(per_minute),
        looks_s=(0, 0, 0),
        hidden=["git-password-1"],
    )
    return client, script
