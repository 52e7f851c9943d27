"""Undo what a deployment that did not make it had started, so that the world is as it was before."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from klepaas.builders.protocol import BuildsElsewhere
from klepaas.domain.events import TrafficReturned, TrafficShiftDecided
from klepaas.domain.release import Release
from klepaas.errors import DatabaseUnavailable, KlepaasError
from klepaas.operations.context import Context
from klepaas.operations.ports.apps import AppState
from klepaas.targets.protocol import KeepsRunning, ShiftsTraffic
from klepaas.workflows.engine import Run
from klepaas.workflows.scene import Scene

log = structlog.get_logger()


@dataclass(frozen=True)
class Abandon:
    """What cannot be undone now (the target is away) is left to the reconciler, which follows the same record."""

    context: Context

    async def undo(self, run: Run, scene: Scene, *, timeout: timedelta) -> None:
        """Give traffic back and end the new release. Idempotent. Errors: Lost."""
        state = await self.context.apps.get(scene.app.project_id, scene.app.environment)
        if state is not None and state.live_deployment_id == run.deployment.id:
            await run.record(
                TrafficReturned(
                    release_id=run.deployment.release_id or "",
                    previous_release_id=state.previous_release_id,
                    previous_deployment_id=await self._live_before(run),
                    reason=run.deployment.failure.message if run.deployment.failure else "",
                )
            )
            state = await self.context.apps.get(scene.app.project_id, scene.app.environment)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                builder = self.context.builder_of(scene.project.target)
                if isinstance(builder, BuildsElsewhere):
                    await builder.end(scene.app, run.deployment.id)
                await self._restore(run, scene, state)
        except DatabaseUnavailable:
            raise  # the target could be asked: taken up again, it is all undone
        except (KlepaasError, TimeoutError) as fault:
            log.warning("abandon_incomplete", reason=str(fault))
        except Exception:
            # A fault of ours. To undo it again and again would keep the app from every other deployment.
            log.exception("abandon_incomplete")

    async def _restore(self, run: Run, scene: Scene, state: AppState | None) -> None:
        live = await self._release(state.live_release_id if state else None)
        ours = await self._release(run.deployment.release_id)
        door = scene.target
        if isinstance(door, ShiftsTraffic) and ours is not None and (live is None or live.id != ours.id):
            if live is not None:
                await door.shift(scene.app, live)
            elif run.deployment.stage == "promote":
                await door.close(scene.app)
        if ours is not None and (live is None or live.id != ours.id):
            await scene.target.remove(scene.app, ours)
            if state is not None and state.warm_release_id == ours.id:
                await self.context.apps.warm(scene.app, None, None)
        if isinstance(door, KeepsRunning) and (live is None or ours is None or live.id != ours.id):
            await door.restore(scene.app, live, deployment_id=run.deployment.id)

    async def _release(self, release_id: str | None) -> Release | None:
        return await self.context.releases.get(release_id) if release_id else None

    async def _live_before(self, run: Run) -> str | None:
        """The deployment that was live when this one decided to shift traffic."""
        history = await self.context.deployments.events(run.deployment.id)
        decisions = [each.event for each in history if isinstance(each.event, TrafficShiftDecided)]
        return decisions[-1].previous_deployment_id if decisions else None
