"""Wait for one deployment, by its id: through lost connections and restarts of the server, to its end."""

import asyncio
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from klepaas.client import Client
from klepaas.errors import KlepaasError, Unavailable
from klepaas.interfaces.cli import outcome, words
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.rail import Rail
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.server import PATIENCE

REST_S = 0.5
LAST_LINES_WITHIN_S = 2.0
"""How long the end of a build log may take to arrive after the build."""


@dataclass(frozen=True)
class Wishes:
    """How the user wants to wait. `timeout` None: to the end."""

    timeout: timedelta | None = None
    as_events: bool = False
    """`--json --watch`: stdout has one event a line and nothing else."""


def wishes(screen: Screen, timeout: str | None, *, watch: bool) -> Wishes:
    """Errors: Invalid for a malformed duration."""
    return Wishes(
        timeout=words.parse_duration(timeout) if timeout is not None else None, as_events=watch and screen.as_json
    )


@dataclass
class Attendance:
    """One deployment being waited for. `last` is what was last known of it."""

    client: Client
    last: dict[str, Any]
    screen: Screen

    async def until_over(self, wishes: Wishes) -> ExitCode:
        """Wait, show, report. Errors: KlepaasError when the server refuses or stays away."""
        timeout_s = wishes.timeout.total_seconds() if wishes.timeout is not None else None
        try:
            async with asyncio.timeout(timeout_s):
                await self._watch(wishes)
                await self._look()
        except TimeoutError:
            self._leave("Waited long enough; the deployment goes on.", wishes)
            return ExitCode.TIMED_OUT
        except asyncio.CancelledError:
            self._leave("Detached; the deployment goes on.", wishes)
            raise
        if not wishes.as_events:
            self.screen.json(self.last)
        return outcome.report(self.screen, self.last)

    async def _watch(self, wishes: Wishes) -> None:
        """Show every event until the deployment has ended or nobody can say how it ended."""
        rail = Rail(self.screen)
        builds: asyncio.Task[None] | None = None
        try:
            with rail.shown():
                async with aclosing(self.client.follow(self.last["id"])) as events:
                    async for message in events:
                        if wishes.as_events:
                            self.screen.json_line(message.data)
                        rail.event(message.data)
                        if builds is None and rail.progress.is_building and self._shows_build():
                            builds = asyncio.create_task(self._follow_build(rail))
                        if rail.progress.lost_sight and await self._is_unknown():
                            break
                if builds is not None and self.screen.verbose:
                    await asyncio.wait([builds], timeout=LAST_LINES_WITHIN_S)
        finally:
            if builds is not None:
                builds.cancel()

    def _shows_build(self) -> bool:
        return not self.screen.as_json and not self.screen.quiet and (self.screen.is_live or self.screen.verbose)

    async def _follow_build(self, rail: Rail) -> None:
        """Show the build log; it is an extra, so nothing that happens to it ends the waiting."""
        with suppress(KlepaasError):
            async with aclosing(self.client.follow_build_log(self.last["id"])) as lines:
                async for message in lines:
                    if not message.is_last:
                        rail.build_line(message.data.get("text", ""))

    async def _is_unknown(self) -> bool:
        """Whether the outcome is unknown still, and not only in the part of the history that was just read."""
        await self._look()
        return bool(self.last["status"] == "unknown")

    async def _look(self) -> None:
        """Read the deployment as it is now, also through a restart of the server."""
        since = time.monotonic()
        while True:
            try:
                self.last = await self.client.deployment(self.last["id"])
            except Unavailable:
                if time.monotonic() - since > PATIENCE.total_seconds():
                    raise
            else:
                return
            await asyncio.sleep(REST_S)

    def _leave(self, sentence: str, wishes: Wishes) -> None:
        deployment_id = self.last["id"]
        if not wishes.as_events:
            self.screen.json(self.last)
        self.screen.say(sentence)
        self.screen.say(f"Attach again: klepaas status {deployment_id} --watch")
        self.screen.say(f"Build log:    klepaas logs --follow {deployment_id}")
