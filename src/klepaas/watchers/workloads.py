"""Compare what runs with what the record says, at start and continuously, and put right what differs.

The record decides. The watcher acts on what it sees now, never on the message that woke it, so a missed message
costs time and nothing else. While a deployment of an app is under way, the app's releases are the workflow's; the
watcher then only keeps the front door standing. What it does otherwise it does holding the app, on what the record
says while it holds it: a deployment that starts in that instant waits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import Project
from klepaas.domain.release import Release
from klepaas.errors import KlepaasError, Outside
from klepaas.operations.context import Context
from klepaas.operations.ports.apps import AppState
from klepaas.targets.protocol import (
    KeepsRunning,
    KeepsWarm,
    RepairsFront,
    ShiftsTraffic,
    ShowsEverything,
    Target,
    WatchesItself,
)

log = structlog.get_logger()

SETTLE_S = 0.2
"""After a change was told, wait this long for the ones that come with it: die, stop and destroy come together, and a
switch that thaws one release moves the traffic to it next."""

DOWN = frozenset({Health.STOPPED, Health.ABSENT, Health.PARKED})
"""States in which the live release does not come back by itself."""

LOOKS_AT_ONCE = 8

ACT_FOR_S = 20.0
"""How long one repair may take: stopping a container that ignores it takes 10 s. Deployments of the app wait."""
HOLD_FOR_S = 25.0
"""A watcher that dies holding an app keeps its deployments waiting no longer than this."""


@dataclass
class Workloads:
    """`leads` says whether this node is the one that watches; another does when it is not."""

    context: Context
    interval: timedelta
    leads: Callable[[], Awaitable[bool]]
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _without_images: set[str] = field(default_factory=set)
    """Keys of apps of retired projects."""

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for target in self.context.targets.values():
                if isinstance(target, WatchesItself):
                    group.create_task(self._listen(target))
                if isinstance(target, KeepsRunning):
                    group.create_task(self._keep_looking_seldom(target.name, target))
            while True:
                self._due.clear()
                try:
                    if await self.leads():
                        await self.look_everywhere()
                except KlepaasError as fault:
                    log.warning("watcher_look_failed", reason=fault.message)
                except Exception:
                    log.exception("watcher_look_failed")
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.interval.total_seconds()):
                        await self._due.wait()
                    await asyncio.sleep(SETTLE_S)

    async def look_everywhere(self) -> None:
        """Look once at every app and at everything of ours that no record claims."""
        states = await self.context.apps.all()
        targets = await self.context.projects.targets()
        to_look_at = [state for state in states if not self._is_seldom(targets.get(state.app.project_id))]
        places = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(state: AppState) -> None:
            async with places:
                try:
                    await self.look(state)
                except KlepaasError as fault:
                    log.warning("app_look_failed", app=state.app.name, reason=fault.message)
                except Exception:
                    log.exception("app_look_failed", app=state.app.name)

        await asyncio.gather(*(look(state) for state in to_look_at))
        await self._discard_strays(states)

    async def look(self, state: AppState) -> None:
        """Look at one app; put right what differs from the record; write down what was seen."""
        project = await self.context.projects.get(state.app.project_id)
        if project is None:
            await self._end_retired(state)
            return
        target = self.context.target_of(project.target)
        live = await self.context.releases.get(state.live_release_id) if state.live_release_id else None
        repaired = await self._repair_front(state, project, target, live)
        if await self._under_way(state):
            return
        if live is not None:
            await self._look_at_live(state, project, target, live, repaired)
        elif isinstance(target, RepairsFront) and await target.is_misled(state.app, None):
            await self._close_doors(state)
        await self._end_warmth(state, target)

    async def _repair_front(
        self, state: AppState, project: Project, target: Target, live: Release | None
    ) -> Sequence[str]:
        """What was put right. A front that cannot be repaired now must not keep anybody from looking at the app."""
        if not isinstance(target, RepairsFront):
            return []
        try:
            repaired = await target.repair(state.app, project.settings.hosts, live)
        except Outside as fault:
            log.warning("front_not_repaired", app=state.app.name, reason=fault.message)
            return []
        for each in repaired:
            log.info("front_repaired", app=state.app.name, what=each)
        return repaired

    async def _look_at_live(
        self, state: AppState, project: Project, target: Target, live: Release, repaired: Sequence[str]
    ) -> None:
        seen = await target.observe(state.app, live)
        action = ""
        if seen.health in DOWN:
            try:
                action = await self._start_again(state, target, live, seen)
            except (KlepaasError, TimeoutError) as fault:
                stays = replace(seen, detail=f"{seen.detail} It cannot be started again: {_why(fault)}".strip())
                await self._write_down(state, live, stays, " ".join(repaired))
                raise
        elif seen.health is not Health.UNKNOWN and isinstance(target, ShiftsTraffic):
            action = await self._check_traffic(state, project, target, live, seen)
        await self._write_down(state, live, seen, " ".join([*repaired, action]).strip())

    async def _write_down(self, state: AppState, live: Release, seen: Observation, told: str) -> None:
        current = await self.context.apps.get(state.app.project_id, state.app.environment)
        if current is not None and current.live_release_id == live.id:
            await self.context.apps.observed(current, seen, action=told)

    async def look_seldom(self, name: str, target: KeepsRunning) -> None:
        """Look at the live releases of a target that keeps them running by itself: only look, one after the other,
        because each may wait long for its turn."""
        targets = await self.context.projects.targets()
        for state in await self.context.apps.all():
            if targets.get(state.app.project_id) != name or not self._is_due(state, target):
                continue
            if state.live_release_id is None or state.live_deployment_id is None or await self._under_way(state):
                continue
            live = await self.context.releases.get(state.live_release_id)
            if live is None:
                continue
            seen, notes = await target.watch(state.app, live, deployment_id=state.live_deployment_id)
            for note in notes:
                log.info("done_by_hand", app=state.app.name, what=note)
            await self._write_down(state, live, seen, " ".join(notes))

    def _is_seldom(self, name: str | None) -> bool:
        """Whether `look_seldom` sees to the apps of this target. None: of a project that was retired."""
        return isinstance(self.context.targets.get(name or ""), KeepsRunning)

    def _is_due(self, state: AppState, target: KeepsRunning) -> bool:
        return state.observed_at is None or self.context.clock.now() - state.observed_at >= target.look_every

    async def _keep_looking_seldom(self, name: str, target: KeepsRunning) -> None:
        while True:
            try:
                if await self.leads():
                    await self.look_seldom(name, target)
            except KlepaasError as fault:
                log.warning("watcher_look_failed", reason=fault.message)
            except Exception:
                log.exception("watcher_look_failed")
            await asyncio.sleep(self.interval.total_seconds())

    async def _start_again(self, state: AppState, target: Target, live: Release, seen: Observation) -> str:
        variables = await self.context.releases.variables(live.id)
        async with self._alone(state) as now:
            if now is None or now.live_release_id != live.id:
                return ""
            await target.apply(state.app, live, variables)
        self._due.set()
        log.info("release_started_again", app=state.app.name, release_id=live.id, was=seen.health)
        return f"started again: it was {seen.health}"

    async def _check_traffic(
        self, state: AppState, project: Project, door: ShiftsTraffic, live: Release, seen: Observation
    ) -> str:
        """The front door must lead to the live release, whatever its files say."""
        found = "the front door led elsewhere"
        if not isinstance(door, RepairsFront) or not await door.is_misled(state.app, live):
            if seen.health is not Health.HEALTHY:
                return ""
            answer = await door.answering(state.app, live.settings.health_path)
            if answer.release_id == live.id:
                return ""
            found = f"{answer.release_id or answer.detail or 'nothing'} answered"
        async with self._alone(state) as now:
            if now is None or now.live_release_id != live.id:
                return ""
            await door.open(state.app, project.settings.hosts)
            await door.shift(state.app, live)
        log.warning("traffic_sent_back", app=state.app.name, release_id=live.id, found=found)
        return f"traffic was sent to the live release again: {found}"

    async def _end_retired(self, state: AppState) -> None:
        """What `_discard_strays` leaves of a retired project's app, whose removal may have been cut short."""
        await self._close_doors(state)
        if state.app.key not in self._without_images:
            await self.context.builder.collect(state.app, keep=())
            self._without_images.add(state.app.key)  # it gets no new ones: once is enough

    async def _close_doors(self, state: AppState) -> None:
        """Lead nowhere, while the record says that nothing of the app is to be live."""
        async with self._alone(state) as now:
            if now is None or now.live_release_id is not None:
                return
            for target in self.context.targets.values():
                if isinstance(target, ShiftsTraffic):
                    await target.close(state.app)

    async def _end_warmth(self, state: AppState, target: Target) -> None:
        """Keep the warm release frozen until its time is over, then remove it, and with it whatever is left of
        earlier releases."""
        if not self._is_cold(state) and not await self._left_over(state, target):
            return
        async with self._alone(state) as now:
            if now is None:
                return
            if self._is_cold(now):
                await self.context.apps.warm(now.app, None, None)
                now = replace(now, warm_release_id=None, warm_until=None)
            for release in await self._left_over(now, target):
                if release.id == now.warm_release_id:
                    if isinstance(target, KeepsWarm) and await target.park(now.app, release):
                        continue
                    await self.context.apps.warm(now.app, None, None)
                await target.remove(now.app, release)

    def _is_cold(self, state: AppState) -> bool:
        """Whether the time of the warm release is over."""
        if state.warm_release_id is None:
            return False
        return state.warm_until is None or state.warm_until <= self.context.clock.now()

    async def _left_over(self, state: AppState, target: Target) -> list[Release]:
        """What exists on the target beside the live release and a warm one that is frozen as it should be."""
        found = []
        for release_id in await target.running(state.app):
            if release_id == state.live_release_id:
                continue
            release = await self.context.releases.get(release_id)
            if release is None:
                continue  # `_discard_strays` removes it
            if release_id == state.warm_release_id:
                seen = await target.observe(state.app, release)
                if seen.health in {Health.PARKED, Health.UNKNOWN}:
                    continue
            found.append(release)
        return found

    async def _discard_strays(self, states: Sequence[AppState]) -> None:
        """Remove what carries our mark and belongs to no release in the record (left by a crash or a restore), or
        to an app whose project was retired."""
        known = {state.app.name: state for state in states}
        for target in self.context.targets.values():
            if not isinstance(target, ShowsEverything):
                continue
            for found in await target.everything():
                state = known.get(found.app)
                if state is not None and found.release_id in {state.live_release_id, state.warm_release_id}:
                    continue  # retiring a project takes these away from its apps
                if state is not None and await self._under_way(state):
                    continue
                retired = state is not None and await self.context.projects.get(state.app.project_id) is None
                # An app that `states` does not know yet is new: what it runs is in the record all the same.
                if retired or await self.context.releases.get(found.release_id) is None:
                    log.info("stray_discarded", app=found.app, release_id=found.release_id)
                    await target.discard(found)

    @asynccontextmanager
    async def _alone(self, state: AppState) -> AsyncIterator[AppState | None]:
        """The app's state of now, which stays true inside the block because no deployment of the app can start
        meanwhile; None when one is under way. Errors: TimeoutError."""
        async with asyncio.timeout(ACT_FOR_S):
            hold = await self.context.apps.hold(state.app, HOLD_FOR_S)
            if hold is None:
                yield None
                return
            try:
                yield await self.context.apps.get(state.app.project_id, state.app.environment)
            finally:
                await self.context.apps.let_go(state.app, hold)
                self.context.runner.wake()

    async def _under_way(self, state: AppState) -> bool:
        """Whether a deployment of the app is running or unknown: then its releases are the workflow's."""
        return await self.context.deployments.is_in_hand(state.app.key)

    async def _listen(self, target: WatchesItself) -> None:
        async for _ in target.changes():
            self._due.set()


def _why(fault: KlepaasError | TimeoutError) -> str:
    return fault.message if isinstance(fault, KlepaasError) else f"it takes longer than {ACT_FOR_S:g} s."
