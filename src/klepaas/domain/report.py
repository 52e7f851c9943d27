"""What GitHub should show of a deployment, worked out of the record alone. Pure.

A commit status and the comment on a pull request speak of a commit, and several deployments may be about one (a
rollback is another deployment of an earlier commit): `speaker` says which of them the commit's status follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from klepaas.domain.deployment import Deployment
from klepaas.domain.github import DeploymentState, StatusState
from klepaas.domain.status import Status

MAX_DESCRIPTION = 140
"""Characters GitHub keeps of a description."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    status: StatusState
    state: DeploymentState
    description: str
    environment_url: str | None
    """Where the app answers; only while this deployment is what answers there."""


def shown(deployment: Deployment, live: Deployment | None) -> Shown:
    """`live`: the deployment of the same app that is live now."""
    status, state, text = _words(deployment, live)
    is_serving = state is DeploymentState.SUCCESS
    return Shown(
        status=status,
        state=state,
        description=shortened(text),
        environment_url=address_of(deployment.urls) if is_serving else None,
    )


def speaker(together: Sequence[Deployment], live: Deployment | None) -> Deployment:
    """Of the deployments of one commit in one app: the one under way, else the live one, else the newest."""
    newest_first = sorted(together, key=lambda each: -each.number)
    for each in newest_first:
        if not each.status.is_terminal:
            return each
    return next((each for each in newest_first if live is not None and each.id == live.id), newest_first[0])


def comment(deployment: Deployment, live: Deployment | None, *, project_name: str, marker: str) -> str:
    """For the merged pull request. What others wrote stands as code, where it can mention nobody and link nowhere."""
    now = shown(deployment, live)
    title = f"**{project_name}** in {deployment.environment}: {_TITLES[now.state]}"
    if now.environment_url is not None:
        title += f" at {now.environment_url}"
    commit = f"`{(deployment.commit_sha or '')[:7]}`"
    lines = [marker, title, "", f"{commit}: {_code(now.description)} Deployment `{deployment.id}`."]
    return "\n".join(lines)


def address_of(urls: Sequence[str]) -> str | None:
    """The address to show others: one that is not only on the machine itself, when there is one."""
    web = [url for url in urls if urlsplit(url).scheme in {"http", "https"}]
    public = [url for url in web if urlsplit(url).hostname not in {"127.0.0.1", "::1", "localhost"}]
    return next(iter([*public, *web]), None)


def shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_DESCRIPTION else line[: MAX_DESCRIPTION - 1].rstrip() + "…"


_TITLES = {
    DeploymentState.QUEUED: "waiting for its turn",
    DeploymentState.IN_PROGRESS: "being deployed",
    DeploymentState.SUCCESS: "live",
    DeploymentState.FAILURE: "not deployed",
    DeploymentState.ERROR: "not known to be live",
    DeploymentState.INACTIVE: "not running any more",
}


def _words(deployment: Deployment, live: Deployment | None) -> tuple[StatusState, DeploymentState, str]:
    place, failure = deployment.environment, deployment.failure
    reason = failure.message if failure is not None else ""
    match deployment.status:
        case Status.QUEUED:
            return StatusState.PENDING, DeploymentState.QUEUED, f"Waiting for its turn in {place}."
        case Status.RUNNING:
            return StatusState.PENDING, DeploymentState.IN_PROGRESS, f"Being deployed to {place}."
        case Status.UNKNOWN:
            text = f"Not known yet whether it is live in {place}. {reason}"
            return StatusState.ERROR, DeploymentState.ERROR, text
        case Status.SUCCEEDED if live is not None and live.id == deployment.id:
            return StatusState.SUCCESS, DeploymentState.SUCCESS, f"Live in {place}."
        case Status.SUCCEEDED:
            return StatusState.SUCCESS, DeploymentState.INACTIVE, _afterwards(deployment, live)
        case Status.ROLLED_BACK:
            return StatusState.FAILURE, DeploymentState.FAILURE, f"Taken back at once: {reason}"
        case Status.CANCELLED:
            by = f" by {deployment.cancelled_by}" if deployment.cancelled_by else ""
            return StatusState.ERROR, DeploymentState.INACTIVE, f"Cancelled{by}; it was not live in {place}."
        case Status.SUPERSEDED:
            text = f"Not deployed to {place}: a newer commit came before its turn."
            return StatusState.ERROR, DeploymentState.INACTIVE, text
        case Status.FAILED:
            at = f"{failure.stage}: " if failure is not None else ""
            return StatusState.FAILURE, DeploymentState.FAILURE, f"{at}{reason}"


def _afterwards(deployment: Deployment, live: Deployment | None) -> str:
    place = deployment.environment
    if live is None:
        return f"Was deployed to {place}; nothing of it runs there any more."
    commit = (live.commit_sha or "")[:7]
    if live.is_rollback:
        return f"Was deployed to {place} and taken back: {commit} runs there again."
    return f"Was deployed to {place}; {commit} runs there now."


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"
