"""The memory of what builds wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """`position` is opaque, rises within the log and resumes reading right after the line."""

    position: str
    at: datetime | None
    text: str


class BuildLogs(Protocol):
    """The full build logs, on disk, one file per attempt."""

    def writer(self, deployment_id: str, fence: int) -> "BuildLogWriter": ...

    async def page(self, deployment_id: str, *, after: str | None, limit: int) -> Sequence[LogLine]: ...

    async def tail(self, deployment_id: str, lines: int) -> Sequence[LogLine]: ...


class BuildLogWriter(Protocol):
    async def write(self, line: str) -> None: ...

    async def close(self) -> None: ...
