"""Lines that builds and apps wrote, as callers get them."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import ConfigDict

from klepaas.interfaces.api.v1.answers.answer import Answer
from klepaas.operations.ports.build_logs import LogLine


class LogLineAnswer(Answer):
    position: str
    """Opaque; give it as `after` to read on right behind this line."""
    at: datetime | None
    text: str

    @classmethod
    def of(cls, line: LogLine) -> "LogLineAnswer":
        return cls(position=line.position, at=line.at, text=line.text)


class LogPage(Answer):
    lines: list[LogLineAnswer]
    next_after: str | None

    @classmethod
    def of(cls, lines: Sequence[LogLine], after: str | None) -> "LogPage":
        return cls(lines=[LogLineAnswer.of(line) for line in lines], next_after=lines[-1].position if lines else after)


class RuntimeLog(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [{"lines": ["listening on :8080", "GET / 200"]}]})
    lines: list[str]
