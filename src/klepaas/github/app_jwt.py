"""How the App itself speaks to GitHub: with a short-lived statement signed by its key.

Source: GitHub docs, "Generating a JSON Web Token (JWT) for a GitHub App"."""

import asyncio
import time
from dataclasses import dataclass

from klepaas.domain.github_app import GitHubApp
from klepaas.errors import AuthenticationFailed

LIVES_S = 540
"""GitHub takes ten minutes at most; clocks differ."""
BEGAN_S = 60
"""It is dated back by that much: GitHub refuses one from the future."""
GOOD_FOR_S = 300
"""So long the same one is shown again."""


@dataclass(frozen=True, repr=False)
class _Signed:
    app: GitHubApp
    text: str
    at: float


class AppJwt:
    """Signs for the App, again only when the last one grows old or the App is another."""

    def __init__(self) -> None:
        self._last: _Signed | None = None

    async def of(self, app: GitHubApp) -> str:
        """Errors: AuthenticationFailed when the App's key is none."""
        now = time.time()
        last = self._last
        if last is not None and last.app == app and 0 <= now - last.at < GOOD_FOR_S:
            return last.text
        # Importing and reading the key takes some 200 ms the first time.
        text = await asyncio.to_thread(_signed, app, int(now))
        self._last = _Signed(app, text, now)
        return text


def _signed(app: GitHubApp, now: int) -> str:
    import jwt  # 2 MiB, only for those who have an App

    claims = {"iat": now - BEGAN_S, "exp": now + LIVES_S, "iss": app.app_id}
    try:
        return jwt.encode(claims, app.private_key, algorithm="RS256")
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise AuthenticationFailed(
            "The private key of the GitHub App cannot be read.",
            hint="Set KLEPAAS_GITHUB_APP_PRIVATE_KEY anew, or make the App again: klepaas github connect",
        ) from error
