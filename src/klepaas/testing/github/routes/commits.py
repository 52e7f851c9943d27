"""Commits, and how one lies to another."""

from starlette.responses import Response

from klepaas.testing.github.commits import commit_json, file_json
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routing import BY_NAME, Answer, Asked, Route, answer, not_found, paged
from klepaas.testing.github.shapes import Json

MOST_FILES = 300
"""A comparison lists no more files, and no more than 250 commits a page. Source: GitHub's page on comparing commits."""

MOST_COMMITS = 250


async def show(asked: Asked) -> Response:
    repository = asked.repository("contents")
    sha = await find(repository, asked.parts["ref"])
    commit = await repository.git.commit(sha)
    changes = await repository.git.changes(commit.parents[0] if commit.parents else None, sha)
    shown = await _commit(asked, repository, sha)
    files = [file_json(change, sha, repository.full_name, asked.world.links) for change in changes[:MOST_FILES]]
    return answer({**shown, "stats": {"total": 0, "additions": 0, "deletions": 0}, "files": files})


async def list_them(asked: Asked) -> Response:
    repository = asked.repository("contents")
    sha = await find(repository, asked.query("sha", repository.default_branch))
    listed = (await repository.git.new_commits(sha, without=[]))[::-1]
    return paged(asked, [await _commit(asked, repository, commit) for commit in listed])


async def pulls(asked: Asked) -> Response:
    """The merged pull requests that brought a commit; for one on no other branch also the open ones that have it."""
    repository = asked.repository("pull_requests")
    sha = await find(repository, asked.parts["ref"])
    held = [pull for pull in repository.pulls.values() if pull.holds(sha) or pull.head_sha == sha]
    merged = [pull for pull in held if pull.merged_at is not None]
    facts = repository.json(asked.world.links)
    found = merged or held
    return paged(asked, [pull.json(facts, repository.owner, asked.world.links, whole=False) for pull in found])


async def compare(asked: Asked) -> Response:
    repository = asked.repository("contents")
    base_name, dots, head_name = asked.parts["basehead"].partition("...")
    if not dots:
        raise not_found()
    base, head = await find(repository, base_name), await find(repository, head_name)
    git, links = repository.git, asked.world.links
    ahead, behind = await git.ahead_and_behind(base, head)
    ancestor = await git.merge_base(base, head)
    if ancestor is None:
        raise Answer(404, f"No common ancestor between {base_name} and {head_name}.")
    commits = await git.new_commits(head, without=[base]) if ahead else []
    changes = await git.changes(ancestor, head) if ahead else []
    api, web = repository.api(links), repository.web(links)
    spec = f"{base_name}...{head_name}"
    return answer(
        {
            "url": f"{api}/compare/{spec}",
            "html_url": f"{web}/compare/{spec}",
            "permalink_url": f"{web}/compare/{base[:7]}...{head[:7]}",
            "diff_url": f"{web}/compare/{spec}.diff",
            "patch_url": f"{web}/compare/{spec}.patch",
            "base_commit": await _commit(asked, repository, base),
            "merge_base_commit": await _commit(asked, repository, ancestor),
            "status": lineage(ahead, behind),
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": ahead,
            "commits": [await _commit(asked, repository, sha) for sha in commits[:MOST_COMMITS]],
            "files": [file_json(change, head, repository.full_name, links) for change in changes[:MOST_FILES]],
        }
    )


def lineage(ahead: int, behind: int) -> str:
    if ahead and behind:
        return "diverged"
    return "ahead" if ahead else ("behind" if behind else "identical")


async def find(repository: Repository, name: str) -> str:
    """Errors: Answer 404, or 422 for a SHA of which there is no commit, as GitHub does."""
    sha = await repository.git.resolve(name)
    if sha is None:
        is_sha = len(name) == 40 and all(digit in "0123456789abcdef" for digit in name)
        raise Answer(422, f"No commit found for SHA: {name}") if is_sha else not_found()
    return sha


async def _commit(asked: Asked, repository: Repository, sha: str) -> Json:
    commit = await repository.git.commit(sha)
    login = commit.author.email.partition("@")[0].rpartition("+")[2].lower()
    author = asked.world.accounts.get(login)
    return commit_json(commit, repository.full_name, asked.world.links, author)


ROUTES: list[Route] = [
    ("GET", f"{BY_NAME}/commits", list_them),
    ("GET", f"{BY_NAME}/commits/{{ref:path}}/pulls", pulls),
    ("GET", f"{BY_NAME}/commits/{{ref:path}}", show),
    ("GET", f"{BY_NAME}/compare/{{basehead:path}}", compare),
]
