"""Comments on pull requests. Source: OpenAPI schema `issue-comment`."""

from dataclasses import dataclass
from datetime import datetime

from klepaas.testing.github.shapes import Account, Json, Links, node_id, user, when


@dataclass
class Comment:
    id: int
    number: int
    """Of the pull request."""
    body: str
    author: Account
    created_at: datetime
    updated_at: datetime
    edits: int = 0

    def json(self, repository_api: str, repository_web: str, links: Links) -> Json:
        api = f"{repository_api}/issues/comments/{self.id}"
        return {
            "url": api,
            "html_url": f"{repository_web}/pull/{self.number}#issuecomment-{self.id}",
            "issue_url": f"{repository_api}/issues/{self.number}",
            "id": self.id,
            "node_id": node_id("IssueComment", self.id),
            "user": user(self.author, links),
            "created_at": when(self.created_at),
            "updated_at": when(self.updated_at),
            "author_association": "NONE" if self.author.kind == "Bot" else "MEMBER",
            "body": self.body,
            "performed_via_github_app": None,
            "reactions": {
                "url": f"{api}/reactions",
                **dict.fromkeys(
                    ("total_count", "+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"), 0
                ),
            },
        }
