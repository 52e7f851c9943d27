"""Connections to a stand-in, and what would be sealed in them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from klepaas.domain.connection import Connection, ConnectionKind, Credential
from klepaas.domain.github_app import GitHubApp
from klepaas.operations.code_host import Place
from klepaas.testing.github import StandInGitHub, StandInRepository


@dataclass
class Credentials:
    hub: StandInGitHub
    kept: dict[str, Credential] = field(default_factory=dict)
    has_app: bool = True

    async def app(self) -> GitHubApp | None:
        if not self.has_app:
            return None
        app = self.hub.app
        return GitHubApp(app_id=str(app.app_id), private_key=app.private_key_pem, webhook_secret=app.webhook_secret)

    async def open(self, connection_id: str) -> Credential:
        return self.kept[connection_id]

    def installation(self, repository: StandInRepository, installation_id: int) -> Place:
        connection = self._connection(ConnectionKind.GITHUB_APP, f"gh_{installation_id}", str(installation_id))
        return Place(owner=repository.owner, name=repository.name, connection=connection)

    def token(self, repository: StandInRepository, token: str | None = None) -> Place:
        connection = self._connection(ConnectionKind.GITHUB_TOKEN, f"gh_token{len(self.kept)}")
        self.kept[connection.id] = Credential(username="", password=token or self.hub.create_token())
        return Place(owner=repository.owner, name=repository.name, connection=connection)

    def _connection(self, kind: ConnectionKind, number: str, installation_id: str | None = None) -> Connection:
        return Connection(
            id=number,
            owner_id="own_1",
            kind=kind,
            name="forge",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            host=self.hub.url.removeprefix("http://"),
            installation_id=installation_id,
            api_url=self.hub.api_url,
        )
