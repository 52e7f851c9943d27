"""`/_control` on every port: what the Python surface does, for a stand-in in another process.

GET shows all that happened. POST takes any of: `{"faults": {…}}` (the whole of `Faults`) replaces what goes wrong;
`{"set": {"build_time_ms": …}}` sets times; `{"call": NAME, "repository": NAME, "arguments": {…}}` calls a method of
the stand-in or, with `repository`, of that repository, and answers `{"result": …}`. `advance` takes `seconds`."""

import asyncio
import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from klepaas.testing.ncp.faults import Faults

if TYPE_CHECKING:
    from klepaas.testing.ncp.server import StandInNcp

HERE = {
    *("create_repository", "create_image", "delete_image", "digest_of", "revoke_key"),
    *("start_build", "start_deploy", "start_pipeline", "advance", "wait_for_runs", "forget_requests"),
}

OF_A_REPOSITORY = {"head", "file", "messages", "commit"}

SETTABLE = {"build_time_ms", "deploy_time_ms"}

_LEFT_OUT = {"task", "decision", "ended", "settings", "fault"}


class Control:
    def __init__(self, ncp: "StandInNcp") -> None:
        self._ncp = ncp

    async def respond(self, request: Request) -> Response:
        if request.method == "GET":
            # In a thread, because it waits for this loop.
            return JSONResponse(await asyncio.to_thread(self._state))
        try:
            body = await request.json()
            if "faults" in body:
                self._ncp.faults.become(Faults.model_validate(body["faults"]))
            for name, value in body.get("set", {}).items():
                if name not in SETTABLE:
                    raise LookupError(f"there is no setting {name}")
                setattr(self._ncp, name, int(value))
            result = await self._call(body) if "call" in body else None
        except (ValidationError, ValueError, LookupError, TypeError, RuntimeError, TimeoutError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
        return JSONResponse({"result": plain(result)})

    async def _call(self, body: Mapping[str, Any]) -> Any:
        name, of, arguments = body["call"], body.get("repository"), dict(body.get("arguments", {}))
        if name not in (OF_A_REPOSITORY if of else HERE):
            raise LookupError(f"there is no call {name}")
        if name == "advance":
            arguments = {"by": timedelta(seconds=arguments["seconds"])}
        whom = self._ncp.repositories[of] if of else self._ncp
        result = await asyncio.to_thread(getattr(whom, name), **arguments)
        return {"id": result.id, "clone_url": result.clone_url} if name == "create_repository" else result

    def _state(self) -> dict[str, Any]:
        ncp = self._ncp
        return {
            "endpoints": {name: value for name, value in ncp.endpoints.items() if not name.endswith(_SECRET)},
            "faults": ncp.faults.model_dump(mode="json"),
            "repositories": {name: {"id": one.id, "refs": one.refs} for name, one in ncp.repositories.items()},
            "projects": {
                "build": {one.name: one.id for one in ncp.build_projects},
                "deploy": {one.name: one.id for one in ncp.deploy_projects},
                "pipeline": {one.name: one.id for one in ncp.pipeline_projects},
            },
            "builds": plain(ncp.builds),
            "deploys": plain(ncp.deploys),
            "pipelines": plain(ncp.pipelines),
            "images": ncp.images,
            "objects": [plain(found) for found in list(ncp.cluster.objects.values())],
            "requests": plain(ncp.requests),
        }


_SECRET = ("SECRET_KEY", "PASSWORD")


def plain(value: Any) -> Any:
    """As JSON: times as text, runs without what only this process can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in _LEFT_OUT}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple | set):
        return [plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
