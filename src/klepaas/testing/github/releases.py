"""Releases: tags with notes. Source: OpenAPI schema `release` and the payload of the event `release`."""

from dataclasses import dataclass
from datetime import datetime

from klepaas.testing.github.shapes import Account, Json, Links, node_id, user, when


@dataclass
class Release:
    id: int
    tag: str
    target: str
    """The branch or SHA at which the tag is made when it does not exist."""
    name: str | None
    body: str | None
    draft: bool
    prerelease: bool
    author: Account
    created_at: datetime
    published_at: datetime | None

    def json(self, repository_api: str, repository_web: str, links: Links) -> Json:
        api = f"{repository_api}/releases/{self.id}"
        uploads = api.replace("/repos/", "/uploads/repos/", 1)
        return {
            "url": api,
            "assets_url": f"{api}/assets",
            "upload_url": f"{uploads}/assets{{?name,label}}",
            "html_url": f"{repository_web}/releases/tag/{self.tag}",
            "id": self.id,
            "author": user(self.author, links),
            "node_id": node_id("Release", self.id),
            "tag_name": self.tag,
            "target_commitish": self.target,
            "name": self.name,
            "draft": self.draft,
            "immutable": False,
            "prerelease": self.prerelease,
            "created_at": when(self.created_at),
            "updated_at": when(self.published_at or self.created_at),
            "published_at": when(self.published_at),
            "assets": [],
            "tarball_url": None if self.draft else f"{repository_api}/tarball/{self.tag}",
            "zipball_url": None if self.draft else f"{repository_api}/zipball/{self.tag}",
            "body": self.body,
        }
