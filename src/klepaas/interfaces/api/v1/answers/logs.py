"""Lines that builds and apps wrote, as callers get them."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import ConfigDict

from klepaas.interfaces.api.v1.answers.answer import Answer, example_of
from klepaas.operations.ports.build_logs import LogLine


class LogLineAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "position": "000000001.000000000000053",
                    "at": "2026-01-05T09:00:01.200000Z",
                    "text": "#5 [1/3] FROM python:3.12",
                }
            ]
        }
    )
    position: str
    """Opaque; give it as `after` to read on right behind this line."""
    at: datetime | None
    text: str

    @classmethod
    def of(cls, line: LogLine) -> "LogLineAnswer":
        return cls(position=line.position, at=line.at, text=line.text)


class LogPage(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"lines": [example_of(LogLineAnswer)], "next_after": example_of(LogLineAnswer)["position"]}]
        }
    )
    lines: list[LogLineAnswer]
    next_after: str | None

    @classmethod
    def of(cls, lines: Sequence[LogLine], after: str | None) -> "LogPage":
        return cls(lines=[LogLineAnswer.of(line) for line in lines], next_after=lines[-1].position if lines else after)


class RuntimeLog(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [{"lines": ["listening on :8080", "GET / 200"]}]})
    lines: list[str]
