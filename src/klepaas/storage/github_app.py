"""The GitHub App made for this klepaas, its key and webhook secret sealed: at most one row."""

from datetime import datetime

import sqlalchemy as sa

from klepaas.domain.github_app import GitHubApp
from klepaas.errors import Conflict
from klepaas.storage.database import Database
from klepaas.storage.sealing import Sealer
from klepaas.storage.tables import github_app

ONLY = "app"
PLACE = "github_app"
"""Where the secrets are sealed into."""

a = github_app.c


class GitHubAppTable:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database, self._sealer = database, sealer

    async def get(self) -> GitHubApp | None:
        """Errors: WrongKey when the key cannot open it."""
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(github_app).where(a.id == ONLY))).first()
        if row is None:
            return None
        values = self._sealer.open_values(row.sealed, PLACE)
        return GitHubApp(
            app_id=row.app_id,
            private_key=values["private_key"],
            webhook_secret=values["webhook_secret"] or None,
            slug=row.slug,
            html_url=row.html_url,
        )

    async def put(self, app: GitHubApp, at: datetime) -> None:
        """Errors: Conflict when there is one already: its key would be lost, and with it every installation."""
        values = {"private_key": app.private_key, "webhook_secret": app.webhook_secret or ""}
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    sa.insert(github_app).values(
                        id=ONLY,
                        app_id=app.app_id,
                        slug=app.slug,
                        html_url=app.html_url,
                        sealed=self._sealer.seal_values(values, PLACE),
                        created_at=at,
                    )
                )
        except sa.exc.IntegrityError as error:
            raise Conflict(
                "This klepaas has a GitHub App already.", hint="See it with: klepaas github status"
            ) from error

    async def remove(self) -> bool:
        """Forget it; whether there was one. Idempotent."""
        async with self._database.write() as connection:
            return (await connection.execute(sa.delete(github_app).where(a.id == ONLY))).rowcount > 0
