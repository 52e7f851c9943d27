"""A stand-in GitHub as a child of this process, for the demo: its API, its git and its webhooks on a free port."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from klepaas import processes
from klepaas.errors import Unavailable

STARTS_WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class StandIn:
    url: str
    app_id: str
    private_key: str = field(repr=False)
    """Of its App, PEM."""
    webhook_secret: str = field(repr=False)
    control: str
    """Where it is told what people do there."""
    http: httpx.AsyncClient = field(repr=False)

    @property
    def settings(self) -> Mapping[str, str]:
        """What a klepaas has to be told to belong to its App."""
        return {
            "KLEPAAS_GITHUB_URL": self.url,
            "KLEPAAS_GITHUB_APP_ID": self.app_id,
            "KLEPAAS_GITHUB_APP_PRIVATE_KEY": self.private_key,
            "KLEPAAS_GITHUB_APP_WEBHOOK_SECRET": self.webhook_secret,
        }

    async def do(self, call: str, repository: str = "", **arguments: Any) -> Any:
        """What somebody does at GitHub, or in one repository there. Errors: Unavailable."""
        body = {"call": call, "repository": repository, "arguments": arguments}
        try:
            answer = await self.http.post(self.control, json=body)
            told = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable("The stand-in GitHub does not answer.", evidence={"reason": str(error)}) from error
        if answer.is_error:
            raise Unavailable(f"The stand-in GitHub refused to {call}.", evidence={"said": told.get("error")})
        return told["result"]


@asynccontextmanager
async def serving(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[StandIn]:
    """Run one until the block is left; its repositories are in `folder`. Errors: Unavailable."""
    argv = [sys.executable, "-m", "klepaas.testing.github", "--stay", "--folder", str(folder)]
    async with processes.stream(argv, env=environment) as (lines, _):
        about = await _first_word(lines)
        reader = asyncio.create_task(_drain(lines))
        # It is on this machine and speaks plain HTTP: no proxy of the environment, no certificates to read.
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as http:
            yield StandIn(
                url=about["url"],
                app_id=str(about["app_id"]),
                private_key=about["private_key_pem"],
                webhook_secret=about["webhook_secret"],
                control=about["control"],
                http=http,
            )
        reader.cancel()


async def _first_word(lines: AsyncIterator[str]) -> dict[str, Any]:
    said = ""
    with suppress(TimeoutError, ValueError):
        async with asyncio.timeout(STARTS_WITHIN_S):
            async for said in lines:
                found: dict[str, Any] = json.loads(said)
                return found
    raise Unavailable("The stand-in GitHub did not start.", evidence={"said": said[:500]})


async def _drain(lines: AsyncIterator[str]) -> None:
    async for _ in lines:
        pass
