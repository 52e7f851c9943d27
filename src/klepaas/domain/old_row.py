"""A row of an older system's `deployment_histories`, read without believing it.

Its `created_at`, `started_at`, `deployed_at` and `completed_at` are Korean local times, written down without a zone
(`get_kst_now`); `updated_at` is UTC. A time that names its zone is taken as it stands. The text stays in `original`."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

from klepaas.errors import Invalid

KOREA = timezone(timedelta(hours=9), "KST")
REQUIRED = ("id", "github_owner", "github_repo", "github_commit_sha", "status", "created_at")
"""Columns without which a table is no history of deployments."""
TIMES = ("created_at", "started_at", "deployed_at", "completed_at")
_TIME = re.compile(
    r"(?P<moment>\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)\s?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)


class OldStatus(StrEnum):
    """What its word meant there; whether it was true is another question."""

    OPEN = "open"
    SUCCESS = "success"
    FAILED = "failed"
    UNREADABLE = "unreadable"


_WORDS = {
    **dict.fromkeys(("pending", "queued", "running", "inprogress", "started"), OldStatus.OPEN),
    **dict.fromkeys(("success", "succeeded", "complete", "completed"), OldStatus.SUCCESS),
    **dict.fromkeys(("fail", "failed", "error", "cancelled", "canceled"), OldStatus.FAILED),
}


@dataclass(frozen=True, kw_only=True)
class OldRow:
    """`original` is the row as it stood there. Times are aware UTC; one that is missing or unreadable is None."""

    old_id: str
    owner: str
    repo: str
    commit_sha: str
    commit_message: str
    environment: str | None
    status: OldStatus
    stage_status: OldStatus | None
    """Of `sourcedeploy_status`; None where it says nothing."""
    image_name: str | None
    is_rollback: bool
    rollback_from: str | None
    created_at: datetime | None
    started_at: datetime | None
    deployed_at: datetime | None
    completed_at: datetime | None
    total_duration_s: float | None
    error_message: str | None
    unreadable: tuple[str, ...]
    """Names of the time columns that hold something else."""
    original: Mapping[str, Any]

    @property
    def repository(self) -> str:
        """For comparing: GitHub does not tell upper from lower case."""
        return f"{self.owner}/{self.repo}".lower()

    @property
    def began_at(self) -> datetime | None:
        return self.started_at or self.created_at

    @property
    def key(self) -> str:
        """The same for one row in every copy of its database, whatever became of its status later."""
        created = self.created_at.isoformat() if self.created_at else str(self.original.get("created_at"))
        named = [self.repository, self.old_id, self.commit_sha, created]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def read_row(original: Mapping[str, Any]) -> OldRow:
    """Errors: Invalid for a row that cannot be told from others or is of no repository."""
    old_id, owner, repo = (_text(original.get(name)) for name in ("id", "github_owner", "github_repo"))
    if not old_id or len(old_id) > 80:
        raise Invalid(
            "A row has no id by which it could be told from others.", evidence={"repository": f"{owner}/{repo}"}
        )
    if not owner or not repo or len(owner) > 255 or len(repo) > 255:
        raise Invalid(f"Row {old_id} names no repository.", evidence={"old_id": old_id})
    times = {name: read_time(original.get(name)) for name in TIMES}
    said = _text(original.get("sourcedeploy_status"))
    return OldRow(
        old_id=old_id,
        owner=owner,
        repo=repo,
        commit_sha=_text(original.get("github_commit_sha")).lower()[:255],
        commit_message=_text(original.get("github_commit_message")),
        environment=_text(original.get("environment"))[:255] or None,
        status=_status(_text(original.get("status"))),
        stage_status=_status(said) if said else None,
        image_name=_text(original.get("image_name"))[:500] or None,
        is_rollback=_text(original.get("is_rollback")).lower() in {"1", "true", "t"},
        rollback_from=_text(original.get("rollback_from_id"))[:80] or None,
        **times,
        total_duration_s=_number(original.get("total_duration")),
        error_message=_text(original.get("error_message")) or None,
        unreadable=tuple(name for name, time in times.items() if time is None and _text(original.get(name))),
        original=original,
    )


def read_time(value: Any, zone: timezone = KOREA) -> datetime | None:
    """A time as its column holds it; None when there is none or it cannot be read."""
    found = _TIME.fullmatch(_text(value))
    if found is None:
        return None
    moment, named = found["moment"].replace(" ", "T").upper(), (found["zone"] or "").upper()
    head, dot, fraction = moment.partition(".")
    try:
        time = datetime.fromisoformat(f"{head}.{fraction[:6].ljust(6, '0')}" if dot else head)
        offset = _offset(named) if named else zone
        return time.replace(tzinfo=offset).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def names_its_zone(value: Any) -> bool:
    found = _TIME.fullmatch(_text(value))
    return found is not None and found["zone"] is not None


def _offset(named: str) -> timezone:
    if named == "Z":
        return UTC
    hours, minutes = int(named[1:3]), int(named[3:].replace(":", "") or 0)
    distance = timedelta(hours=hours, minutes=minutes)
    return timezone(-distance if named[0] == "-" else distance)


def _status(word: str) -> OldStatus:
    return _WORDS.get(word.lower(), OldStatus.UNREADABLE)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
