"""Which GitHub App speaks for this klepaas now: the settings' own, else the one made by `klepaas github connect`."""

import time
from dataclasses import dataclass
from datetime import datetime

from klepaas.domain.github_app import GitHubApp, WebhookSecrets
from klepaas.errors import Conflict, Unavailable
from klepaas.operations.ports.github_app import StoredApp

LOOK_AGAIN_AFTER_S = 5.0
"""Another process may have made the App; asked for with every webhook, so it has to cost nothing."""


@dataclass(frozen=True, kw_only=True)
class _Look:
    app: GitHubApp | None
    at: float


class CurrentApp:
    def __init__(
        self,
        stored: StoredApp,
        given: GitHubApp | None = None,
        *,
        app_secret: str | None = None,
        legacy_secret: str | None = None,
    ) -> None:
        """`given` and both secrets are the settings'; they win over what is stored."""
        self._stored, self._given = stored, given
        self._app_secret, self._legacy_secret = app_secret or None, legacy_secret or None
        self._last: _Look | None = None

    @property
    def is_given(self) -> bool:
        """Whether the settings name the App: then none can be made here."""
        return self._given is not None

    async def now(self) -> GitHubApp | None:
        """The App, None when there is none yet. From memory, at most LOOK_AGAIN_AFTER_S old.

        Errors: Unavailable, WrongKey; not while an earlier look still helps."""
        if self._given is not None:
            return self._given
        last = self._last
        if last is not None and time.monotonic() - last.at < LOOK_AGAIN_AFTER_S:
            return last.app
        try:
            app = await self._stored.get()
        except Unavailable:
            if last is None:
                raise
            app = last.app
        self._last = _Look(app=app, at=time.monotonic())
        return app

    async def webhook_secrets(self) -> WebhookSecrets:
        """What signs webhooks; from memory as `now`."""
        secret = self._app_secret
        if secret is None:
            app = await self.now()
            secret = app.webhook_secret if app is not None else None
        return WebhookSecrets(app=secret or None, legacy=self._legacy_secret)

    async def adopt(self, app: GitHubApp, at: datetime) -> None:
        """Keep an App that was just made. Errors: Conflict when there is one already."""
        if self._given is not None:
            raise Conflict(
                "The settings of this klepaas name its GitHub App.", hint="Unset KLEPAAS_GITHUB_APP_ID to make another."
            )
        await self._stored.put(app, at)
        self._last = None

    async def forget(self) -> bool:
        """Forget the App that was made here; whether there was one."""
        was_there = await self._stored.remove()
        self._last = None
        return was_there
