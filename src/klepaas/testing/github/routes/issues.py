"""Comments on pull requests, which GitHub keeps with the issues."""

from starlette.responses import Response

from klepaas.testing.github.comments import Comment
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routing import BY_NAME, Answer, Asked, Route, answer, invalid, not_found, paged
from klepaas.testing.github.shapes import Json

LONGEST = 65536


async def create(asked: Asked) -> Response:
    repository = _repository(asked, "write")
    number = asked.number("number")
    if number not in repository.pulls:
        raise not_found()
    made = Comment(
        id=asked.world.next_id("comment"),
        number=number,
        body=_body(asked),
        author=asked.account(),
        created_at=asked.world.now(),
        updated_at=asked.world.now(),
    )
    repository.comments[made.id] = made
    return answer(_json(asked, repository, made), 201)


async def list_them(asked: Asked) -> Response:
    repository = _repository(asked, "read")
    number = asked.number("number")
    if number not in repository.pulls:
        raise not_found()
    found = [comment for comment in repository.comments.values() if comment.number == number]
    return paged(asked, [_json(asked, repository, comment) for comment in found])


async def show(asked: Asked) -> Response:
    repository = _repository(asked, "read")
    return answer(_json(asked, repository, _find(asked, repository)))


async def edit(asked: Asked) -> Response:
    repository = _repository(asked, "write")
    found = _find(asked, repository)
    if found.author != asked.caller.account and asked.caller.kind == "installation":
        raise Answer(403, "Resource not accessible by integration")
    found.body, found.updated_at, found.edits = _body(asked), asked.world.now(), found.edits + 1
    return answer(_json(asked, repository, found))


async def delete(asked: Asked) -> Response:
    repository = _repository(asked, "write")
    del repository.comments[_find(asked, repository).id]
    return Response(status_code=204)


def _repository(asked: Asked, level: str) -> Repository:
    """Either of two permissions will do for the comments on a pull request."""
    found = asked.repository()
    either = any(asked.caller.may(found, permission, level) for permission in ("issues", "pull_requests"))
    return found if either else asked.repository("issues", level)


def _find(asked: Asked, repository: Repository) -> Comment:
    found = repository.comments.get(asked.number("comment"))
    if found is None:
        raise not_found()
    return found


def _body(asked: Asked) -> str:
    body = asked.text("body", "IssueComment")
    if not body.strip():
        raise invalid("IssueComment", "data", "unprocessable", "Body cannot be blank")
    if len(body) > LONGEST:
        raise invalid("IssueComment", "data", "unprocessable", "Body is too long (maximum is 65536 characters)")
    return body


def _json(asked: Asked, repository: Repository, comment: Comment) -> Json:
    links = asked.world.links
    return comment.json(repository.api(links), repository.web(links), links)


ROUTES: list[Route] = [
    ("POST", f"{BY_NAME}/issues/{{number}}/comments", create),
    ("GET", f"{BY_NAME}/issues/{{number}}/comments", list_them),
    ("GET", f"{BY_NAME}/issues/comments/{{comment}}", show),
    ("PATCH", f"{BY_NAME}/issues/comments/{{comment}}", edit),
    ("DELETE", f"{BY_NAME}/issues/comments/{{comment}}", delete),
]
