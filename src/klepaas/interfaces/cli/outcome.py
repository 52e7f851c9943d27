"""How a deployment ended, in words and as an exit code."""

from collections.abc import Sequence
from typing import Any

from klepaas.interfaces.cli import complaint, words
from klepaas.interfaces.cli.exit_codes import BY_STATUS, ExitCode
from klepaas.interfaces.cli.screen import Screen

LAST_LINES_SHOWN = 20


def report(screen: Screen, deployment: dict[str, Any]) -> ExitCode:
    """Say how it stands: the URLs are data, the rest is talk; a failure takes the three lines of an error."""
    match deployment["status"]:
        case "succeeded":
            _tell_success(screen, deployment)
        case "failed" | "rolled_back_automatically":
            _tell_failure(screen, deployment)
        case "cancelled":
            by = deployment.get("cancelled_by") or "klepaas"
            screen.say(f"{name(deployment)} was cancelled by {by}.", style="yellow")
        case "superseded":
            newer = deployment.get("superseded_by") or "a newer one"
            screen.say(f"{name(deployment)} was superseded by {newer}, which is deployed instead.", style="yellow")
        case "unknown":
            _tell_unknown(screen, deployment)
        case status:
            screen.say(f"{name(deployment)} is {status}.")
    return code_of(deployment)


def code_of(deployment: dict[str, Any]) -> ExitCode:
    """A deployment under way has not failed: 0."""
    return BY_STATUS.get(deployment["status"], ExitCode.LIVE)


def name(deployment: dict[str, Any]) -> str:
    kind = "Rollback" if deployment.get("is_rollback") else "Deployment"
    return f"{kind} #{deployment['number']} of {deployment['project']['name']}"


def heading(deployment: dict[str, Any]) -> str:
    """One line that says which deployment this is."""
    what = f"{name(deployment)} to {deployment['environment']} ({deployment['id']})"
    asked = words.commit(deployment.get("commit_sha")) if deployment.get("commit_sha") else deployment.get("branch", "")
    return f"{what}: {asked}"


def _tell_success(screen: Screen, deployment: dict[str, Any]) -> None:
    live_after = _between(deployment, "started_at", "live_at")
    message = words.one_line(deployment.get("commit_message"), 60)
    commit = words.commit(deployment.get("commit_sha")) + (f" “{message}”" if message else "")
    screen.say(f"{name(deployment)} is live after {words.duration(live_after)}.", style="bold green")
    screen.say(f"{commit} · {words.digest(deployment.get('image_digest'))}")
    if certificate := words.certificate((deployment.get("evidence") or {}).get("certificate")):
        screen.say(certificate)
    for url in deployment.get("urls") or ():
        screen.line(url)


def _tell_failure(screen: Screen, deployment: dict[str, Any]) -> None:
    failure = deployment.get("failure") or {}
    evidence = dict(failure.get("evidence") or {})
    lines = evidence.pop("last_lines", None)
    if isinstance(lines, Sequence) and not isinstance(lines, str) and lines:
        for line in lines[-LAST_LINES_SHOWN:]:
            screen.say(f"  | {line}", style="dim")
    returned = deployment["status"] == "rolled_back_automatically"
    after = " The previous version was brought back and serves." if returned else ""
    happened = f"{name(deployment)} failed in {failure.get('stage') or 'its beginning'}: {failure.get('message', '')}"
    complaint.three_lines(
        screen,
        happened + after,
        complaint.why(failure.get("code") or "failed", _told(evidence)),
        failure.get("hint") or f"Read the log: klepaas logs {deployment['id']}",
        deployment["id"],
    )


def _told(evidence: dict[str, Any]) -> dict[str, Any]:
    """What fits into one line; the whole is in `klepaas status DEPLOYMENT --json`."""
    return {key: value for key, value in evidence.items() if isinstance(value, str | int | float)}


def _tell_unknown(screen: Screen, deployment: dict[str, Any]) -> None:
    failure = deployment.get("failure") or {}
    complaint.three_lines(
        screen,
        f"The outcome of {name(deployment).lower()} is not known: {failure.get('message', '')}",
        complaint.why(failure.get("code") or "unknown", {}),
        f"klepaas keeps looking and records what it finds: klepaas status {deployment['id']} --watch",
        deployment["id"],
    )


def _between(deployment: dict[str, Any], start: str, end: str) -> float | None:
    began, ended = words.parse_time(deployment.get(start)), words.parse_time(deployment.get(end))
    return (ended - began).total_seconds() if began and ended else None
