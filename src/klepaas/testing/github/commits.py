"""Commits as REST answers and as payloads show them.

Source: GitHub's OpenAPI description, schemas `commit`, `diff-entry` and the `push` payload's commits."""

from klepaas.testing.git.objects import Commit, Person
from klepaas.testing.git.repository import FileChange, GitRepository
from klepaas.testing.github.shapes import Account, Json, Links, node_id, user, when


def commit_json(commit: Commit, full_name: str, links: Links, author: Account | None = None) -> Json:
    api, web = f"{links.api}/repos/{full_name}", f"{links.web}/{full_name}"
    return {
        "sha": commit.sha,
        "node_id": node_id("Commit", commit.sha),
        "commit": {
            "author": {**_person(commit.author), "date": when(commit.authored_at)},
            "committer": {**_person(commit.committer), "date": when(commit.committed_at)},
            "message": commit.message,
            "tree": {"sha": commit.tree, "url": f"{api}/git/trees/{commit.tree}"},
            "url": f"{api}/git/commits/{commit.sha}",
            "comment_count": 0,
            "verification": {
                "verified": False,
                "reason": "unsigned",
                "signature": None,
                "payload": None,
                "verified_at": None,
            },
        },
        "url": f"{api}/commits/{commit.sha}",
        "html_url": f"{web}/commit/{commit.sha}",
        "comments_url": f"{api}/commits/{commit.sha}/comments",
        "author": user(author, links) if author else None,
        "committer": user(author, links) if author and commit.committer == commit.author else None,
        "parents": [{"sha": p, "url": f"{api}/commits/{p}", "html_url": f"{web}/commit/{p}"} for p in commit.parents],
    }


def file_json(change: FileChange, sha: str, full_name: str, links: Links) -> Json:
    """One changed file. Its lines are not counted: the numbers and the patch are those of an empty change."""
    api, web = f"{links.api}/repos/{full_name}", f"{links.web}/{full_name}"
    return {
        "sha": change.blob,
        "filename": change.path,
        "status": change.kind,
        "additions": 0,
        "deletions": 0,
        "changes": 0,
        "blob_url": f"{web}/blob/{sha}/{change.path}",
        "raw_url": f"{web}/raw/{sha}/{change.path}",
        "contents_url": f"{api}/contents/{change.path}?ref={sha}",
    }


async def payload_commit(git: GitRepository, sha: str, full_name: str, links: Links) -> Json:
    """A commit in a push payload, with the paths it adds, removes and modifies against its first parent."""
    commit = await git.commit(sha)
    changes = await git.changes(commit.parents[0] if commit.parents else None, sha)
    return {
        "id": commit.sha,
        "tree_id": commit.tree,
        "distinct": True,
        "message": commit.message,
        "timestamp": commit.committed_at.isoformat(),
        "url": f"{links.web}/{full_name}/commit/{commit.sha}",
        "author": _payload_person(commit.author),
        "committer": _payload_person(commit.committer),
        "added": [change.path for change in changes if change.kind == "added"],
        "removed": [change.path for change in changes if change.kind == "removed"],
        "modified": [change.path for change in changes if change.kind == "modified"],
    }


def _person(person: Person) -> Json:
    return {"name": person.name, "email": person.email}


def _payload_person(person: Person) -> Json:
    username = "web-flow" if person.email == "noreply@github.com" else person.email.partition("@")[0].rpartition("+")[2]
    return {**_person(person), "username": username}
