"""The operator's log: one line per fact, for people or as JSON, with every secret taken out on its way.

`configure` is called once at a program's start; everything else asks structlog for a logger. What a user must see
is an event of the deployment, not a line here."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal, TextIO

import structlog

HIDDEN = "…hidden…"

MAX_DEPTH = 8
"""Nested deeper than this, a value is left out: it is no fact anybody reads, and may be endless."""

_SECRET_NAMES = re.compile(
    r"(?:^|[_\-.])(?:secret|password|passwd|token|authorization|cookie|credentials?|private_key|encryption_key"
    r"|api_key|apikey|access_key|variables|environ)(?:$|[_\-.])",
    re.IGNORECASE,
)
_SECRETS = (
    # Our own tokens, GitHub's, AWS's key ids, JSON web tokens, PEM keys.
    (re.compile(r"\b(klp_[0-9a-f]{4})[0-9a-f]*_[A-Za-z0-9_-]{8,}"), r"\1…"),
    (re.compile(r"\b(gh[pousr]_|github_pat_|xox[abprs]-)[A-Za-z0-9_-]{8,}"), r"\1…"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}\b"), r"\1…"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    # Whatever stands after Bearer or Basic, and the credential of a URL.
    (re.compile(r"\b(Bearer|Basic)(\s+|%20)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/@:'\"]*:[^\s/@'\"]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
)

_QUIET = dict.fromkeys(("alembic.runtime.plugins", "httpx", "httpcore", "sse_starlette"), logging.WARNING)
"""Libraries whose chatter repeats ours, or would put log lines of users' builds into our log."""


def configure(
    *,
    format: Literal["console", "json"] = "console",  # noqa: A002  the setting is called log_format
    level: Literal["debug", "info", "warning", "error"] = "info",
    stream: TextIO | None = None,
) -> None:
    """Send the log of this process, libraries included, to `stream` (stderr). May be called again."""
    stream = stream if stream is not None else sys.stderr
    shared = _shared_processors()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                _renderer(format, colours=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: hides values whose name says they are secret, and secrets inside any text."""
    return {name: _clean(value, name) for name, value in event.items()}


def without_secrets(text: str) -> str:
    """The text with everything that looks like a credential replaced."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _shared_processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Formatted here, as text: only text can be searched for secrets.
        structlog.processors.format_exc_info,
    ]


def _renderer(format: str, *, colours: bool) -> Any:  # noqa: A002
    if format == "json":
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=colours)


def _clean(value: Any, name: str = "", depth: int = 0) -> Any:
    if name and not isinstance(value, bool | int | float | None) and _SECRET_NAMES.search(name):
        return HIDDEN
    if depth > MAX_DEPTH:
        return "…"
    match value:
        case str():
            return without_secrets(value)
        case bytes():
            return without_secrets(value.decode(errors="replace"))
        case bool() | int() | float() | None:
            return value
        case Mapping():
            return {str(key): _clean(item, str(key), depth + 1) for key, item in value.items()}
        case Sequence() | set() | frozenset():
            return [_clean(item, depth=depth + 1) for item in value]
        case _:
            return without_secrets(str(value))
