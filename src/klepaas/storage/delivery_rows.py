"""What is written of deliveries, many at once, whichever database it goes to.

They come by the hundred a second. SQLAlchemy's way to the driver would take several times as long as the writing
itself, so the rows go there as they are: the statements are text, and the values what the driver takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from klepaas.storage.repositories import RepositoryAsOf

Row = Mapping[str, Any]
Answers = Mapping[str, Mapping[str, Any] | None]
"""What was answered to deliveries that were there before, by id; None while it is not decided."""

DELIVERY = ("id", "event", "headers", "body", "repository", "received_at", "decided_at", "answer")
DECISION = ("delivery_id", "project_id", "environment", "outcome", "reason", "deployment_id", "decided_at")
AGAIN = "ON CONFLICT (delivery_id, project_id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in DECISION[2:]
)
"""What a delivery means is what it means now."""


@dataclass(frozen=True)
class Arrival:
    """A row with the names of `DELIVERY`, and what it means with those of `DECISION`."""

    row: Row
    decisions: Sequence[Row]
    as_of: RepositoryAsOf | None
    """What it means holds only while this is so."""


@dataclass(frozen=True)
class Decided:
    """A row with `id`, `answer` and `decided_at`, and what it means."""

    row: Row
    decisions: Sequence[Row]


class DeliveryRows(Protocol):
    async def write(self, arrivals: Sequence[Arrival], decided: Sequence[Decided]) -> Answers:
        """Insert those that are new, with what they mean; write down what was decided of others.

        One that is not new changes nothing. One whose meaning does not hold any more is stored undecided, and told as
        if it had been there before."""
