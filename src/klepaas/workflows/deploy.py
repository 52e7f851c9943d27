"""Carry a deployment through its stages: fetch → build → release → verify → promote → retire.

This module holds the order, the deadlines and what happens when a stage gives up; `making.py` and `running.py`
hold what each stage does. `step` in the row is the checkpoint: after a crash the deployment goes on with the step
it names."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import structlog

from klepaas.domain.deployment import ABANDON, DONE, SETTLE, Deployment, Failure
from klepaas.domain.events import Event, RetryScheduled, StageFinished, StageStarted
from klepaas.domain.observation import Health
from klepaas.domain.status import Stage, Status
from klepaas.errors import DatabaseUnavailable, DeadlinePassed, KlepaasError, NotFound, NotHealthy, Unavailable
from klepaas.operations import rollback_lines
from klepaas.operations.ports.queue import Lost
from klepaas.settings import Deadlines
from klepaas.targets.protocol import KeepsRunning, Reached
from klepaas.workflows.abandon import Abandon
from klepaas.workflows.engine import Run
from klepaas.workflows.outcome import Outcome
from klepaas.workflows.scene import Scene
from klepaas.workflows.stages import Interrupted, within
from klepaas.workflows.steps import Steps

log = structlog.get_logger()

WAY: Mapping[Stage, str] = {
    Stage.FETCH: Stage.BUILD,
    Stage.BUILD: Stage.RELEASE,
    Stage.RELEASE: Stage.VERIFY,
    Stage.VERIFY: Stage.PROMOTE,
    Stage.PROMOTE: Stage.RETIRE,
    Stage.RETIRE: DONE,
}
"""Each stage and the step after it. Targets that push images somewhere put Stage.PUBLISH after the build."""

TRANSITIONS: tuple[str, ...] = (
    "claimed",
    *(f"{stage}.{moment}" for stage in WAY for moment in ("started", "done", "recorded")),
    "abandon.started",
    "abandon.done",
    "abandon.recorded",
    "settle.started",
    "ended",
)
"""Every point between two writes of a deployment. Targets add one after each outside effect of theirs."""

OUTSIDE_STAGES = frozenset({Stage.RELEASE, Stage.VERIFY, Stage.PROMOTE})
"""Stages after whose deadline something of ours may stand outside that nobody can look at: the outcome is unknown."""

SETTLE_EVERY = timedelta(seconds=10)
SETTLE_FOR_S = 60.0
ABANDON_FOR_S = 60.0


class Deploy:
    """`carry` takes a claimed deployment to its end, or lets go of it so that it is looked at again."""

    def __init__(
        self,
        steps: Steps,
        abandon: Abandon,
        scene: Callable[[Run], Awaitable[Scene]],
        deadlines: Deadlines,
        *,
        attempts: int,
        reached: Reached,
        deadlines_of: Mapping[str, Deadlines] | None = None,
    ) -> None:
        """`deadlines_of` are those of targets with their own."""
        self._steps, self._abandon, self._scene = steps, abandon, scene
        self._deadlines, self._attempts, self._reached = deadlines, attempts, reached
        self._deadlines_of = deadlines_of or {}

    async def carry(self, run: Run) -> None:
        await self._carry(run)
        if run.deployment.status.is_terminal:
            await self._steps.making.clear(run.deployment)
        if run.deployment.is_rollback and run.deployment.status is Status.SUCCEEDED:
            rollback_lines.completed(run.deployment)

    async def _carry(self, run: Run) -> None:
        try:
            scene = await self._scene(run)
        except NotFound as gone:
            await self._end_without_scene(run, gone)
            return
        if run.deployment.fence > self._attempts and run.deployment.step not in {ABANDON, SETTLE}:
            await run.record(*run.deployment.give_up(_stage_of(run), self._poisoned(run)))
        while run.deployment.step != DONE:
            match run.deployment.step:
                case step if step == ABANDON:
                    await self._give_back(run, scene)
                    return
                case step if step == SETTLE:
                    await self._settle(run, scene)
                    return
                case step:
                    await self._pass(run, scene, Stage(step))
        await self._reached("ended")

    async def _pass(self, run: Run, scene: Scene, stage: Stage) -> None:
        """Go through one stage, whose beginning was recorded with the claim or with the stage before."""
        await self._reached(f"{stage}.started")
        started = time.monotonic()
        try:
            deadline, too_late = self._deadline(run, scene, stage)
            outcome = await within(run, deadline, self._do(run, scene, stage), too_late=too_late)
        except (Lost, DatabaseUnavailable):
            raise
        except Interrupted:
            run.interrupted.clear()
            if run.deployment.live_at is None:
                await run.record(*run.deployment.give_up(stage, _cancelled(stage)))
            # Otherwise it is live already and too late to cancel: the stage is taken up again.
        except Exception as fault:
            await self._fail(run, scene, stage, fault)
        else:
            await self._reached(f"{stage}.done")
            await self._advance(run, stage, outcome, time.monotonic() - started)

    async def _advance(self, run: Run, stage: Stage, outcome: Outcome, took_s: float) -> None:
        """Record the end of the stage with the beginning of the next one, or the end of the deployment."""
        await run.record(*_ending(run.deployment, stage, outcome, took_s))
        await self._reached(f"{stage}.recorded")

    def _do(self, run: Run, scene: Scene, stage: Stage) -> Awaitable[Outcome]:
        async def on_retry(attempt: int, wait_s: float, reason: Unavailable) -> None:
            await run.record(
                RetryScheduled(
                    stage=stage, attempt=attempt, wait_s=round(wait_s, 2), code=reason.code, message=reason.message
                )
            )

        return self._steps.of(stage)(run, scene, on_retry)

    def _deadline(self, run: Run, scene: Scene, stage: Stage) -> tuple[timedelta, str]:
        """The stage's own deadline, cut short by that of the whole deployment until it is live; and what to say when it
        passes."""
        own, whole = self._own_deadline(run, scene, stage), self._for(scene).deployment
        of_stage = f"The stage {stage} did not finish within {own.total_seconds():g} s."
        if run.deployment.live_at is not None or run.deployment.started_at is None:
            return own, of_stage
        left = run.deployment.started_at + whole - scene.now()
        if left >= own:
            return own, of_stage
        of_whole = f"The deployment was not live within {whole.total_seconds():g} s; it was in its stage {stage}."
        return max(left, timedelta(0)), of_whole

    def _own_deadline(self, run: Run, scene: Scene, stage: Stage) -> timedelta:
        deadlines = self._for(scene)
        if stage is not Stage.VERIFY:
            found: timedelta = getattr(deadlines, stage.value)
            return found
        asked = timedelta(seconds=scene.settings(run.deployment).health_timeout_s)
        return max(asked, deadlines.verify) if deadlines.verify is not None else asked

    def _for(self, scene: Scene) -> Deadlines:
        return self._deadlines_of.get(scene.project.target, self._deadlines)

    async def _fail(self, run: Run, scene: Scene, stage: Stage, fault: Exception) -> None:
        error = _explained(fault)
        if stage is Stage.RETIRE:
            # The new release is live; the old one that could not be retired is the reconciler's from now on.
            log.warning("retire_failed", code=error.code, reason=error.message, exc_info=fault)
            detail = f"{error.message} It is cleaned up later."
            await self._advance(run, stage, Outcome(detail=detail), 0.0)
            return
        if not isinstance(fault, KlepaasError):
            log.error("stage_crashed", stage=stage, exc_info=fault)
        away = isinstance(error, DeadlinePassed | Unavailable)
        if away and stage in OUTSIDE_STAGES and self._steps.running.may_go_on(run, scene):
            log.warning("deployment_status_polling_timeout", stage=stage)
            message = f"{error.message} The target may still carry it out; klepaas looks again until it is known."
            await run.record(*run.deployment.lose_sight(stage, code=error.code, message=message))
            return
        if away and stage in OUTSIDE_STAGES and not await scene.can_be_asked():
            await run.record(
                *run.deployment.lose_sight(
                    stage,
                    code=error.code,
                    message=f"{error.message} The target cannot be asked; klepaas looks again until it can.",
                )
            )
            return
        limit_s = self._own_deadline(run, scene, stage).total_seconds()
        if isinstance(error, DeadlinePassed) and (better := self._steps.running.too_late(run, limit_s)):
            error = NotHealthy(better, hint="Its last lines and the answers to the probe are in the evidence.")
        evidence = {**(await self._steps.running.evidence(run, scene, stage)), **error.evidence}
        failure = Failure(
            stage=stage,
            code=error.code,
            message=error.message,
            hint=error.hint,
            evidence=evidence,
            ends_as=Status.FAILED,
        )
        await run.record(*run.deployment.give_up(stage, failure))

    async def _give_back(self, run: Run, scene: Scene) -> None:
        """Undo what was started, then write the end. What cannot be undone now is the reconciler's."""
        await self._reached("abandon.started")
        await self._abandon.undo(run, scene, timeout=timedelta(seconds=ABANDON_FOR_S))
        await self._steps.running.collect_images(run, scene, timeout=timedelta(seconds=ABANDON_FOR_S))
        await self._reached("abandon.done")
        await run.record(*run.deployment.end_abandoned())
        await self._reached("abandon.recorded")

    async def _settle(self, run: Run, scene: Scene) -> None:
        """Look at a deployment whose outcome is unknown; end it by what is seen, or look again later."""
        await self._reached("settle.started")
        if isinstance(scene.target, KeepsRunning):
            await self._settle_by_looking(run, scene, scene.target)
            return
        seen = await self._steps.running.settled(scene, run, timeout=timedelta(seconds=SETTLE_FOR_S))
        if seen is None:
            await run.look_again_in(SETTLE_EVERY)
        elif seen.is_served_by(run.deployment.release_id):
            if run.deployment.live_at is None:
                await run.record(await self._steps.running.seen_live(scene, run, seen))
            await run.record(*run.deployment.succeed())
        else:
            failure = run.deployment.failure
            assert failure is not None
            await run.record(*run.deployment.give_up(Stage(failure.stage), failure))
            await self._give_back(run, scene)

    async def _settle_by_looking(self, run: Run, scene: Scene, target: KeepsRunning) -> None:
        """The same for a target that moves its traffic itself."""
        running = self._steps.running
        seen = await running.outcome(scene, run, target, timeout=timedelta(seconds=SETTLE_FOR_S))
        if seen is None:
            await run.look_again_in(SETTLE_EVERY)
        elif seen.health is Health.HEALTHY:
            if run.deployment.live_at is None:
                await run.record(*await running.proven(scene, run, target, seen))
            await run.record(*run.deployment.succeed())
        else:
            failure = run.deployment.failure
            assert failure is not None
            told = replace(
                failure,
                code=NotHealthy.code,
                message=f"The deployment turned out to have failed: {seen.detail}",
                evidence={**failure.evidence, "observation": seen.as_dict()},
            )
            await run.record(*run.deployment.give_up(Stage(failure.stage), told))
            await self._give_back(run, scene)

    async def _end_without_scene(self, run: Run, gone: NotFound) -> None:
        """End a deployment nobody can carry, rather than take it up for ever. What it started is the reconciler's."""
        failure = Failure(
            stage=_stage_of(run),
            code=gone.code,
            message=gone.message,
            hint=gone.hint,
            evidence={},
            ends_as=Status.FAILED,
        )
        if run.deployment.failure is None:
            await run.record(*run.deployment.give_up(_stage_of(run), failure))
        await run.record(*run.deployment.end_abandoned())

    def _poisoned(self, run: Run) -> Failure:
        return Failure(
            stage=_stage_of(run),
            code="too_many_attempts",
            message=f"klepaas died {run.deployment.fence - 1} times while it carried this deployment and gave it up.",
            hint="Look into the log of klepaas, then deploy again.",
            evidence={"attempts": run.deployment.fence - 1},
            ends_as=Status.FAILED,
        )


def _ending(deployment: Deployment, stage: Stage, outcome: Outcome, took_s: float) -> list[Event]:
    following = WAY[stage]
    finished = StageFinished(stage=stage, took_s=round(took_s, 4), next_step=following, detail=outcome.detail)
    if outcome.failure is not None:
        # The stage did its work and the work says no: what it saw is recorded with the reason.
        return [*outcome.events, *deployment.give_up(stage, outcome.failure)]
    if following == DONE:
        return [*outcome.events, finished, *deployment.succeed()]
    events = [*outcome.events, finished, StageStarted(stage=Stage(following), fence=deployment.fence)]
    if outcome.following is not None:
        events += _ending(deployment, Stage(following), outcome.following, 0.0)
    return events


def _stage_of(run: Run) -> Stage:
    return run.deployment.stage or Stage.FETCH


def _cancelled(stage: Stage) -> Failure:
    return Failure(
        stage=stage, code="cancelled", message="It was cancelled.", hint="", evidence={}, ends_as=Status.CANCELLED
    )


def _explained(fault: Exception) -> KlepaasError:
    if isinstance(fault, KlepaasError):
        return fault
    return KlepaasError(
        f"klepaas met a fault of its own ({type(fault).__name__}).",
        hint="The log of klepaas has the details; please report them.",
    )
