"""SourceCommit as a git server: `/{account}/{repository}.git`, with the sub account's user and git password."""

import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from klepaas.testing.git import http_backend
from klepaas.testing.ncp.registry import basic
from klepaas.testing.ncp.world import Repository, World

Pushed = Callable[[Repository, set[str]], Awaitable[None]]
"""Called with the branches a push moved."""

_PATH = re.compile(r"/([^/]+)/([^/]+?)\.git/(info/refs|git-upload-pack|git-receive-pack)")


class Git:
    def __init__(self, world: World, pushed: Pushed) -> None:
        self._world, self._pushed = world, pushed

    async def respond(self, request: Request) -> Response:
        match = _PATH.fullmatch(request.scope["path"])
        user, password = basic(request.headers.get("authorization", ""))
        known = secrets.compare_digest(user.encode(), self._world.git_user.encode())
        if not (secrets.compare_digest(password.encode(), self._world.git_password.encode()) and known):
            return _say(401, "Authentication failed", {"www-authenticate": 'Basic realm="SourceCommit"'})
        if match is None:
            return _say(404, "Not Found")
        found = self._world.repositories.get(match[2]) if match[1] == self._world.account else None
        if found is None or not self._world.git_serves(found):
            return _say(404, "Repository not found.")
        if match[3] == "git-receive-pack":
            return await self._receive(request, found)
        return await http_backend.serve(request, found.git.folder, match[3])

    async def _receive(self, request: Request, found: Repository) -> Response:
        """A push. What follows from it happens before the end of the answer, so that who pushed finds it done."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(found.writing)
            before = dict(found.git.refs)

            async def follow() -> None:
                await found.git.reload()
                await moved(found, before, self._pushed)

            stack.push_async_callback(follow)
            return await http_backend.serve(request, found.git.folder, "git-receive-pack", stack.pop_all())


async def moved(repository: Repository, before: dict[str, str], pushed: Pushed) -> None:
    """Follow up on refs that are changed already."""
    after = repository.git.refs
    changed = {ref for ref, sha in after.items() if before.get(ref) != sha and ref.startswith("refs/heads/")}
    branches = {ref.removeprefix("refs/heads/") for ref in changed}
    if not repository.default and branches:
        repository.default = "master" if "master" in branches else min(branches)
        (repository.git.folder / "HEAD").write_text(f"ref: refs/heads/{repository.default}\n")
    if branches:
        await pushed(repository, branches)


def _say(status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    return Response(words, status, headers, media_type="text/plain")
