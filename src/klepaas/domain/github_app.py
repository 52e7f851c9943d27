"""The GitHub App of this klepaas: who it is to GitHub, and how GitHub proves itself to it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class GitHubApp:
    """`private_key` is PEM. The secrets have no part in its repr on purpose."""

    app_id: str
    private_key: str = field(repr=False)
    webhook_secret: str | None = field(repr=False, default=None)
    slug: str = ""
    """Its name in GitHub's addresses; empty while only the settings name the App."""
    html_url: str = ""


@dataclass(frozen=True, kw_only=True)
class WebhookSecrets:
    """What a delivery's signature may be made with: the App's secret wins over the one of older klepaas."""

    app: str | None = field(repr=False, default=None)
    legacy: str | None = field(repr=False, default=None)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """This klepaas's App on one account of GitHub."""

    id: str
    account: str
    repositories: str
    """GitHub's word: `all` or `selected`."""
    suspended: bool = False
