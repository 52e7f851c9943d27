"""Releases."""

from starlette.responses import Response

from klepaas.testing.github import publishing
from klepaas.testing.github.releases import Release
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routing import BY_NAME, Asked, Route, answer, invalid, not_found, paged
from klepaas.testing.github.shapes import Json


async def create(asked: Asked) -> Response:
    repository = asked.repository("contents", "write")
    tag = asked.text("tag_name", "Release")
    if any(release.tag == tag and not release.draft for release in repository.releases.values()):
        raise invalid("Release", "tag_name", "already_exists")
    try:
        made = await publishing.create_release(
            asked.world,
            repository,
            tag,
            target=asked.text("target_commitish", "Release", ""),
            name=asked.body.get("name"),
            body=asked.body.get("body"),
            draft=asked.body.get("draft") is True,
            prerelease=asked.body.get("prerelease") is True,
            by=asked.account(),
        )
    except LookupError:
        raise invalid("Release", "target_commitish") from None
    return answer(_json(asked, repository, made), 201)


async def edit(asked: Asked) -> Response:
    """Its name, its notes, whether it is a pre-release; and publish a draft."""
    repository = asked.repository("contents", "write")
    found = _find(asked, repository)
    found.name, found.body = asked.body.get("name", found.name), asked.body.get("body", found.body)
    found.prerelease = asked.body.get("prerelease", found.prerelease) is True
    if found.draft and asked.body.get("draft") is False:
        await publishing.publish(asked.world, repository, found, by=asked.account())
    return answer(_json(asked, repository, found))


async def list_them(asked: Asked) -> Response:
    repository = asked.repository("contents")
    shows_drafts = asked.caller.may(repository, "contents", "write")
    found = [release for release in reversed(repository.releases.values()) if shows_drafts or not release.draft]
    return paged(asked, [_json(asked, repository, release) for release in found])


async def latest(asked: Asked) -> Response:
    repository = asked.repository("contents")
    for release in reversed(repository.releases.values()):
        if not release.draft and not release.prerelease:
            return answer(_json(asked, repository, release))
    raise not_found()


async def by_tag(asked: Asked) -> Response:
    repository = asked.repository("contents")
    for release in repository.releases.values():
        if release.tag == asked.parts["tag"] and not release.draft:
            return answer(_json(asked, repository, release))
    raise not_found()


async def show(asked: Asked) -> Response:
    repository = asked.repository("contents")
    return answer(_json(asked, repository, _find(asked, repository)))


def _find(asked: Asked, repository: Repository) -> Release:
    found = repository.releases.get(asked.number("release"))
    if found is None:
        raise not_found()
    return found


def _json(asked: Asked, repository: Repository, release: Release) -> Json:
    links = asked.world.links
    return release.json(repository.api(links), repository.web(links), links)


ROUTES: list[Route] = [
    ("POST", f"{BY_NAME}/releases", create),
    ("GET", f"{BY_NAME}/releases", list_them),
    ("GET", f"{BY_NAME}/releases/latest", latest),
    ("GET", f"{BY_NAME}/releases/tags/{{tag:path}}", by_tag),
    ("GET", f"{BY_NAME}/releases/{{release}}", show),
    ("PATCH", f"{BY_NAME}/releases/{{release}}", edit),
]
