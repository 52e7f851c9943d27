"""The GitHub App of this klepaas: how it stands, and how one is made by GitHub's manifest flow.

The App's key goes from GitHub to klepaas and is sealed here; the person who makes it only carries a code, once.
Source: GitHub docs, "Registering a GitHub App from a manifest"."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.github_app import GitHubApp, Installation
from klepaas.errors import Conflict, Invalid, NotFound, Outside, Rejected
from klepaas.operations.context import Context

WEBHOOK_PATH = "/api/v1/cicd/webhook"
PERMISSIONS = {
    "contents": "read",
    "metadata": "read",
    "checks": "read",
    "pull_requests": "write",
    "statuses": "write",
    "deployments": "write",
}
EVENTS = ("push", "release", "pull_request")
"""Every App is told of its installations without asking; GitHub refuses a manifest that asks for them."""

_CODE = re.compile(r"^[A-Za-z0-9_-]{1,200}$")
_ORGANIZATION = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})$")
_APP_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,33})$")


@dataclass(frozen=True, kw_only=True)
class GitHubStatus:
    """How this klepaas stands with GitHub. `problem` is what GitHub says when it cannot be asked about the App.

    `installations` only for the operator: their numbers grant access."""

    github_url: str
    app: GitHubApp | None
    is_from_settings: bool
    webhook_url: str | None
    app_secret: bool
    legacy_secret: bool
    installations: Sequence[Installation] = ()
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a browser posts to GitHub, as the field `manifest`; `post_to` takes `?state=…` in addition."""

    post_to: str
    manifest: Mapping[str, Any]


async def status(context: Context, actor: Actor) -> GitHubStatus:
    """Asks GitHub about the App when there is one; an answer that does not come is a problem, no error."""
    actor.require(Scope.ADMIN)
    app, secrets = await context.github_app.now(), await context.github_app.webhook_secrets()
    installations: Sequence[Installation] = ()
    problem = ""
    if app is not None and actor.scope is Scope.OPERATOR:
        try:
            installations = await context.github.installations()
        except Outside as said:
            problem = said.message
    return GitHubStatus(
        github_url=context.github_url,
        app=app,
        is_from_settings=context.github_app.is_given,
        webhook_url=_webhook_url(context),
        app_secret=secrets.app is not None,
        legacy_secret=secrets.legacy is not None,
        installations=installations,
        problem=problem,
    )


async def manifest(
    context: Context, actor: Actor, *, redirect_url: str, name: str | None = None, organization: str | None = None
) -> Manifest:
    """The App to be made, and where a browser has to send it. Without a public address of klepaas it gets no webhooks.

    `redirect_url` is where GitHub sends the browser with the code. Errors: NotAllowed, Invalid, Conflict."""
    actor.require(Scope.OPERATOR)
    await _refuse_second(context)
    if organization is not None and not _ORGANIZATION.fullmatch(organization):
        raise Invalid(f"{organization[:80]!r} is not the name of an organization at GitHub.")
    if name is not None and not _APP_NAME.fullmatch(name):
        raise Invalid(f"{name[:80]!r} is not a name for an App.", hint="Use at most 34 letters, digits and hyphens.")
    parts = urlsplit(redirect_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or len(redirect_url) > 500:
        raise Invalid("GitHub needs an address to send the browser back to.")
    webhook_url = _webhook_url(context)
    told = {"hook_attributes": {"url": webhook_url, "active": True}, "default_events": list(EVENTS)}
    where = f"/organizations/{quote(organization)}/settings/apps/new" if organization else "/settings/apps/new"
    return Manifest(
        post_to=f"{context.github_url}{where}",
        manifest={
            "name": name or _name(context),
            "url": context.public_url or context.github_url,
            "redirect_url": redirect_url,
            "public": False,
            "default_permissions": PERMISSIONS,
            **(told if webhook_url is not None else {}),
        },
    )


async def adopt(context: Context, actor: Actor, *, code: str) -> GitHubApp:
    """Fetch the App that GitHub made for this code and keep it, its key and webhook secret sealed.

    Errors: NotAllowed; Invalid for a code GitHub does not know (any more); Conflict; Unavailable."""
    actor.require(Scope.OPERATOR)
    await _refuse_second(context)
    if not _CODE.fullmatch(code):
        raise Invalid("That is not a code of GitHub.")
    try:
        app = await context.github.create_app(code)
    except Rejected as rejected:
        raise Invalid(
            "GitHub does not know this code: it works once and for an hour.", hint="Begin again: klepaas github connect"
        ) from rejected
    await context.github_app.adopt(app, context.clock.now())
    return app


async def forget(context: Context, actor: Actor) -> None:
    """Forget the App that was made here; at GitHub it stays until it is deleted there. Errors: NotFound, Conflict."""
    actor.require(Scope.OPERATOR)
    if context.github_app.is_given:
        raise Conflict("The settings of this klepaas name its GitHub App.", hint="Unset KLEPAAS_GITHUB_APP_ID.")
    if not await context.github_app.forget():
        raise NotFound("This klepaas has no GitHub App.")


async def _refuse_second(context: Context) -> None:
    app = await context.github_app.now()
    if app is not None:
        raise Conflict(
            f"This klepaas has a GitHub App already: {app.slug or app.app_id}.",
            hint="Install it on more accounts, or forget it first: klepaas github forget",
        )


def _name(context: Context) -> str:
    """One that is still free at GitHub, most likely: names of Apps are global, and have 34 characters at most."""
    return f"klepaas {urlsplit(context.public_url or '').hostname or 'deployments'}"[:34].rstrip(" .-")


def _webhook_url(context: Context) -> str | None:
    return f"{context.public_url}{WEBHOOK_PATH}" if context.public_url else None
