"""What a project's rule says of a push or a published release, as far as nobody has to be asked. Pure."""

import re
from collections.abc import Mapping, Sequence

from klepaas.domain.github import ZERO_SHA, PublishedRelease, PullRequest, Push
from klepaas.domain.project import Project
from klepaas.domain.verdict import Outcome, Verdict

NOT_MAIN_BRANCH = "not main branch"
NOT_A_MERGE = "not a PR merge commit"
AUTO_DEPLOY_OFF = "auto_deploy_disabled"
SKIP_ASKED = "skip_deploy_requested"
NO_PATH_CHANGED = "no_watched_path_changed"
HELD = "held_after_rollback"
CHECKS_FAILED = "checks_failed"
RELEASES_OFF = "releases_do_not_deploy"
DRAFT = "draft_release"
PRERELEASE = "prerelease"

RELEASE_ENVIRONMENT = "production"

_SKIP = re.compile(r"\[(?:skip[ -]deploy|deploy[ -]skip)\]", re.IGNORECASE)
_WEB_FLOW = "web-flow"
"""The name GitHub commits by when somebody merges on its pages."""


def is_about(project: Project, push: Push) -> bool:
    """Whether the push put a commit on the project's branch."""
    return push.branch == project.branch and not push.deleted and push.after not in {"", ZERO_SHA}


def asks_for_no_deployment(message: str) -> bool:
    return _SKIP.search(message) is not None


def sounds_merged(push: Push) -> bool:
    """The phrase rule: what a merged pull request usually looks like, for when GitHub cannot be asked."""
    return "merge pull request" in push.message.lower() or push.pusher == _WEB_FLOW


def merged_into(branch: str, pull_requests: Sequence[PullRequest]) -> PullRequest | None:
    """The pull request by which the commit came to this branch; the latest when there are several."""
    merged = [each for each in pull_requests if each.merged_at is not None and each.base_branch == branch]
    return max(merged, key=lambda each: each.number, default=None)


def refused_release(project: Project, release: PublishedRelease) -> tuple[Outcome, str] | None:
    """Why a published release does not deploy the project; None when it does."""
    if release.draft:
        return Outcome.IGNORED, DRAFT
    if release.prerelease:
        return Outcome.IGNORED, PRERELEASE
    if not project.rules.releases:
        return Outcome.IGNORED, RELEASES_OFF
    if not project.auto_deploy:
        return Outcome.SKIPPED, AUTO_DEPLOY_OFF
    return None


def verdict(project: Project, environment: str, outcome: Outcome, reason: str) -> Verdict:
    return Verdict(project_id=project.id, environment=environment, outcome=outcome, reason=reason)


def happened_before(earlier: str, later: str, moves: Mapping[str, set[str]]) -> bool:
    """Whether the branch went from one commit to the other. `moves`: from which commits the branch came to each."""
    seen, open_ends = {later}, [later]
    while open_ends:
        for before in moves.get(open_ends.pop(), set()):
            if before == earlier:
                return True
            if before not in seen:
                seen.add(before)
                open_ends.append(before)
    return False
