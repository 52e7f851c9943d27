"""How things are said on a terminal: times, durations, digests, and foreign text made harmless."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from klepaas import durations
from klepaas.errors import Invalid

STATUS_STYLE = {
    "succeeded": "green",
    "healthy": "green",
    "running": "cyan",
    "starting": "cyan",
    "queued": "cyan",
    "failed": "red",
    "unhealthy": "red",
    "stopped": "red",
    "absent": "red",
    "rolled_back_automatically": "yellow",
    "superseded": "dim",
    "cancelled": "dim",
}
"""Colours of states; what is not here is shown plainly."""

IMPORTED = "imp_"
"""How ids of deployments begin that an older system made."""

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Text from outside without what could steer a terminal: escape sequences, control and direction marks."""
    return _CONTROL.sub("", _ESCAPE.sub("", text).expandtabs(4))


def one_line(text: str | None, width: int = 72) -> str:
    """The first line of a text, harmless and cut to `width` characters."""
    lines = harmless(text or "").strip().splitlines()
    first = lines[0] if lines else ""
    return first if len(first) <= width else first[: width - 1] + "…"


def commit(sha: str | None) -> str:
    return sha[:7] if sha else "-"


def digest(image_digest: str | None) -> str:
    """`sha256:` and 12 digits, as Docker shows them."""
    return image_digest[:19] if image_digest else "-"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def parse_time(text: str | None) -> datetime | None:
    """A time of the API, aware UTC; None when it is missing or no time."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def ago(text: str | None, now: datetime) -> str:
    """`5 min ago` for a time of the API."""
    at = parse_time(text)
    if at is None:
        return "-"
    seconds = max((now - at).total_seconds(), 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now" if seconds < 5 else f"{int(seconds)} s ago"


def parse_duration(text: str) -> timedelta:
    """Read what somebody gave for a duration. Errors: Invalid."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise Invalid(f"{text[:40]!r} is not a duration.", hint=f"Give {durations.ACCEPTED}.") from error


def is_deployment(reference: str) -> bool:
    """Whether it is the id of a deployment, ours or an imported one, and not a project's name, which has no `_`."""
    return reference.startswith(("dep_", IMPORTED))


def cause(deployment: dict[str, Any]) -> str:
    """What led to a deployment: `merge #12 by webhook`, `rollback, manual by token laptop`."""
    kind = "rollback, " if deployment.get("is_rollback") else ""
    merged = f" #{deployment['pull_request']}" if deployment.get("pull_request") else ""
    return f"{kind}{one_line(deployment['trigger'], 30)}{merged} by {one_line(deployment['actor'], 30)}"


def certificate(seen: dict[str, Any] | None) -> str:
    """One clause about the switch: how many of the prober's requests failed."""
    if not seen or not seen.get("requests"):
        return ""
    return (
        f"{seen.get('failed', 0)} of {seen['requests']} requests failed during the switch "
        f"(p99 {seen.get('p99_ms', 0):.1f} ms)"
    )


def listing(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns in line, two spaces apart, nothing cut. Knows that Korean letters are two cells wide."""
    from rich.cells import cell_len

    if not rows:
        return []
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
