"""`/_control`: what the Python surface does, for a stand-in in another process. GET shows, POST sets faults or acts.

`{"faults": {…}}` (the whole of `Faults`) replaces what goes wrong; `{"call": NAME, "repository": "owner/name",
"arguments": {…}}` calls a method of the stand-in or, with `repository`, of that repository, and answers
`{"result": …}`."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from klepaas.testing.github.faults import Faults

if TYPE_CHECKING:
    from klepaas.testing.github.server import StandInGitHub

HERE = {
    *("create_repository", "install", "uninstall", "suspend", "unsuspend", "choose", "create_token"),
    *("send_webhooks_to", "ping", "wait_for_webhooks", "create_installation_token"),
}

OF_A_REPOSITORY = {
    *("head", "commit", "open_pull", "merge", "delete_branch", "force", "tag", "publish_release", "rename"),
    *("report", "check_run", "add_hook", "statuses", "deployments", "comments", "pull", "log", "file"),
}


class Control:
    def __init__(self, github: "StandInGitHub") -> None:
        self._github = github

    async def respond(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(self._state())
        try:
            body = await request.json()
            if "faults" in body:
                self._github.faults.become(Faults.model_validate(body["faults"]))
            result = await self._call(body) if "call" in body else None
        except (ValidationError, ValueError, LookupError, TypeError, AssertionError, RuntimeError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
        return JSONResponse({"result": _plain(result)})

    async def _call(self, body: Mapping[str, Any]) -> Any:
        name, of = body["call"], body.get("repository")
        if name not in (OF_A_REPOSITORY if of else HERE):
            raise LookupError(f"there is no call {name}")
        whom = self._github.repository(of) if of else self._github
        # In a thread, because these calls wait for this loop.
        result = await asyncio.to_thread(getattr(whom, name), **body.get("arguments", {}))
        return {"id": result.id, "full_name": result.full_name} if name == "create_repository" else result

    def _state(self) -> dict[str, Any]:
        return {
            "url": self._github.url,
            "api_url": self._github.api_url,
            "app_id": self._github.app.app_id,
            "slug": self._github.app.slug,
            "faults": self._github.faults.model_dump(mode="json"),
            "deliveries": [delivery.json(whole=False) for delivery in self._github.deliveries],
            "requests": [dataclasses.asdict(request) for request in self._github.requests],
            "repositories": {repo.full_name: repo.id for repo in self._github.world.repositories.values()},
            "installations": {i.account.login: i.id for i in self._github.world.installations.values()},
        }


def _plain(value: Any) -> Any:
    """As JSON: times and accounts as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
