"""The release's command: run once from the new image before its release starts, while the old one serves.

It is begun once: after a crash it is found and waited for, not begun again. A rollback does not run it: what it did to
a database cannot be taken back by doing it again."""

import asyncio
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from klepaas.domain.events import ReleaseCommandFinished
from klepaas.domain.project import ProjectSettings
from klepaas.domain.release import Release
from klepaas.errors import Rejected, ReleaseCommandFailed
from klepaas.operations.context import Context
from klepaas.targets.protocol import CommandSeen, RunsCommands, Target
from klepaas.workflows.engine import Run
from klepaas.workflows.outcome import OnRetry, until_done
from klepaas.workflows.scene import Scene

FIRST_REST_S = 0.05
REST_GROWTH = 1.5
LONGEST_REST_S = 1.0
"""How late its lines are seen. A short command costs a deployment no more than it takes."""
LINES_KEPT = 200
"""In the evidence of one that failed; all are in the build log."""


def refuse(target: Target, settings: ProjectSettings) -> None:
    """Errors: Rejected where there is a command and the target cannot run it."""
    if settings.release_command and not isinstance(target, RunsCommands):
        raise Rejected(
            f"The target {target.name} cannot run a release command.",
            hint="Take release_command out, and have the app do this when it starts.",
        )


@dataclass(frozen=True)
class ReleaseCommand:
    context: Context

    async def run(
        self, run: Run, scene: Scene, release: Release, variables: Mapping[str, str], on_retry: OnRetry
    ) -> None:
        """For a release that has one. Errors: ReleaseCommandFailed, with its last lines as evidence; Rejected as
        `refuse`."""
        refuse(scene.target, release.settings)
        target = scene.target
        assert isinstance(target, RunsCommands)
        if not run.deployment.has_run_command:
            began = time.monotonic()
            await until_done(lambda: target.begin_command(scene.app, release, variables), on_retry)
            await self._until_it_ended(run, scene, release, target, on_retry)
            took_s = round(time.monotonic() - began, 3)
            command = release.settings.release_command
            await run.record(ReleaseCommandFinished(release_id=release.id, command=command, took_s=took_s))
        # After the record: who takes over in between finds how it ended, or what is left of it.
        await until_done(lambda: target.end_command(scene.app, release), on_retry)

    async def _until_it_ended(
        self, run: Run, scene: Scene, release: Release, target: RunsCommands, on_retry: OnRetry
    ) -> None:
        shown, kept, rest = shlex.join(release.settings.release_command), list[str](), FIRST_REST_S
        log = self.context.logs.writer(run.deployment.id, run.deployment.fence)
        try:
            await log.write(f"klepaas: running the release command: {shown}")
            position = ""
            while True:
                look = partial(target.look_at_command, scene.app, release, after=position)
                seen = await until_done(look, on_retry)
                for line in seen.lines:
                    await log.write(line)
                kept, position = [*kept, *seen.lines][-LINES_KEPT:], seen.position
                if seen.exit_code is not None:
                    await log.write(f"klepaas: the release command ended with exit code {seen.exit_code}.")
                    break
                await asyncio.sleep(rest)
                rest = min(rest * REST_GROWTH, LONGEST_REST_S)
        finally:
            await log.close()
        if seen.exit_code != 0:
            raise _failed(shown, seen, kept)


def _failed(shown: str, seen: CommandSeen, lines: list[str]) -> ReleaseCommandFailed:
    why = " It took more memory than its limit." if seen.out_of_memory else ""
    return ReleaseCommandFailed(
        f"The release command `{shown}` ended with exit code {seen.exit_code}.{why} The release was not started.",
        hint="Its last lines are in the evidence, all of them in the build log.",
        evidence={"exit_code": seen.exit_code, "last_lines": lines},
    )
