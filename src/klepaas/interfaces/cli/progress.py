"""What the events of one deployment add up to, for eyes: the stage rail, the last build lines, the end."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from klepaas.interfaces.cli import words

ORDER = ("fetch", "build", "publish", "release", "verify", "promote", "retire")
BUILD_LINES_SHOWN = 6
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "superseded", "rolled_back_automatically"})


@dataclass(frozen=True)
class StageLine:
    """`mark` is one of running, done, failed."""

    name: str
    mark: str
    since: datetime | None = None
    took_s: float | None = None
    note: str = ""


class Progress:
    """Fed with events in order; the same event twice changes nothing."""

    def __init__(self) -> None:
        self.seq = 0
        self.stages: dict[str, StageLine] = {}
        self.build_lines: deque[str] = deque(maxlen=BUILD_LINES_SHOWN)
        self.is_live = False
        self.lost_sight = False
        """The last thing known is that the outcome is not known."""
        self.ended = False

    @property
    def is_building(self) -> bool:
        stage = self.stages.get("build")
        return stage is not None and stage.mark == "running" and not self.ended

    def feed(self, event: Mapping[str, Any]) -> list[str]:
        """Take one event in; return what is worth saying about it where nothing can be redrawn."""
        if event["seq"] <= self.seq:
            return []
        self.seq = event["seq"]
        self.lost_sight = event["kind"] == "deployment.outcome_unknown"
        return self._take(event["kind"], event)

    def _take(self, kind: str, event: Mapping[str, Any]) -> list[str]:
        match kind:
            case "stage.started":
                return self._begin(event["stage"], words.parse_time(event.get("at")))
            case "stage.finished":
                return self._finish(event["stage"], event.get("took_s"), event.get("detail", ""))
            case "stage.retry_scheduled":
                note = f"attempt {event['attempt']} failed, again in {words.duration(event['wait_s'])}"
                note += f": {words.one_line(event.get('message'))}"
                self._note(event["stage"], note)
                return [f"{event['stage']}: {note}"]
            case "stage.failed":
                return self._fail(event["stage"], words.one_line(event.get("message"), 200))
            case "release.command_finished":
                return [f"release command done in {words.duration(event['took_s'])}"]
            case "traffic.shifted":
                self.is_live = True
                return [f"live: {_proof(event.get('evidence') or {})}"]
            case "traffic.returned":
                self.is_live = False
                return [f"traffic goes back to the previous release: {words.one_line(event.get('reason'), 200)}"]
            case "deployment.cancellation_requested":
                return ["cancellation requested"]
            case "deployment.claimed" if self.stages:
                return ["taken over by another process; it goes on"]
            case _:
                self.ended = self.ended or kind.removeprefix("deployment.") in TERMINAL
                return []

    def _begin(self, stage: str, at: datetime | None) -> list[str]:
        known = self.stages.get(stage)
        self.stages[stage] = StageLine(stage, "running", known.since if known else at)
        return [] if known else [f"{stage} …"]

    def _finish(self, stage: str, took_s: float | None, detail: str) -> list[str]:
        self.stages[stage] = StageLine(stage, "done", took_s=took_s, note=words.one_line(detail))
        return [f"{stage} done in {words.duration(took_s)}" + (f" ({words.one_line(detail)})" if detail else "")]

    def _fail(self, stage: str, message: str) -> list[str]:
        known = self.stages.get(stage, StageLine(stage, "running"))
        self.stages[stage] = replace(known, mark="failed", note=words.one_line(message))
        return [f"{stage} failed: {message}"]

    def _note(self, stage: str, note: str) -> None:
        self.stages[stage] = replace(self.stages.get(stage, StageLine(stage, "running")), note=note)

    def in_order(self) -> list[StageLine]:
        known = [name for name in ORDER if name in self.stages]
        return [self.stages[name] for name in [*known, *(name for name in self.stages if name not in ORDER)]]


def _proof(evidence: Mapping[str, Any]) -> str:
    """A place that moves its traffic itself says what it saw; where klepaas moved it, it asked."""
    seen = words.one_line(evidence.get("detail"), 200) if "health" in evidence else ""
    return seen or "the new version answers"
