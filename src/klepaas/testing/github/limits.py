"""The primary rate limit: so many requests an hour for each user, installation, App, or address without a token.

Source: GitHub's page on rate limits for the REST API."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from klepaas.testing.github.shapes import Json

WINDOW_S = 3600


@dataclass
class Budget:
    limit: int
    used: int
    reset: int
    """When it begins anew, in seconds since 1970."""

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def json(self) -> Json:
        return {"limit": self.limit, "used": self.used, "remaining": self.remaining, "reset": self.reset}

    def headers(self) -> dict[str, str]:
        return {
            **{f"x-ratelimit-{name}": str(value) for name, value in self.json().items()},
            "x-ratelimit-resource": "core",
        }


class Limits:
    """`per_hour` and `anonymous_per_hour` may be set while it runs; budgets keep what they have used."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.per_hour, self.anonymous_per_hour = 5000, 60
        self._now = now
        self._budgets: dict[str, Budget] = {}

    def budget(self, whose: str) -> Budget:
        moment = int(self._now().timestamp())
        limit = self.anonymous_per_hour if whose == "anonymous" else self.per_hour
        found = self._budgets.get(whose)
        if found is None or found.reset <= moment:
            found = self._budgets[whose] = Budget(limit, 0, moment + WINDOW_S)
        found.limit = limit
        return found
