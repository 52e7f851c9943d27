"""Branches, refs and tags."""

from starlette.responses import Response

from klepaas.testing.github import pushes
from klepaas.testing.github.commits import commit_json
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routing import BY_NAME, Answer, Asked, Route, answer, not_found, paged
from klepaas.testing.github.shapes import Json, node_id, when


async def show_branch(asked: Asked) -> Response:
    repository, name = asked.repository("contents"), asked.parts["branch"]
    sha = repository.git.refs.get(f"refs/heads/{name}")
    if sha is None:
        raise Answer(404, "Branch not found")
    links, api = asked.world.links, repository.api(asked.world.links)
    commit = commit_json(await repository.git.commit(sha), repository.full_name, links)
    unprotected = {
        "enabled": False,
        "required_status_checks": {"enforcement_level": "off", "contexts": [], "checks": []},
    }
    return answer(
        {
            "name": name,
            "commit": commit,
            "_links": {"self": f"{api}/branches/{name}", "html": f"{repository.web(links)}/tree/{name}"},
            "protected": False,
            "protection": unprotected,
            "protection_url": f"{api}/branches/{name}/protection",
        }
    )


async def list_branches(asked: Asked) -> Response:
    repository = asked.repository("contents")
    api = repository.api(asked.world.links)
    heads = [(r.removeprefix("refs/heads/"), s) for r, s in repository.git.refs.items() if r.startswith("refs/heads/")]
    return paged(
        asked,
        [
            {"name": name, "commit": {"sha": sha, "url": f"{api}/commits/{sha}"}, "protected": False}
            for name, sha in sorted(heads)
        ],
    )


async def show_ref(asked: Asked) -> Response:
    repository, ref = asked.repository("contents"), f"refs/{asked.parts['ref']}"
    if ref not in repository.git.refs:
        raise not_found()
    return answer(await _ref(asked, repository, ref))


async def list_matching(asked: Asked) -> Response:
    repository, start = asked.repository("contents"), f"refs/{asked.parts['ref']}"
    found = [ref for ref in sorted(repository.git.refs) if ref.startswith(start)]
    return paged(asked, [await _ref(asked, repository, ref) for ref in found])


async def create_ref(asked: Asked) -> Response:
    repository = asked.repository("contents", "write")
    ref, sha = asked.text("ref", "Reference"), await _existing(asked, repository)
    if not ref.startswith("refs/") or ref.count("/") < 2:
        raise Answer(422, "Reference name must start with 'refs/' and have at least two slashes.")
    async with repository.writing:
        if ref in repository.git.refs:
            raise Answer(422, "Reference already exists")
        await pushes.change_ref(asked.world, repository, ref, sha, by=asked.account())
    return answer(await _ref(asked, repository, ref), 201)


async def change_ref(asked: Asked) -> Response:
    repository, ref = asked.repository("contents", "write"), f"refs/{asked.parts['ref']}"
    sha = await _existing(asked, repository)
    async with repository.writing:
        before = repository.git.refs.get(ref)
        if before is None:
            raise Answer(422, "Reference does not exist")
        if asked.body.get("force") is not True and not await repository.git.is_ancestor(before, sha):
            raise Answer(422, "Update is not a fast forward")
        await pushes.change_ref(asked.world, repository, ref, sha, by=asked.account())
    return answer(await _ref(asked, repository, ref))


async def delete_ref(asked: Asked) -> Response:
    repository, ref = asked.repository("contents", "write"), f"refs/{asked.parts['ref']}"
    async with repository.writing:
        if ref not in repository.git.refs:
            raise Answer(422, "Reference does not exist")
        await pushes.change_ref(asked.world, repository, ref, None, by=asked.account())
    return Response(status_code=204)


async def show_tag(asked: Asked) -> Response:
    """An annotated tag by the SHA of the tag itself."""
    repository, sha = asked.repository("contents"), asked.parts["sha"]
    refs = [ref for ref, tip in repository.git.refs.items() if tip == sha and ref.startswith("refs/tags/")]
    commit = await repository.git.resolve(refs[0]) if refs else None
    if commit is None or await repository.git.kind_of(sha) != "tag":
        raise not_found()
    api = repository.api(asked.world.links)
    made = await repository.git.commit(commit)
    return answer(
        {
            "node_id": node_id("Tag", sha),
            "sha": sha,
            "url": f"{api}/git/tags/{sha}",
            "tag": refs[0].removeprefix("refs/tags/"),
            "message": "",
            "tagger": {**vars(made.committer), "date": when(made.committed_at)},
            "object": {"sha": commit, "type": "commit", "url": f"{api}/git/commits/{commit}"},
            "verification": {"verified": False, "reason": "unsigned", "signature": None, "payload": None},
        }
    )


async def _existing(asked: Asked, repository: Repository) -> str:
    sha = await repository.git.resolve(asked.text("sha", "Reference"))
    if sha is None:
        raise Answer(422, "Object does not exist")
    return sha


async def _ref(asked: Asked, repository: Repository, ref: str) -> Json:
    sha = repository.git.refs[ref]
    kind, api = await repository.git.kind_of(sha), repository.api(asked.world.links)
    return {
        "ref": ref,
        "node_id": node_id("Ref", f"{repository.id}:{ref}"),
        "url": f"{api}/git/{ref}",
        "object": {"sha": sha, "type": kind, "url": f"{api}/git/{kind}s/{sha}"},
    }


ROUTES: list[Route] = [
    ("GET", f"{BY_NAME}/branches", list_branches),
    ("GET", f"{BY_NAME}/branches/{{branch:path}}", show_branch),
    ("GET", f"{BY_NAME}/git/ref/{{ref:path}}", show_ref),
    ("GET", f"{BY_NAME}/git/matching-refs/{{ref:path}}", list_matching),
    ("POST", f"{BY_NAME}/git/refs", create_ref),
    ("PATCH", f"{BY_NAME}/git/refs/{{ref:path}}", change_ref),
    ("DELETE", f"{BY_NAME}/git/refs/{{ref:path}}", delete_ref),
    ("GET", f"{BY_NAME}/git/tags/{{sha}}", show_tag),
]
