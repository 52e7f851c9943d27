"""What demos do with a klepaas: send a deployment, or wait for the one that a merge led to."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from klepaas.client import Client
from klepaas.errors import NotHealthy
from klepaas.interfaces.cli import child
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.last_word import DidNotGetLive
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.showcase import NAME, WithoutData, until_interrupted_or_ended
from klepaas.interfaces.cli.submission import Send, submit
from klepaas.interfaces.cli.waiting import Attendance, Wishes

ARRIVES_WITHIN_S = 30.0
"""A webhook leads to a deployment within a second; the branch watch would find the merge within a minute."""


async def until_looked_at(screen: Screen, server: child.Child) -> None:
    """Until Ctrl-C. Errors: Unavailable when the server ended by itself."""
    screen.say("Ctrl-C ends it and takes everything away.")
    await until_interrupted_or_ended(server)
    if server.process.returncode is not None:
        raise server.fault("The server ended by itself.")
    screen.say("Taking everything away …")


@dataclass(frozen=True)
class Showing:
    client: Client
    screen: Screen

    async def put_live(self, send: Send) -> None:
        """Errors: KlepaasError, DidNotGetLive."""
        _see(await submit(self.client, self._quieter, send, key=None, wishes=Wishes()))

    async def follow(self, deployment: dict[str, Any]) -> None:
        """Errors: KlepaasError, DidNotGetLive."""
        _see(await Attendance(self.client, deployment, self._quieter).until_over(Wishes()))

    async def deployment_of(self, commit: str) -> dict[str, Any]:
        """The one the webhook led to. Errors: NotHealthy when none came."""
        deadline = time.monotonic() + ARRIVES_WITHIN_S
        while time.monotonic() < deadline:
            listed: list[dict[str, Any]] = (await self.client.deployments(NAME))["deployments"]
            if found := [each for each in listed if each["commit_sha"] == commit]:
                self.screen.say(f"The webhook arrived: {found[0]['trigger']} by {found[0]['actor']}.")
                return found[0]
            await asyncio.sleep(0.1)
        raise NotHealthy("The merge led to no deployment.", hint="What was decided about it: klepaas github deliveries")

    @property
    def _quieter(self) -> Screen:
        return WithoutData(quiet=self.screen.quiet, verbose=self.screen.verbose)


def _see(code: ExitCode) -> None:
    if code is not ExitCode.LIVE:
        raise DidNotGetLive(code)
