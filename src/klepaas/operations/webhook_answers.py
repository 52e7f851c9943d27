"""What GitHub is answered: the words and shapes clients of the older systems read."""

from collections.abc import Sequence
from typing import Any

from klepaas.domain.github import ZERO_SHA, PublishedRelease, Push
from klepaas.domain.verdict import Outcome, Verdict

RELEASES_GO_TO = "production"


def ignored(reason: str) -> dict[str, Any]:
    return {"status": "ignored", "reason": reason}


def accepted(delivery_id: str) -> dict[str, Any]:
    """It is stored, and what it means is still being found out."""
    return {"status": "accepted", "delivery_id": delivery_id}


def leading(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The one an answer is about when one of them led to a deployment; new ones go before repeated ones."""
    led = [each for each in verdicts if each.deployment_id is not None]
    return min(led, key=lambda each: each.outcome is not Outcome.DEPLOYED, default=None)


def decided(told: Push | PublishedRelease, verdicts: Sequence[Verdict], pipeline_id: str | None) -> dict[str, Any]:
    """One answer for all projects of the repository. `pipeline_id` is that of the leading verdict's project."""
    if not verdicts:
        return {**ignored("integration_not_found"), "repository": told.repository.full_name}
    first = leading(verdicts)
    answer = _of_none(told, verdicts[0]) if first is None else _of_deployments(told, first, verdicts, pipeline_id)
    return {**answer, "environment": RELEASES_GO_TO} if isinstance(told, PublishedRelease) else answer


def _of_deployments(
    told: Push | PublishedRelease, first: Verdict, verdicts: Sequence[Verdict], pipeline_id: str | None
) -> dict[str, Any]:
    all_of_them = {"deployments": [_deployment(told, each) for each in verdicts if each.deployment_id is not None]}
    if pipeline_id is None:
        return {"status": "triggered", "deploy": _deployment(told, first), **all_of_them}
    return {
        "status": "pipeline_triggered",
        "mode": "sourcepipeline",
        "pipeline_id": pipeline_id,
        "history_id": first.deployment_number,
        "repository": told.repository.name,
        "commit": _commit(told),
        **all_of_them,
    }


def _deployment(told: Push | PublishedRelease, verdict: Verdict) -> dict[str, Any]:
    return {
        "deployment_id": verdict.deployment_id,
        "deploy_history_id": verdict.deployment_number,
        "project_id": verdict.project_id,
        "environment": verdict.environment,
        "repository": told.repository.name,
        "commit": _commit(told),
        "repeated": verdict.outcome is Outcome.REPEATED,
    }


def _of_none(told: Push | PublishedRelease, verdict: Verdict) -> dict[str, Any]:
    match verdict.outcome:
        case Outcome.SKIPPED:
            return {"status": "skipped", "reason": verdict.reason}
        case Outcome.WAITING:
            return {"status": "waiting", "reason": verdict.reason}
    if verdict.reason == "not main branch" and isinstance(told, Push):
        # Of what is no branch (a tag), the whole ref: its last part alone could be a branch's name.
        return {**ignored(verdict.reason), "branch": told.ref if told.branch is None else told.branch}
    return ignored(verdict.reason)


def _commit(told: Push | PublishedRelease) -> str:
    """As clients show it."""
    if isinstance(told, PublishedRelease):
        return told.tag
    return "latest" if told.after == ZERO_SHA else told.after[:7]
