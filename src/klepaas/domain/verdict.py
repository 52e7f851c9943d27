"""What a push or a published release meant for one project: deployed or not, and why."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    DEPLOYED = "deployed"
    REPEATED = "repeated"
    """An earlier delivery or look led to the deployment that is named."""
    WAITING = "waiting"
    """For the commit's checks; decided again when they end."""
    IGNORED = "ignored"
    """The project's rule says no."""
    SKIPPED = "skipped"
    """Automatic deployment is off, or the message asks for none."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    project_id: str
    environment: str
    outcome: Outcome
    reason: str
    """Stable words for `ignored` and `skipped` (`not main branch`, `auto_deploy_disabled`, …), else a sentence."""
    deployment_id: str | None = None
    deployment_number: int | None = None
    """The integer old clients call `history_id`."""
