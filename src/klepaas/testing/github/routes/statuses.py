"""Commit statuses and check runs."""

from starlette.responses import Response

from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routes.commits import find
from klepaas.testing.github.routing import BY_NAME, Answer, Asked, Route, answer, invalid, paged
from klepaas.testing.github.statuses import STATES, CheckRun, Status, combined_state, newest_by_context

LONGEST_DESCRIPTION = 140

MOST_PER_CONTEXT = 1000
"""Of one commit and context. Source: GitHub's page on creating a commit status."""


async def create(asked: Asked) -> Response:
    repository = asked.repository("statuses", "write")
    sha = asked.parts["sha"]
    state, context = asked.text("state", "Status"), asked.text("context", "Status", "default")
    description = asked.body.get("description")
    if state not in STATES:
        raise invalid("Status", "state")
    if await repository.git.resolve(sha) != sha:
        raise Answer(422, f"No commit found for SHA: {sha}")
    if isinstance(description, str) and len(description) > LONGEST_DESCRIPTION:
        raise invalid("Status", "description", "custom", "description is too long (maximum is 140 characters)")
    if sum(s.sha == sha and s.context == context for s in repository.statuses) >= MOST_PER_CONTEXT:
        words = "This SHA and context has reached the maximum number of statuses."
        raise invalid("Status", "base", "custom", words)
    made = Status(
        id=asked.world.next_id("status"),
        sha=sha,
        state=state,
        context=context,
        description=description,
        target_url=asked.body.get("target_url"),
        creator=asked.account(),
        created_at=asked.world.now(),
    )
    repository.statuses.append(made)
    return answer(made.json(repository.api(asked.world.links), asked.world.links), 201)


async def list_them(asked: Asked) -> Response:
    repository = asked.repository("statuses")
    sha, links = await find(repository, asked.parts["ref"]), asked.world.links
    return paged(asked, [s.json(repository.api(links), links) for s in reversed(_of(repository, sha))])


async def combined(asked: Asked) -> Response:
    repository = asked.repository("statuses")
    sha, links = await find(repository, asked.parts["ref"]), asked.world.links
    statuses, api = _of(repository, sha), repository.api(links)
    newest = newest_by_context(statuses)
    return answer(
        {
            "state": combined_state(statuses),
            "statuses": [status.json(api, links, creator=False) for status in newest[:100]],
            "sha": sha,
            "total_count": len(newest),
            "repository": repository.json(links),
            "commit_url": f"{api}/commits/{sha}",
            "url": f"{api}/commits/{sha}/status",
        }
    )


async def list_runs(asked: Asked) -> Response:
    """All check runs of a commit, of each name the newest unless `filter=all`."""
    repository = asked.repository("checks")
    sha, links = await find(repository, asked.parts["ref"]), asked.world.links
    runs = [run for run in repository.check_runs if run.sha == sha]
    if asked.query("filter", "latest") == "latest":
        runs = list({run.name: run for run in runs}.values())
    app = next(iter(asked.world.apps.values()), None)
    facts = app.json(links) if app else None
    return paged(
        asked, [run.json(repository.api(links), repository.web(links), facts) for run in runs], wrap="check_runs"
    )


async def create_run(asked: Asked) -> Response:
    repository = asked.repository("checks", "write")
    status, conclusion = asked.text("status", "CheckRun", "queued"), asked.body.get("conclusion")
    done = conclusion is not None
    made = CheckRun(
        id=asked.world.next_id("check_run"),
        sha=await find(repository, asked.text("head_sha", "CheckRun")),
        name=asked.text("name", "CheckRun"),
        status="completed" if done else status,
        conclusion=conclusion,
        started_at=asked.world.now(),
        completed_at=asked.world.now() if done else None,
    )
    repository.check_runs.append(made)
    links = asked.world.links
    return answer(made.json(repository.api(links), repository.web(links), None), 201)


def _of(repository: Repository, sha: str) -> list[Status]:
    return [status for status in repository.statuses if status.sha == sha]


ROUTES: list[Route] = [
    ("POST", f"{BY_NAME}/statuses/{{sha}}", create),
    ("GET", f"{BY_NAME}/commits/{{ref:path}}/statuses", list_them),
    ("GET", f"{BY_NAME}/commits/{{ref:path}}/status", combined),
    ("GET", f"{BY_NAME}/commits/{{ref:path}}/check-runs", list_runs),
    ("POST", f"{BY_NAME}/check-runs", create_run),
]
