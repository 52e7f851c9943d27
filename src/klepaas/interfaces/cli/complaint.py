"""How a command says no: what happened, why, what to do next; with an id that leads to more."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from klepaas.errors import KlepaasError
from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.screen import Screen

MAX_WHY = 300


def complain(screen: Screen, error: KlepaasError) -> None:
    """Three lines on stderr; under --json also the error object of the API on stdout."""
    error_id = id_of(error)
    screen.json(
        {
            "error": {
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "evidence": error.evidence,
                "request_id": error_id,
            }
        }
    )
    three_lines(screen, error.message, why(error.code, error.evidence), error.hint, error_id)


def three_lines(screen: Screen, happened: str, reason: str, next_step: str, error_id: str) -> None:
    tell = screen.console.print
    tell(words.harmless(f"error: {happened}"), style="red")
    tell(words.harmless(f"  why: {reason} [{error_id}]"))
    tell(words.harmless(f" next: {next_step or 'See: klepaas doctor'}"))


def why(code: str, evidence: Mapping[str, Any]) -> str:
    """The stable code and what was seen, in one line."""
    told = {key: value for key, value in evidence.items() if key != "request_id" and value not in (None, "", [], {})}
    seen = "; ".join(f"{key}: {_brief(value)}" for key, value in told.items())
    text = f"{code} ({seen})" if seen else code
    return text if len(text) <= MAX_WHY else text[: MAX_WHY - 1] + "…"


def id_of(error: KlepaasError) -> str:
    """The server's id of the request; one of our own when no server answered."""
    known = error.evidence.get("request_id")
    return str(known) if known else "cli_" + secrets.token_hex(6)


def _brief(value: Any) -> str:
    match value:
        case str():
            return words.one_line(value, 120)
        case list() | tuple() if all(isinstance(item, str) for item in value):
            return ", ".join(words.one_line(item, 60) for item in value[:5]) + (" …" if len(value) > 5 else "")
        case _:
            return words.one_line(json.dumps(value, ensure_ascii=False, default=str), 160)
