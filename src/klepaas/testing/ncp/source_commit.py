"""SourceCommit: repositories, their branches and tags. Content goes only through git."""

import re
from typing import Any

from starlette.responses import Response

from klepaas.testing.ncp.answers import Answer, result
from klepaas.testing.ncp.bodies import Body, Description, Name100, Text, read
from klepaas.testing.ncp.clock import milliseconds
from klepaas.testing.ncp.routing import Asked, Routes, filtered, page
from klepaas.testing.ncp.world import Repository

INVALID, MISSING, TAKEN = 310400, 310404, 310405
"""Only the last is known from the real service."""


class Linked(Body):
    FileSafer: bool = False
    ObjectStorage: bool = False


class CreateRepository(Body):
    name: Name100
    description: Description = ""
    linked: Linked = Linked()


class ChangeRepository(Body):
    description: Description | None = None
    linked: Linked | None = None


class SetDefault(Body):
    default: Text


async def _list(asked: Asked) -> Response:
    shown = [repo for repo in asked.world.repositories.values() if asked.world.shows(repo)]
    found = filtered(asked, shown, lambda repo: repo.name, "repositoryName", "projectName")
    return result({"total": len(found), "repository": [_brief(repo) for repo in page(asked, found, INVALID)]})


async def _create(asked: Asked) -> Response:
    body = read(CreateRepository, asked.body, INVALID)
    try:
        asked.world.create_repository(body.name, body.description, body.linked.model_dump())
    except KeyError:
        raise Answer(400, TAKEN, "repository name already exists", body.name) from None
    return result(True)


async def _show(asked: Asked) -> Response:
    return result(_detail(asked, _repository(asked)))


async def _change(asked: Asked) -> Response:
    found, body = _repository(asked), read(ChangeRepository, asked.body, INVALID)
    if body.description is not None:
        found.description = body.description
    if body.linked is not None:
        found.linked = body.linked.model_dump()
    return result(True)


async def _delete(asked: Asked) -> Response:
    del asked.world.repositories[_repository(asked).name]
    return result(True)


async def _branches(asked: Asked) -> Response:
    found = _repository(asked)
    return result({"default": found.default, "branch": branches(found)})


async def _tags(asked: Asked) -> Response:
    return result({"tag": _refs(_repository(asked), "refs/tags/")})


async def _set_default(asked: Asked) -> Response:
    found, body = _repository(asked), read(SetDefault, asked.body, INVALID)
    if body.default not in branches(found):
        raise Answer(404, MISSING, "branch not found", body.default)
    found.default = body.default
    return result(True)


def branches(repository: Repository) -> list[str]:
    return _refs(repository, "refs/heads/")


def _refs(repository: Repository, below: str) -> list[str]:
    return sorted(ref.removeprefix(below) for ref in repository.git.refs if ref.startswith(below))


def _repository(asked: Asked) -> Repository:
    """Errors: Answer 404."""
    name, number = asked.parts.get("name"), asked.parts.get("id")
    for found in asked.world.repositories.values():
        if (found.name == name or str(found.id) == number) and asked.world.shows(found):
            return found
    raise Answer(404, MISSING, "repository not found", name or number or "")


def _brief(repository: Repository) -> dict[str, Any]:
    return {
        "id": repository.id,
        "name": repository.name,
        "permission": "Allow",
        "actionName": "View/getRepositoryDetail",
    }


def _detail(asked: Asked, repository: Repository) -> dict[str, Any]:
    world = asked.world
    url = f"{world.git_url}/{world.account}/{repository.name}.git"
    return {
        "id": repository.id,
        "name": repository.name,
        "description": repository.description,
        "created": {"timestamp": milliseconds(repository.made_at), "user": asked.caller.user},
        "git": {"https": url, "ssh": re.sub(r"^\w+", "ssh", url), "httpsPrivate": url},
        "linked": repository.linked,
    }


ROUTES = Routes(
    [
        ("GET", "/api/v1/repository", _list),
        ("POST", "/api/v1/repository", _create),
        *(
            (method, f"/api/v1/repository{where}", handler)
            for where in ("/id/{id}", "/{name}")
            for method, handler in (("GET", _show), ("PATCH", _change), ("DELETE", _delete))
        ),
        ("GET", "/api/v1/repository/{name}/branch", _branches),
        ("GET", "/api/v1/repository/{name}/tag", _tags),
        ("POST", "/api/v1/repository/{name}/branch/default", _set_default),
    ]
)
