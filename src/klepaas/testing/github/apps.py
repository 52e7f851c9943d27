"""GitHub Apps and where they are installed. Source: OpenAPI schemas `integration` and `installation`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from klepaas.testing.github import app_jwt
from klepaas.testing.github.hooks import Hook
from klepaas.testing.github.shapes import Account, Json, Links, node_id, user, when

PERMISSIONS = {
    "metadata": "read",
    "contents": "write",
    "pull_requests": "write",
    "issues": "write",
    "statuses": "write",
    "deployments": "write",
    "checks": "read",
}
"""What the first App of a stand-in asks for; more than klepaas needs, so that a test can merge with it."""

EVENTS = ("push", "release", "pull_request")


@dataclass
class App:
    app_id: int
    slug: str
    name: str
    owner: Account
    bot: Account
    key: rsa.RSAPrivateKey = field(repr=False)
    hook: Hook
    created_at: datetime
    permissions: Mapping[str, str] = field(default_factory=lambda: dict(PERMISSIONS))
    events: Sequence[str] = EVENTS
    external_url: str = "https://klepaas.example"
    setup_url: str = ""

    @property
    def private_key_pem(self) -> str:
        return app_jwt.pem(self.key)

    @property
    def webhook_secret(self) -> str:
        return self.hook.secret

    @property
    def client_id(self) -> str:
        return f"Iv23li{self.app_id:014d}"

    def json(self, links: Links, installations: int | None = None) -> Json:
        return {
            "id": self.app_id,
            "client_id": self.client_id,
            "slug": self.slug,
            "node_id": node_id("Integration", self.app_id),
            "owner": user(self.owner, links),
            "name": self.name,
            "description": "",
            "external_url": self.external_url,
            "html_url": f"{links.web}/apps/{self.slug}",
            "created_at": when(self.created_at),
            "updated_at": when(self.created_at),
            "permissions": dict(self.permissions),
            "events": list(self.events),
            **({"installations_count": installations} if installations is not None else {}),
        }


@dataclass
class Installation:
    """`repositories` None: all of the account, also later ones."""

    id: int
    app: App
    account: Account
    repositories: set[int] | None
    permissions: Mapping[str, str]
    created_at: datetime
    suspended_at: datetime | None = None

    def json(self, links: Links) -> Json:
        api = f"{links.api}/app/installations/{self.id}"
        return {
            "id": self.id,
            "client_id": self.app.client_id,
            "account": user(self.account, links),
            "repository_selection": "all" if self.repositories is None else "selected",
            "access_tokens_url": f"{api}/access_tokens",
            "repositories_url": f"{links.api}/installation/repositories",
            "html_url": f"{links.web}/settings/installations/{self.id}",
            "app_id": self.app.app_id,
            "app_slug": self.app.slug,
            "target_id": self.account.id,
            "target_type": self.account.kind,
            "permissions": dict(self.permissions),
            "events": list(self.app.events),
            "created_at": when(self.created_at),
            "updated_at": when(self.created_at),
            "single_file_name": None,
            "has_multiple_single_files": False,
            "single_file_paths": [],
            "suspended_by": user(self.account, links) if self.suspended_at else None,
            "suspended_at": when(self.suspended_at),
        }
