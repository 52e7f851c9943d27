"""Events, as they are listed and streamed."""

from typing import Any

from pydantic import ConfigDict

from klepaas.domain.events import Recorded
from klepaas.interfaces.api.v1.answers.answer import Answer


class EventPage(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "seq": 3,
                            "at": "2026-01-05T09:00:00.020000Z",
                            "kind": "stage.started",
                            "stage": "fetch",
                            "fence": 1,
                        }
                    ],
                    "next_after": 3,
                }
            ]
        }
    )
    events: list[dict[str, Any]]
    """`seq`, `at`, `kind` and the fields of that kind."""
    next_after: int
    """Give it as `after` to read on."""


def event_fields(recorded: Recorded) -> dict[str, Any]:
    """An event as it is listed and streamed: its place, its time, its kind and its own fields."""
    return {"seq": recorded.seq, "at": recorded.at, "kind": recorded.event.kind, **recorded.event.data()}
