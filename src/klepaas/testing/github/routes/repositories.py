"""Repositories and who asks: `/repos/{owner}/{repo}`, `/repositories/{id}`, `/user`, `/rate_limit` is the edge's."""

from starlette.responses import Response

from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routing import BY_NAME, Answer, Asked, Route, answer, not_found, paged
from klepaas.testing.github.shapes import Json, user, when


async def show(asked: Asked) -> Response:
    return answer(shown(asked, asked.repository()))


async def list_own(asked: Asked) -> Response:
    if asked.caller.kind != "user":
        raise Answer(401 if asked.caller.kind == "none" else 403, "Requires authentication")
    reachable = [repo for repo in asked.world.repositories.values() if asked.caller.reaches(repo)]
    return paged(asked, [shown(asked, repo) for repo in reachable])


async def me(asked: Asked) -> Response:
    if asked.caller.kind == "none":
        raise Answer(401, "Requires authentication")
    if asked.caller.kind != "user":
        raise Answer(403, "Resource not accessible by integration")
    account, moment = asked.account(), when(asked.world.now().replace(month=1, day=1))
    nothing = dict.fromkeys(("company", "blog", "location", "email", "hireable", "bio"))
    counts = dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0)
    private = dict.fromkeys(
        ("private_gists", "total_private_repos", "owned_private_repos", "disk_usage", "collaborators"), 0
    )
    times = {"created_at": moment, "updated_at": moment}
    about: Json = {"name": account.login, **nothing, **counts, **private, **times, "two_factor_authentication": True}
    return answer({**user(account, asked.world.links), **about}, headers={"x-oauth-scopes": "repo"})


async def show_user(asked: Asked) -> Response:
    account = asked.world.accounts.get(asked.parts["login"].lower())
    if account is None:
        raise not_found()
    return answer(user(account, asked.world.links))


def shown(asked: Asked, repository: Repository) -> Json:
    """With what the caller may do there."""
    writes = asked.caller.may(repository, "contents", "write")
    allowed = {"admin": False, "maintain": False, "push": writes, "triage": writes, "pull": True}
    return repository.json(asked.world.links, None if asked.caller.kind == "none" else allowed)


ROUTES: list[Route] = [
    ("GET", "/user", me),
    ("GET", "/user/repos", list_own),
    ("GET", "/users/{login}", show_user),
    ("GET", BY_NAME, show),
]
