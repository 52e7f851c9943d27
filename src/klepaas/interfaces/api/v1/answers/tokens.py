"""Tokens, as callers get them: the secret once."""

from dataclasses import asdict
from datetime import datetime

from pydantic import ConfigDict

from klepaas.interfaces.api.v1.answers.answer import Answer, example_of
from klepaas.operations.ports.tokens import Token


class TokenAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0011223344556677",
                    "owner_id": "own_5e6f708192a3b4c5",
                    "name": "ci of the shop",
                    "scope": "deploy",
                    "created_at": "2026-01-05T09:00:00Z",
                    "expires_at": "2026-04-05T09:00:00Z",
                    "revoked_at": None,
                }
            ]
        }
    )
    id: str
    owner_id: str
    name: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, token: Token) -> "TokenAnswer":
        return cls(**asdict(token))


class NewTokenAnswer(TokenAnswer):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{**example_of(TokenAnswer), "token": "klp_0011223344556677_…"}]}
    )
    token: str
    """The only time it is shown."""


class TokenList(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [{"tokens": [example_of(TokenAnswer)]}]})
    tokens: list[TokenAnswer]
