"""Pull requests: open, list, show, merge."""

from typing import cast

from starlette.responses import Response

from klepaas.testing.git.repository import CannotMerge
from klepaas.testing.github import merging, pushes
from klepaas.testing.github.pull_requests import PullRequest
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routing import BY_NAME, Answer, Asked, Route, answer, invalid, not_found, paged
from klepaas.testing.github.shapes import Json


async def create(asked: Asked) -> Response:
    repository = asked.repository("pull_requests", "write")
    head = asked.text("head", "PullRequest").removeprefix(f"{repository.owner.login}:")
    base = asked.text("base", "PullRequest")
    if any(pull.state == "open" and (pull.head, pull.base) == (head, base) for pull in repository.pulls.values()):
        words = f"A pull request already exists for {repository.owner.login}:{head}."
        raise invalid("PullRequest", "base", "custom", words)
    try:
        made = await merging.open_pull(
            asked.world,
            repository,
            head=head,
            base=base,
            title=asked.text("title", "PullRequest"),
            body=asked.body.get("body"),
            by=asked.account(),
        )
    except LookupError as error:
        raise invalid("PullRequest", str(error.args[0])) from error
    except CannotMerge as error:
        raise invalid("PullRequest", "base", "custom", str(error)) from error
    made.draft = asked.body.get("draft") is True
    return answer(_json(asked, repository, made, whole=True), 201)


async def list_them(asked: Asked) -> Response:
    """Newest first; open ones unless `state` says otherwise."""
    repository = asked.repository("pull_requests")
    found, state = list(repository.pulls.values())[::-1], asked.query("state", "open")
    if state != "all":
        found = [pull for pull in found if pull.state == state]
    if base := asked.query("base"):
        found = [pull for pull in found if pull.base == base]
    if head := asked.query("head"):
        found = [pull for pull in found if f"{repository.owner.login}:{pull.head}".lower() == head.lower()]
    return paged(asked, [_json(asked, repository, pull, whole=False) for pull in found])


async def show(asked: Asked) -> Response:
    repository = asked.repository("pull_requests")
    return answer(_json(asked, repository, _find(asked, repository), whole=True))


async def edit(asked: Asked) -> Response:
    """Its title, its body, or close it."""
    repository = asked.repository("pull_requests", "write")
    found = _find(asked, repository)
    found.title, found.body = asked.text("title", "PullRequest", found.title), asked.body.get("body", found.body)
    if asked.body.get("state") == "closed" and found.state == "open":
        found.state, found.closed_at = "closed", asked.world.now()
        pushes.tell_pull(asked.world, repository, found, "closed", asked.account())
    return answer(_json(asked, repository, found, whole=True))


async def merge(asked: Asked) -> Response:
    repository = asked.repository("contents", "write")
    found, how = _find(asked, repository), asked.body.get("merge_method", "merge")
    if how not in ("merge", "squash", "rebase"):
        raise invalid("PullRequest", "merge_method")
    if found.state != "open" or found.draft:
        raise Answer(405, "Pull Request is not mergeable")
    if asked.body.get("sha", found.head_sha) != found.head_sha:
        raise Answer(409, "Head branch was modified. Review and try the merge again.")
    try:
        sha = await merging.merge(
            asked.world,
            repository,
            found,
            cast(merging.How, how),
            by=asked.account(),
            title=asked.body.get("commit_title") or "",
            message=asked.body.get("commit_message"),
        )
    except CannotMerge:
        raise Answer(405, "Pull Request is not mergeable") from None
    return answer({"sha": sha, "merged": True, "message": "Pull Request successfully merged"})


async def is_merged(asked: Asked) -> Response:
    repository = asked.repository("pull_requests")
    if _find(asked, repository).merged_at is None:
        raise not_found()
    return Response(status_code=204)


def _find(asked: Asked, repository: Repository) -> PullRequest:
    found = repository.pulls.get(asked.number("number"))
    if found is None:
        raise not_found()
    return found


def _json(asked: Asked, repository: Repository, pull: PullRequest, *, whole: bool) -> Json:
    comments = sum(comment.number == pull.number for comment in repository.comments.values())
    facts = repository.json(asked.world.links)
    return pull.json(facts, repository.owner, asked.world.links, whole=whole, comments=comments)


ROUTES: list[Route] = [
    ("POST", f"{BY_NAME}/pulls", create),
    ("GET", f"{BY_NAME}/pulls", list_them),
    ("GET", f"{BY_NAME}/pulls/{{number}}", show),
    ("PATCH", f"{BY_NAME}/pulls/{{number}}", edit),
    ("GET", f"{BY_NAME}/pulls/{{number}}/merge", is_merged),
    ("PUT", f"{BY_NAME}/pulls/{{number}}/merge", merge),
]
