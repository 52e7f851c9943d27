"""The sentences of the older service, to the letter: its clients and scripts compare them."""

from klepaas.errors import Conflict, KlepaasError, NotFound
from klepaas.interfaces.api.errors import STATUSES
from klepaas.operations.readiness import ImageSeen, Missing, Readiness

ISSUES = {
    Missing.PROJECT: "No project integration found. Set up the project first.",
    Missing.BUILD_PROJECT: "Build project ID not configured.",
    Missing.DEPLOY_PROJECT: "Deploy project ID not configured.",
    Missing.MIRROR: "SourceCommit repository not configured.",
    Missing.HISTORY: "No deployment history found. Deploy the application first.",
}
_NOT_SET_UP = {
    Missing.BUILD_PROJECT: "Build project ID not configured for {name}. Please complete project setup.",
    Missing.DEPLOY_PROJECT: "Deploy project ID not configured for {name}. Please complete project setup.",
    Missing.MIRROR: "SourceCommit repository not configured for {name}. Please complete project setup.",
}


class NotSetUp(Conflict):
    """The project lacks something at its provider."""

    code = "not_set_up"


STATUSES[NotSetUp] = 400


def no_project(owner: str, repo: str) -> NotFound:
    return NotFound(
        f"No project integration found for {owner}/{repo}. Please set up the project first using the deployment API.",
        hint="Register it: POST /api/v1/projects/integrations",
    )


def refusal(found: Readiness, owner: str, repo: str) -> KlepaasError:
    """The first thing that is missing, as an error."""
    match found.missing[0]:
        case Missing.PROJECT:
            return no_project(owner, repo)
        case Missing.HISTORY:
            return NotFound(
                f"No deployment history found for {owner}/{repo}. "
                "Deploy the application first before attempting rollback.",
                hint="No deployment has succeeded yet; failed ones do not count.",
                evidence={"failed_attempts": found.failed},
            )
        case what:
            return NotSetUp(
                _NOT_SET_UP[what].format(name=f"{owner}/{repo}"), hint="Make it: POST /api/v1/ncp/pipeline/create"
            )


def image_warning(seen: ImageSeen, *, is_in_registry: bool) -> str | None:
    """About the image of the latest deployment. What we may not see is not called missing."""
    if seen.is_there:
        return None
    if not is_in_registry:
        return "Latest deployment image not found. Rollback will trigger rebuild."
    if seen.is_there is None:
        code = f"HTTP {seen.code}" if seen.code is not None else "no answer"
        return f"Latest deployment image could not be checked in NCR ({code}). Whether it is there is not known."
    return f"Latest deployment image not found in NCR (HTTP {seen.code}). Rollback will trigger rebuild."


def rebuild_warning(commit_sha: str, *, is_in_registry: bool) -> str:
    where = "not found in NCR (HTTP 404)" if is_in_registry else "not found"
    return f"Image of commit {commit_sha[:7]} {where}. Rollback will trigger rebuild."
