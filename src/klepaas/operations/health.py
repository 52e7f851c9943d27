"""How this process itself stands; `wiring` knows the parts and builds the report, every door shows it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class HealthReport:
    """What this process last saw of the parts it needs. Built from memory: asking must cost next to nothing.

    `engine` speaks of the container engine: without it nothing new is deployed, yet everything can be read."""

    database: Literal["ok", "unavailable"]
    engine: Literal["ok", "unavailable", "unknown"] = "unknown"

    @property
    def status(self) -> Literal["ok", "degraded"]:
        return "ok" if self.database == "ok" and self.engine == "ok" else "degraded"
