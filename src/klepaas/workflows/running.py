"""The steps that bring a release to life: release, verify, promote, retire.

Each may run twice: it looks before it makes. Traffic moves only after the new release was seen healthy."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog

from klepaas.domain.deployment import Deployment, Failure
from klepaas.domain.events import (
    Event,
    ReleaseCreated,
    ReleaseHealthy,
    ReleaseRetired,
    ReleaseStarted,
    SwitchCertified,
    TrafficShiftDecided,
    TrafficShifted,
)
from klepaas.domain.observation import Health, Observation, SwitchCertificate, TrafficAnswer
from klepaas.domain.release import Release
from klepaas.domain.status import Stage, Status
from klepaas.errors import ImageMissing, NotFound, Outside
from klepaas.operations.context import Context
from klepaas.targets.protocol import KeepsRunning, KeepsWarm, ShiftsTraffic
from klepaas.workflows.engine import Run
from klepaas.workflows.outcome import OnRetry, Outcome, until_done
from klepaas.workflows.prober import Prober
from klepaas.workflows.release_command import ReleaseCommand
from klepaas.workflows.scene import Scene
from klepaas.workflows.stages import together
from klepaas.workflows.verification import GOOD_AT_ONCE, GOOD_IN_A_ROW, Verification

log = structlog.get_logger()

TAIL_LINES = 200
DEFAULT_PORT = 8080
LOOK_EVERY_S = 0.01
DRAIN_LOOK_S = 0.1
SETTLE_LOOK_S = 0.25
LONGEST_IDLE_S = 3.0
"""Longer than front doors keep an unused connection to a release."""
DRAINED_LOOKS = 3
"""A connection may be opened between two looks by a request that chose the old release just before the switch."""


@dataclass
class Running:
    context: Context
    warm_for: timedelta
    """How long the previous release stays frozen for a rollback."""
    _verifications: dict[tuple[str, int], Verification] = field(default_factory=dict)

    async def release(self, run: Run, scene: Scene, on_retry: OnRetry) -> Outcome:
        release = await self._release(run, scene)
        if run.deployment.release_id is None:
            created = ReleaseCreated(
                release_id=release.id,
                number=release.number,
                image_digest=release.image_digest,
                commit_sha=release.commit_sha,
            )
            await run.record(created)
        variables = await self.context.releases.variables(release.id)
        if release.settings.release_command and not run.deployment.is_rollback:
            # One that was given up may still run its command where it could not be undone: never two at once.
            before = scene.before
            known = {release.id, before.live_release_id, before.previous_release_id, before.warm_release_id}
            await until_done(lambda: self._sweep(scene, keep=known), on_retry)
            await ReleaseCommand(self.context).run(run, scene, release, variables, on_retry)
        door, deployment_id = scene.target, run.deployment.id

        async def apply() -> None:
            await scene.target.apply(scene.app, release, variables, deployment_id=deployment_id)

        if isinstance(door, ShiftsTraffic):
            # Opened while the release starts: a new app's front door takes as long as its container.
            await together(
                until_done(apply, on_retry),
                until_done(lambda: door.open(scene.app, scene.project.settings.hosts), on_retry),
            )
        else:
            await until_done(apply, on_retry)
        warm = _was_warm(scene, release)
        started = ReleaseStarted(release_id=release.id, warm=warm)
        proven = None
        if isinstance(door, ShiftsTraffic):
            verification = self._verification(run, scene, release)
            # While the end of this stage is recorded. A release that was healthy when it was frozen mostly is so at
            # once, and then both stages end here.
            verification.begin()
            if warm and (seen := await verification.good_at_once()) is not None:
                proven = self._proven_healthy(run, scene, release, seen)
        return Outcome(events=(started,), detail=f"release {release.number}", following=proven)

    async def verify(self, run: Run, scene: Scene, on_retry: OnRetry) -> Outcome:
        release = await self._known_release(run.deployment)
        verification = self._verifications.get(_turn(run)) or self._verification(run, scene, release)
        return self._proven_healthy(run, scene, release, await verification.healthy())

    def _proven_healthy(self, run: Run, scene: Scene, release: Release, seen: Observation) -> Outcome:
        """The outcome of the stage verify. Errors: ImageMissing when it is not the release that was seen."""
        verification = self._verifications.pop(_turn(run))
        if seen.image_digest != release.image_digest:
            raise ImageMissing(
                f"What runs as release {release.number} is {seen.image_digest}, not {release.image_digest}.",
                hint="Somebody replaced it; deploy again.",
            )
        healthy = ReleaseHealthy(release_id=release.id, observation=seen.as_dict(), probes=verification.probes)
        events: tuple[Event, ...] = (healthy, *_decision(scene, run.deployment, release))
        if isinstance(scene.target, KeepsRunning):
            # It has moved its traffic already: what was seen is the proof.
            events += (_shifted(scene, scene.target, release, seen),)
        return Outcome(events=events, detail=f"{verification.probes} probes")

    async def promote(self, run: Run, scene: Scene, on_retry: OnRetry) -> Outcome:
        release = await self._known_release(run.deployment)
        door = scene.target
        if not isinstance(door, ShiftsTraffic):
            return Outcome(detail="skipped: the target moves traffic itself")
        async with Prober(scene, door, release.settings.health_path) as prober:
            await until_done(lambda: door.shift(scene.app, release), on_retry)
            answer = await until_done(lambda: self._answered(scene, door, release), on_retry)
            address = await until_done(lambda: door.open(scene.app, scene.project.settings.hosts), on_retry)
            shifted = TrafficShifted(release_id=release.id, evidence=answer.as_dict(), urls=address.urls)
            if run.deployment.previous_release_id is None:
                return Outcome(events=(shifted,), detail="first release: there was nothing to switch from")
            await run.record(shifted)
            certificate = await prober.certificate(answer.at)
        return Outcome(
            events=(SwitchCertified(certificate=certificate.as_dict()),),
            detail=f"{certificate.failed} of {certificate.requests} probe requests failed",
            failure=_over_budget(certificate, scene),
        )

    async def retire(self, run: Run, scene: Scene, on_retry: OnRetry) -> Outcome:
        state = await self.context.apps.get(scene.app.project_id, scene.app.environment)
        live = run.deployment.release_id
        if state is None or state.live_release_id != live:
            return Outcome(detail="nothing to retire")
        events: list[Event] = []
        if state.previous_release_id and state.previous_release_id != live:
            old = await self.context.releases.get(state.previous_release_id)
            if old is not None:
                events.append(await self._retire(scene, old))
        await self._sweep(scene, keep={live, state.previous_release_id, await self._warm(scene)})
        await self._collect_images(scene, live)
        return Outcome(events=tuple(events))

    async def collect_images(self, run: Run, scene: Scene, *, timeout: timedelta) -> None:
        """After a deployment that did not make it: the images of those that failed before it are of no use. Its own
        stays for the next try. What cannot be done now is done with the next deployment."""
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                state = await self.context.apps.get(scene.app.project_id, scene.app.environment)
                live = state.live_release_id if state else None
                await self._collect_images(scene, live, also=run.deployment.image_digest)
        except (Outside, TimeoutError) as fault:
            log.info("images_not_collected", app=scene.app.name, reason=str(fault) or type(fault).__name__)
        except Exception:
            log.exception("images_not_collected", app=scene.app.name)  # no reason not to end

    async def evidence(self, run: Run, scene: Scene, stage: Stage) -> dict[str, Any]:
        """What can be had about a failed release: the last observation, the probe's answers, its last lines."""
        if stage not in {Stage.RELEASE, Stage.VERIFY, Stage.PROMOTE} or run.deployment.release_id is None:
            return {}
        found: dict[str, Any] = {}
        if verification := self._verifications.pop(_turn(run), None):
            found |= verification.evidence()
        release = await self.context.releases.get(run.deployment.release_id)
        if release is not None:
            with suppress(Outside, TimeoutError):
                async with asyncio.timeout(5):
                    found["last_lines"] = list(await scene.target.tail(scene.app, release, TAIL_LINES))
        return found

    def too_late(self, run: Run, limit_s: float) -> str | None:
        """The better sentence for a deadline that passed while waiting for health."""
        verification = self._verifications.get(_turn(run))
        return verification.too_late(limit_s) if verification else None

    def may_go_on(self, run: Run, scene: Scene) -> bool:
        """Whether the target may still carry out what it was told, after our deadline."""
        verification = self._verifications.get(_turn(run))
        return isinstance(scene.target, KeepsRunning) and (verification is None or verification.is_open)

    async def settled(self, scene: Scene, run: Run, *, timeout: timedelta) -> TrafficAnswer | None:
        """What answers now at the front door of an app whose deployment is unknown; None: still nobody can say.

        A release that is to be live and does not serve yet is given the whole timeout: it may have to start again."""
        seen, wanted = None, run.deployment.release_id
        with suppress(Outside, TimeoutError):
            async with asyncio.timeout(timeout.total_seconds()):
                await scene.target.check()
                state = await self.context.apps.get(scene.app.project_id, scene.app.environment)
                door = scene.target
                if state is None or not isinstance(door, ShiftsTraffic):
                    return None
                path, is_to_be_live = scene.settings(run.deployment).health_path, state.live_release_id == wanted
                if is_to_be_live:
                    await door.shift(scene.app, await self._known_release(run.deployment))
                seen = await door.answering(scene.app, path)
                while is_to_be_live and not seen.is_served_by(wanted):
                    await asyncio.sleep(SETTLE_LOOK_S)
                    seen = await door.answering(scene.app, path)
        if seen is None or seen.is_served_by(wanted):
            return seen
        return seen if await scene.can_be_asked() else None  # gone again: silence proves nothing

    async def outcome(self, scene: Scene, run: Run, target: KeepsRunning, *, timeout: timedelta) -> Observation | None:
        """What became of a deployment whose outcome is unknown, on a target that goes on by itself; None: nobody can
        say yet."""
        if run.deployment.release_id is None:
            return Observation(at=scene.now(), health=Health.ABSENT, detail="Nothing was started.")
        release = await self._known_release(run.deployment)
        with suppress(Outside, TimeoutError):
            async with asyncio.timeout(timeout.total_seconds()):
                seen = await target.settle(scene.app, release, deployment_id=run.deployment.id)
                return None if seen.health in {Health.STARTING, Health.UNKNOWN} else seen
        return None

    async def seen_live(self, scene: Scene, run: Run, seen: TrafficAnswer) -> TrafficShifted:
        """What is to be recorded of a release that answers after all."""
        door, hosts = scene.target, scene.project.settings.hosts
        urls = (await door.address(scene.app, hosts)).urls if isinstance(door, ShiftsTraffic) else ()
        return TrafficShifted(release_id=run.deployment.release_id or "", evidence=seen.as_dict(), urls=urls)

    async def proven(self, scene: Scene, run: Run, target: KeepsRunning, seen: Observation) -> tuple[Event, ...]:
        """What is to be recorded of a release that turned out to be live."""
        release = await self._known_release(run.deployment)
        return (*_decision(scene, run.deployment, release), _shifted(scene, target, release, seen))

    def _verification(self, run: Run, scene: Scene, release: Release) -> Verification:
        is_proven_once = _was_warm(scene, release) or isinstance(scene.target, KeepsRunning)
        enough = GOOD_AT_ONCE if is_proven_once else GOOD_IN_A_ROW
        made = Verification(scene, release, enough, deployment_id=run.deployment.id)
        self._verifications[_turn(run)] = made
        return made

    async def _release(self, run: Run, scene: Scene) -> Release:
        deployment = run.deployment
        if deployment.release_id is not None:
            return await self._known_release(deployment)
        if deployment.image_digest is None:
            raise ImageMissing("The image to run is not known.")
        exposed, settings = deployment.exposed_ports, scene.settings(deployment)
        return await self.context.releases.create(
            deployment,
            replace(scene.project, settings=settings),
            image_digest=deployment.image_digest,
            image_ref=deployment.image_ref or deployment.image_digest,
            container_port=settings.port or (exposed[0] if len(exposed) == 1 else DEFAULT_PORT),
        )

    async def _known_release(self, deployment: Deployment) -> Release:
        release = await self.context.releases.get(deployment.release_id or "")
        if release is None:
            raise NotFound(f"The release of deployment {deployment.id} is gone.")
        return release

    async def _answered(self, scene: Scene, door: ShiftsTraffic, release: Release) -> TrafficAnswer:
        """Ask through the front door until the new release answers; the stage's deadline ends it."""
        while True:
            answer = await door.answering(scene.app, release.settings.health_path)
            if answer.is_served_by(release.id):
                return answer
            await asyncio.sleep(LOOK_EVERY_S)

    async def _retire(self, scene: Scene, old: Release) -> ReleaseRetired:
        drained = await self._drain(scene, old)
        # Who is still connected after a long drain is no idle connection but a stream or a websocket: it is ended, so
        # that its client comes back to the new release. Frozen with the old one it would wait in vain.
        cut_off = not drained and scene.project.settings.drain_timeout_s > LONGEST_IDLE_S
        kept = False
        if isinstance(scene.target, KeepsWarm) and self.warm_for > timedelta(0) and not cut_off:
            # The record first: a crash after it leaves a running old release, which the reconciler parks.
            await self.context.apps.warm(scene.app, old.id, scene.now() + self.warm_for)
            kept = await scene.target.park(scene.app, old)
        if not kept:
            await self.context.apps.warm(scene.app, None, None)
            await scene.target.remove(scene.app, old)
        return ReleaseRetired(release_id=old.id, kept_warm=kept, drained=drained)

    async def _drain(self, scene: Scene, old: Release) -> bool:
        """Wait until the old release serves no connection, at most for the project's drain time."""
        door, limit = scene.target, scene.project.settings.drain_timeout_s
        seen = await scene.target.observe(scene.app, old)
        if seen.health not in {Health.HEALTHY, Health.STARTING, Health.UNHEALTHY} or not isinstance(
            door, ShiftsTraffic
        ):
            return True
        quiet = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while quiet < DRAINED_LOOKS:
                    count = await door.open_connections(scene.app, old)
                    quiet = quiet + 1 if count == 0 else 0
                    await asyncio.sleep(DRAIN_LOOK_S)
        return quiet >= DRAINED_LOOKS

    async def _warm(self, scene: Scene) -> str | None:
        """What the record says is kept warm now. Not always the previous release: of two rollbacks to one release the
        second finds it live."""
        state = await self.context.apps.get(scene.app.project_id, scene.app.environment)
        return state.warm_release_id if state is not None else None

    async def _sweep(self, scene: Scene, keep: set[str | None]) -> None:
        """Remove releases of this app that are neither live nor kept warm."""
        for release_id in await scene.target.running(scene.app):
            if release_id in keep:
                continue
            release = await self.context.releases.get(release_id)
            if release is not None:
                await scene.target.remove(scene.app, release)

    async def _collect_images(self, scene: Scene, live: str | None, *, also: str | None = None) -> None:
        proven = await self.context.releases.of_app(scene.app.project_id, scene.app.environment)
        current = await self.context.releases.get(live) if live else None
        # The live one may be proven already (after a rollback) or not yet: it does not count as an earlier one.
        earlier = [release for release in proven if release.id != live][: scene.project.settings.keep_releases]
        kept = {release.image_digest for release in (*earlier, current) if release is not None} | {also or ""}
        await self.context.builder_of(scene.project.target).collect(scene.app, kept)


def _was_warm(scene: Scene, release: Release) -> bool:
    return scene.before.warm_release_id == release.id


def _turn(run: Run) -> tuple[str, int]:
    """A deployment that was put down and is taken on again is looked at anew."""
    return run.deployment.id, run.deployment.fence


def _decision(scene: Scene, deployment: Deployment, release: Release) -> tuple[Event, ...]:
    """The record's word that this release is to be live, unless it says so already. The front door follows the
    record, also after a crash."""
    if scene.before.live_deployment_id == deployment.id:
        return ()
    decided = TrafficShiftDecided(
        release_id=release.id,
        previous_release_id=scene.before.live_release_id,
        previous_deployment_id=scene.before.live_deployment_id,
    )
    return (decided,)


def _shifted(scene: Scene, target: KeepsRunning, release: Release, seen: Observation) -> TrafficShifted:
    urls = target.urls(scene.app, scene.project.settings.hosts)
    return TrafficShifted(release_id=release.id, evidence=seen.as_dict(), urls=urls)


def _over_budget(certificate: SwitchCertificate, scene: Scene) -> Failure | None:
    settings = scene.project.settings
    reasons = []
    if settings.switch_failed_budget is not None and certificate.failed > settings.switch_failed_budget:
        reasons.append(f"{certificate.failed} requests failed, the project allows {settings.switch_failed_budget}")
    if settings.switch_p99_budget_ms is not None and certificate.p99_ms > settings.switch_p99_budget_ms:
        reasons.append(
            f"the slowest hundredth took {certificate.p99_ms:g} ms, the project allows "
            f"{settings.switch_p99_budget_ms:g} ms"
        )
    if not reasons:
        return None
    return Failure(
        stage=Stage.PROMOTE,
        code="switch_over_budget",
        message=f"The switch was taken back: {'; '.join(reasons)}.",
        hint="Look at the certificate in the evidence; the budget is a setting of the project.",
        evidence={"certificate": certificate.as_dict()},
        ends_as=Status.ROLLED_BACK,
    )
