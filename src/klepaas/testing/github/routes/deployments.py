"""Deployments and their states."""

from starlette.responses import Response

from klepaas.testing.github.deployments import STATES, Deployment, DeploymentStatus, made_inactive_by
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routing import BY_NAME, Answer, Asked, Route, answer, invalid, not_found, paged
from klepaas.testing.github.statuses import combined_state


async def create(asked: Asked) -> Response:
    repository = asked.repository("deployments", "write")
    ref = asked.text("ref", "Deployment")
    sha = await repository.git.resolve(ref)
    if sha is None:
        raise Answer(422, f"No ref found for: {ref}")
    _refuse_unfinished(repository, sha, asked.body.get("required_contexts"))
    environment = asked.text("environment", "Deployment", "production")
    made = Deployment(
        id=asked.world.next_id("deployment"),
        sha=sha,
        ref=ref,
        task=asked.text("task", "Deployment", "deploy"),
        environment=environment,
        description=asked.body.get("description"),
        payload=asked.body.get("payload", {}),
        transient=asked.body.get("transient_environment") is True,
        production=asked.body.get("production_environment", environment == "production") is True,
        creator=asked.account(),
        created_at=asked.world.now(),
    )
    repository.deployments[made.id] = made
    return answer(made.json(repository.api(asked.world.links), asked.world.links), 201)


async def list_them(asked: Asked) -> Response:
    """Newest first; `sha`, `ref`, `task` and `environment` narrow the list down."""
    repository = asked.repository("deployments")
    found = list(repository.deployments.values())[::-1]
    for name in ("sha", "ref", "task", "environment"):
        if wanted := asked.query(name):
            found = [deployment for deployment in found if getattr(deployment, name) == wanted]
    api = repository.api(asked.world.links)
    return paged(asked, [deployment.json(api, asked.world.links) for deployment in found])


async def show(asked: Asked) -> Response:
    repository = asked.repository("deployments")
    return answer(_find(asked, repository).json(repository.api(asked.world.links), asked.world.links))


async def delete(asked: Asked) -> Response:
    """Only an inactive one may go, unless it is the only one."""
    repository = asked.repository("deployments", "write")
    found = _find(asked, repository)
    if found.state != "inactive" and len(repository.deployments) > 1:
        raise Answer(
            422, "We cannot delete an active deployment unless it is the only deployment in a given environment."
        )
    del repository.deployments[found.id]
    return Response(status_code=204)


async def create_status(asked: Asked) -> Response:
    repository = asked.repository("deployments", "write")
    found, state = _find(asked, repository), asked.text("state", "DeploymentStatus")
    if state not in STATES:
        raise invalid("DeploymentStatus", "state")
    if len(asked.body.get("description") or "") > 140:
        words = "description is too long (maximum is 140 characters)"
        raise invalid("DeploymentStatus", "description", "custom", words)
    made = _add(asked, found, state)
    if state == "success" and asked.body.get("auto_inactive", True) is True:
        for other in made_inactive_by(found, repository.deployments.values()):
            _add(asked, other, "inactive", own=False)
    return answer(found.status_json(made, repository.api(asked.world.links), asked.world.links), 201)


async def list_statuses(asked: Asked) -> Response:
    repository = asked.repository("deployments")
    found, api = _find(asked, repository), repository.api(asked.world.links)
    return paged(asked, [found.status_json(status, api, asked.world.links) for status in reversed(found.statuses)])


async def show_status(asked: Asked) -> Response:
    repository = asked.repository("deployments")
    found, number = _find(asked, repository), asked.number("status")
    for status in found.statuses:
        if status.id == number:
            return answer(found.status_json(status, repository.api(asked.world.links), asked.world.links))
    raise not_found()


def _find(asked: Asked, repository: Repository) -> Deployment:
    found = repository.deployments.get(asked.number("deployment"))
    if found is None:
        raise not_found()
    return found


def _add(asked: Asked, deployment: Deployment, state: str, *, own: bool = True) -> DeploymentStatus:
    said = asked.body if own else {}
    made = DeploymentStatus(
        id=asked.world.next_id("deployment_status"),
        state=state,
        description=said.get("description") or "",
        environment=said.get("environment") or deployment.environment,
        log_url=said.get("log_url") or said.get("target_url") or "",
        environment_url=said.get("environment_url") or "",
        creator=asked.account(),
        created_at=asked.world.now(),
    )
    deployment.statuses.append(made)
    deployment.environment = made.environment
    return made


def _refuse_unfinished(repository: Repository, sha: str, contexts: object) -> None:
    """A deployment waits for all statuses of its commit, or those it names; with an empty list for none."""
    statuses = [status for status in repository.statuses if status.sha == sha]
    if isinstance(contexts, list):
        statuses = [status for status in statuses if status.context in contexts]
        missing = set(contexts) - {status.context for status in statuses}
    else:
        missing = set()
    if missing or (statuses and combined_state(statuses) != "success"):
        raise Answer(409, "Conflict: Commit status checks failed for this ref.")


ROUTES: list[Route] = [
    ("POST", f"{BY_NAME}/deployments", create),
    ("GET", f"{BY_NAME}/deployments", list_them),
    ("GET", f"{BY_NAME}/deployments/{{deployment}}", show),
    ("DELETE", f"{BY_NAME}/deployments/{{deployment}}", delete),
    ("POST", f"{BY_NAME}/deployments/{{deployment}}/statuses", create_status),
    ("GET", f"{BY_NAME}/deployments/{{deployment}}/statuses", list_statuses),
    ("GET", f"{BY_NAME}/deployments/{{deployment}}/statuses/{{status}}", show_status),
]
