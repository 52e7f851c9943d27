"""Git over HTTP, behind token authentication."""

from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from klepaas.testing.git import http_backend
from klepaas.testing.github import pushes
from klepaas.testing.github.api import Api
from klepaas.testing.github.callers import Caller
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.routing import Answer
from klepaas.testing.github.world import World

ASK = {"www-authenticate": 'Basic realm="GitHub"'}


class GitHttp:
    def __init__(self, world: World, api: Api) -> None:
        self._world, self._api = world, api

    async def respond(self, request: Request, full_name: str, rest: str) -> tuple[Response, Caller]:
        """`rest` is what follows the repository in the path, e.g. `info/refs`."""
        try:
            caller = self._api.caller(request.headers.get("authorization", ""))
        except Answer:
            return _say(401, "Invalid username or token.", ASK), Caller("bad", "anonymous")
        writes = "git-receive-pack" in (rest, request.query_params.get("service"))
        found = self._world.find(full_name)
        refusal = self._refusal(caller, found, writes=writes)
        if refusal is not None or found is None:
            return refusal or _say(404, "Repository not found."), caller
        if found.full_name.lower() != full_name.lower():
            query = f"?{request.url.query}" if request.url.query else ""
            location = f"{found.web(self._world.links)}.git/{rest}{query}"
            return _say(301, "Moved", {"location": location}), caller
        if rest == "git-receive-pack" and caller.account is not None:
            return await self._receive(request, found, rest, caller), caller
        return await http_backend.serve(request, found.git.folder, rest), caller

    def _refusal(self, caller: Caller, repository: Repository | None, *, writes: bool) -> Response | None:
        if caller.kind == "none" and (repository is None or repository.private or writes):
            # What does not exist asks for a password as well, so that nobody learns what does.
            return _say(401, "Authentication required", ASK)
        if repository is None or not caller.sees(repository):
            return _say(404, "Repository not found.")
        number = caller.installation_id
        if number is not None and self._world.installations[number].suspended_at is not None:
            return _say(403, "This installation has been suspended")
        if not caller.may(repository, "contents", "write" if writes else "read"):
            return _say(403, "Write access to repository not granted.")
        return None

    async def _receive(self, request: Request, repository: Repository, rest: str, caller: Caller) -> Response:
        """A push. What follows from it happens before the end of the answer, so that who pushed finds it done."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(repository.writing)
            before = dict(repository.git.refs)

            async def follow() -> None:
                assert caller.account is not None
                await pushes.refs_changed(self._world, repository, before, by=caller.account)

            stack.push_async_callback(follow)
            return await http_backend.serve(request, repository.git.folder, rest, stack.pop_all())


def _say(status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    return Response(words, status, headers, media_type="text/plain")
