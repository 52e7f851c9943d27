"""A repository's own webhooks, the way before Apps."""

from starlette.responses import Response

from klepaas.testing.github.hooks import Hook
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routes.deliveries import attempt, delivery, listed
from klepaas.testing.github.routing import BY_NAME, Asked, Route, answer, invalid, not_found, paged


async def create(asked: Asked) -> Response:
    repository = asked.repository("repository_hooks", "write")
    config = asked.body.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("url"), str):
        raise invalid("Hook", "url", "missing_field")
    made = Hook(
        id=asked.world.next_id("hook"),
        target="repository",
        target_id=repository.id,
        url=config["url"],
        secret=config.get("secret") or "",
        events=tuple(asked.body.get("events") or ("push",)),
        content_type=config.get("content_type") or "form",
        active=asked.body.get("active", True) is True,
        created_at=asked.world.now(),
    )
    repository.hooks[made.id] = made
    asked.world.ping(made, repository)
    return answer(made.json(repository.api(asked.world.links)), 201)


async def list_them(asked: Asked) -> Response:
    repository = asked.repository("repository_hooks")
    return paged(asked, [hook.json(repository.api(asked.world.links)) for hook in repository.hooks.values()])


async def show(asked: Asked) -> Response:
    repository = asked.repository("repository_hooks")
    return answer(_find(asked, repository).json(repository.api(asked.world.links)))


async def delete(asked: Asked) -> Response:
    repository = asked.repository("repository_hooks", "write")
    del repository.hooks[_find(asked, repository).id]
    return Response(status_code=204)


async def ping(asked: Asked) -> Response:
    repository = asked.repository("repository_hooks")
    asked.world.ping(_find(asked, repository), repository)
    return Response(status_code=204)


async def list_deliveries(asked: Asked) -> Response:
    return listed(asked, _find(asked, asked.repository("repository_hooks")))


async def show_delivery(asked: Asked) -> Response:
    return answer(delivery(asked, _find(asked, asked.repository("repository_hooks"))).json(whole=True))


async def redeliver(asked: Asked) -> Response:
    return attempt(asked, _find(asked, asked.repository("repository_hooks", "write")))


def _find(asked: Asked, repository: Repository) -> Hook:
    found = repository.hooks.get(asked.number("hook"))
    if found is None:
        raise not_found()
    return found


ROUTES: list[Route] = [
    ("POST", f"{BY_NAME}/hooks", create),
    ("GET", f"{BY_NAME}/hooks", list_them),
    ("GET", f"{BY_NAME}/hooks/{{hook}}", show),
    ("DELETE", f"{BY_NAME}/hooks/{{hook}}", delete),
    ("POST", f"{BY_NAME}/hooks/{{hook}}/pings", ping),
    ("GET", f"{BY_NAME}/hooks/{{hook}}/deliveries", list_deliveries),
    ("GET", f"{BY_NAME}/hooks/{{hook}}/deliveries/{{delivery}}", show_delivery),
    ("POST", f"{BY_NAME}/hooks/{{hook}}/deliveries/{{delivery}}/attempts", redeliver),
]
