"""Stand-ins of other people's services as children of this process, for the demos: each on free ports."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from klepaas import processes
from klepaas.errors import Unavailable

STARTS_WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """`about` is its first word: addresses, keys, and `control`, where it is told what people do there."""

    name: str
    """Whose place it takes."""
    about: Mapping[str, Any] = field(repr=False)
    http: httpx.AsyncClient = field(repr=False)

    async def do(self, call: str, repository: str = "", **arguments: Any) -> Any:
        """What somebody does there, or in one repository there. Errors: Unavailable."""
        body = {"call": call, "repository": repository, "arguments": arguments}
        return (await self._told("POST", f"to {call}", json=body))["result"]

    async def state(self) -> Mapping[str, Any]:
        """Everything that happened there. Errors: Unavailable."""
        return await self._told("GET", "to show itself")

    async def _told(self, method: str, what: str, **request: Any) -> dict[str, Any]:
        try:
            answer = await self.http.request(method, self.about["control"], **request)
            told: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            reason = {"reason": str(error)}
            raise Unavailable(f"The stand-in of {self.name} does not answer.", evidence=reason) from error
        if answer.is_error:
            raise Unavailable(f"The stand-in of {self.name} refused {what}.", evidence={"said": told.get("error")})
        return told


Serving = AbstractAsyncContextManager[StandIn]


@asynccontextmanager
async def serving(
    name: str, program: str, folder: Path, environment: Mapping[str, str], options: Sequence[str] = ()
) -> AsyncIterator[StandIn]:
    """Run `klepaas.testing.PROGRAM` until the block is left; what it has is in `folder`. Errors: Unavailable."""
    argv = [sys.executable, "-m", f"klepaas.testing.{program}", "--stay", "--folder", str(folder), *options]
    async with processes.stream(argv, env=environment) as (lines, _):
        about = await _first_word(name, lines)
        reader = asyncio.create_task(_drain(lines))
        # It is on this machine and speaks plain HTTP: no proxy of the environment, no certificates to read.
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as http:
            yield StandIn(name=name, about=about, http=http)
        reader.cancel()


async def _first_word(name: str, lines: AsyncIterator[str]) -> dict[str, Any]:
    said = ""
    with suppress(TimeoutError, ValueError):
        async with asyncio.timeout(STARTS_WITHIN_S):
            async for said in lines:
                found: dict[str, Any] = json.loads(said)
                return found
    raise Unavailable(f"The stand-in of {name} did not start.", evidence={"said": said[:500]})


async def _drain(lines: AsyncIterator[str]) -> None:
    async for _ in lines:
        pass
