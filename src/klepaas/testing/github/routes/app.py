"""What an App may ask about itself: who it is, where it is installed, tokens, and its webhook's deliveries."""

from starlette.responses import Response

from klepaas.testing.github.apps import App, Installation
from klepaas.testing.github.callers import LEVELS
from klepaas.testing.github.routes.deliveries import attempt, delivery, listed
from klepaas.testing.github.routes.repositories import shown
from klepaas.testing.github.routing import BY_NAME, Answer, Asked, Route, answer, not_found, paged
from klepaas.testing.github.shapes import when

MOST_REPOSITORIES = 500
"""A token may be narrowed to so many. Source: GitHub's page on installation tokens."""


def app_of(asked: Asked) -> App:
    """The App that asks. Errors: Answer 401 for everybody else."""
    if asked.caller.kind != "app" or asked.caller.app_id is None:
        raise Answer(401, "A JSON web token could not be decoded")
    return asked.world.apps[asked.caller.app_id]


async def show(asked: Asked) -> Response:
    app = app_of(asked)
    count = sum(installation.app is app for installation in asked.world.installations.values())
    return answer(app.json(asked.world.links, count))


async def list_installations(asked: Asked) -> Response:
    app = app_of(asked)
    found = [installation for installation in asked.world.installations.values() if installation.app is app]
    return paged(asked, [installation.json(asked.world.links) for installation in found])


async def show_installation(asked: Asked) -> Response:
    return answer(_installation(asked).json(asked.world.links))


async def installation_of_repository(asked: Asked) -> Response:
    app = app_of(asked)
    repository = asked.world.find(f"{asked.parts['owner']}/{asked.parts['repo']}")
    found = asked.world.installation_of(app, repository) if repository else None
    if found is None:
        raise not_found()
    return answer(found.json(asked.world.links))


async def create_token(asked: Asked) -> Response:
    installation = _installation(asked)
    if installation.suspended_at is not None:
        raise Answer(403, "This installation has been suspended")
    repositories = _narrowed_repositories(asked, installation)
    permissions = _narrowed_permissions(asked, installation)
    token = asked.world.create_installation_token(installation, repositories, permissions)
    chosen = [r for r in asked.world.repositories_of(installation) if repositories and r.id in repositories]
    return answer(
        {
            "token": token.value,
            "expires_at": when(token.expires_at),
            "permissions": permissions,
            "repository_selection": "selected" if chosen or installation.repositories is not None else "all",
            **({"repositories": [repo.json(asked.world.links) for repo in chosen]} if chosen else {}),
        },
        201,
    )


async def list_deliveries(asked: Asked) -> Response:
    return listed(asked, app_of(asked).hook)


async def show_delivery(asked: Asked) -> Response:
    return answer(delivery(asked, app_of(asked).hook).json(whole=True))


async def redeliver(asked: Asked) -> Response:
    return attempt(asked, app_of(asked).hook)


async def show_config(asked: Asked) -> Response:
    return answer(app_of(asked).hook.config_json())


async def change_config(asked: Asked) -> Response:
    hook = app_of(asked).hook
    hook.url, hook.secret = asked.text("url", "Hook", hook.url), asked.text("secret", "Hook", hook.secret)
    hook.content_type = asked.text("content_type", "Hook", hook.content_type)
    return answer(hook.config_json())


async def accessible(asked: Asked) -> Response:
    """The repositories of the installation whose token this is."""
    if asked.caller.kind != "installation":
        raise Answer(403 if asked.caller.kind == "user" else 401, "Resource not accessible by personal access token")
    asked.refuse_suspended()
    found = [repo for repo in asked.world.repositories.values() if asked.caller.reaches(repo)]
    return paged(asked, [shown(asked, repo) for repo in found], wrap="repositories")


async def revoke(asked: Asked) -> Response:
    """A token of an installation ends itself."""
    value = asked.request.headers.get("authorization", "").partition(" ")[2].strip()
    if asked.caller.kind != "installation":
        raise Answer(401, "Requires authentication")
    asked.world.tokens.pop(value, None)
    return Response(status_code=204)


def _installation(asked: Asked) -> Installation:
    app = app_of(asked)
    found = asked.world.installations.get(asked.number("installation"))
    if found is None or found.app is not app:
        raise not_found()
    return found


def _narrowed_repositories(asked: Asked, installation: Installation) -> frozenset[int] | None:
    ids, names = asked.body.get("repository_ids"), asked.body.get("repositories")
    if not ids and not names:
        return None
    reachable = asked.world.repositories_of(installation)
    by_name = {repo.name.lower(): repo.id for repo in reachable}
    wanted = [*(ids or []), *(by_name.get(str(name).lower()) for name in names or [])]
    if len(wanted) > MOST_REPOSITORIES or not set(wanted) <= {repo.id for repo in reachable}:
        words = "There is at least one repository that does not exist or is not accessible to the parent installation."
        raise Answer(422, words)
    return frozenset(wanted)


def _narrowed_permissions(asked: Asked, installation: Installation) -> dict[str, str]:
    granted, wanted = dict(installation.permissions), asked.body.get("permissions")
    if not wanted:
        return granted
    for permission, level in wanted.items():
        if LEVELS.get(level, 9) > LEVELS[granted.get(permission, "none")]:
            raise Answer(422, "The permissions requested are not granted to this installation.")
    # Reading what a repository is comes with any of them.
    return {"metadata": "read", **wanted}


ROUTES: list[Route] = [
    ("GET", "/app", show),
    ("GET", "/app/installations", list_installations),
    ("GET", "/app/installations/{installation}", show_installation),
    ("POST", "/app/installations/{installation}/access_tokens", create_token),
    ("GET", f"{BY_NAME}/installation", installation_of_repository),
    ("GET", "/app/hook/config", show_config),
    ("PATCH", "/app/hook/config", change_config),
    ("GET", "/app/hook/deliveries", list_deliveries),
    ("GET", "/app/hook/deliveries/{delivery}", show_delivery),
    ("POST", "/app/hook/deliveries/{delivery}/attempts", redeliver),
    ("GET", "/installation/repositories", accessible),
    ("DELETE", "/installation/token", revoke),
]
