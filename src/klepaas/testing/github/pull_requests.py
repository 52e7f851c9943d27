"""Pull requests. Source: OpenAPI schemas `pull-request-simple` (in lists) and `pull-request` (one)."""

from dataclasses import dataclass
from datetime import datetime

from klepaas.testing.github.shapes import Account, Json, Links, node_id, user, when


@dataclass
class PullRequest:
    """`head_sha` follows the head branch while it is open, `base_sha` is where the base was at its opening or merge.
    `commits` are those it brings; a rebase adds what they became."""

    id: int
    number: int
    title: str
    body: str | None
    author: Account
    head: str
    head_sha: str
    base: str
    base_sha: str
    created_at: datetime
    updated_at: datetime
    state: str = "open"
    draft: bool = False
    merged_at: datetime | None = None
    closed_at: datetime | None = None
    merged_by: Account | None = None
    merge_commit_sha: str | None = None
    commits: tuple[str, ...] = ()
    landed: tuple[str, ...] = ()
    """The commits on the base branch that its merge made."""

    def holds(self, sha: str) -> bool:
        """Whether GitHub counts this commit as belonging to it."""
        return (
            sha in self.commits or sha in self.landed or (self.merged_at is not None and sha == self.merge_commit_sha)
        )

    def json(self, repository: Json, owner: Account, links: Links, *, whole: bool, comments: int = 0) -> Json:
        """`whole` adds what only the answer for one pull request has."""
        api, web = f"{repository['url']}/pulls/{self.number}", f"{repository['html_url']}/pull/{self.number}"
        issue = f"{repository['url']}/issues/{self.number}"
        hrefs = {
            "self": api,
            "html": web,
            "issue": issue,
            "comments": f"{issue}/comments",
            "review_comments": f"{api}/comments",
            "review_comment": f"{repository['url']}/pulls/comments{{/number}}",
            "commits": f"{api}/commits",
            "statuses": f"{repository['url']}/statuses/{self.head_sha}",
        }
        return {
            "url": api,
            "id": self.id,
            "node_id": node_id("PullRequest", self.id),
            "html_url": web,
            "diff_url": f"{web}.diff",
            "patch_url": f"{web}.patch",
            "issue_url": issue,
            **{f"{name}_url": hrefs[name] for name in ("commits", "review_comments", "review_comment")},
            **{f"{name}_url": hrefs[name] for name in ("comments", "statuses")},
            "number": self.number,
            "state": self.state,
            "locked": False,
            "title": self.title,
            "user": user(self.author, links),
            "body": self.body,
            "created_at": when(self.created_at),
            "updated_at": when(self.updated_at),
            "closed_at": when(self.closed_at),
            "merged_at": when(self.merged_at),
            "merge_commit_sha": self.merge_commit_sha,
            "assignee": None,
            "assignees": [],
            "requested_reviewers": [],
            "requested_teams": [],
            "labels": [],
            "milestone": None,
            "draft": self.draft,
            "head": self._side(self.head, self.head_sha, repository, owner, links),
            "base": self._side(self.base, self.base_sha, repository, owner, links),
            "_links": {name: {"href": href} for name, href in hrefs.items()},
            "author_association": "MEMBER",
            "auto_merge": None,
            "active_lock_reason": None,
            **(self._rest(links, comments) if whole else {}),
        }

    def _side(self, branch: str, sha: str, repository: Json, owner: Account, links: Links) -> Json:
        return {
            "label": f"{owner.login}:{branch}",
            "ref": branch,
            "sha": sha,
            "user": user(owner, links),
            "repo": repository,
        }

    def _rest(self, links: Links, comments: int) -> Json:
        is_open = self.state == "open"
        return {
            "merged": self.merged_at is not None,
            "mergeable": True if is_open else None,
            "rebaseable": True if is_open else None,
            "mergeable_state": "clean" if is_open else "unknown",
            "merged_by": user(self.merged_by, links) if self.merged_by else None,
            "comments": comments,
            "review_comments": 0,
            "maintainer_can_modify": False,
            "commits": len(self.commits),
            "additions": 0,
            "deletions": 0,
            "changed_files": 0,
        }
