"""One look at one container: what the engine says, what its probe gets, and what that means in words."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from klepaas.docker.engine import DockerEngine
from klepaas.domain.observation import Health, Observation, ProbeAnswer
from klepaas.domain.release import Release
from klepaas.targets.local.container import Container
from klepaas.targets.local.plan import LOOPBACK
from klepaas.targets.local.probe import ask
from klepaas.targets.local.sockets import Listener, listeners_in
from klepaas.targets.local.verdict import verdict_of

PROBE_TIMEOUT_S = 2.0
LOOKED_INTO_AFTER = timedelta(seconds=0.5)
"""Where a silent app listens is looked at once it had the time to start: until then it needs the processor itself."""
_ENDS_AGAIN_AND_AGAIN = 3
"""Restarts after which an app that is not ready is not merely slow. The engine needs about 2 s for these."""


class Sight:
    def __init__(self, engine: DockerEngine, clock: Callable[[], datetime]) -> None:
        self._engine, self._clock = engine, clock

    async def of(self, found: Container, release: Release, port: int | None) -> Observation:
        """What can be seen of the container that `port` on loopback leads to. Errors: EngineUnavailable."""
        match found.state:
            case "parked":
                return self._seen(found, Health.PARKED, "The release is frozen, ready for a rollback.")
            case "stopped":
                return self._seen(found, Health.STOPPED, _end_of(found.exit_code, found.out_of_memory, found.status))
            case "restarting":
                return await self._ending(found)
        if port is None:
            return self._seen(found, Health.UNKNOWN, "The record holds no port of this release.")
        return await self._asked(found, release, port)

    async def _asked(self, found: Container, release: Release, port: int) -> Observation:
        settings = release.settings
        host = next(iter(settings.hosts), "localhost")
        at = self._clock()
        answer = await ask((LOOPBACK, port), settings.health_path, host=host, timeout_s=PROBE_TIMEOUT_S)
        listening, age = None, self._clock() - found.started_at
        if answer.failure is not None and age > LOOKED_INTO_AFTER:
            listening = await asyncio.to_thread(listeners_in, found.pid, found.id)
        verdict = verdict_of(answer, settings, host=host, port=release.container_port, listening=listening)
        probe = ProbeAnswer(
            at=at, took_ms=answer.took_ms, ready=verdict.ready, status=answer.status, detail=verdict.clause
        )
        if verdict.ready:
            return self._seen(found, Health.HEALTHY, verdict.sentence, probe=probe)
        if found.restarts >= _ENDS_AGAIN_AND_AGAIN and answer.status is None:
            return await self._ending(found, probe=probe, listening=listening)
        late = age > timedelta(seconds=settings.health_timeout_s)
        health = Health.UNHEALTHY if late else Health.STARTING
        return self._seen(found, health, verdict.sentence, probe=probe, listening=listening)

    async def _ending(
        self, found: Container, *, probe: ProbeAnswer | None = None, listening: tuple[Listener, ...] | None = None
    ) -> Observation:
        """The app ends and is started again. How it ended last is in the engine's memory when it runs just now."""
        exit_code, out_of_memory = found.exit_code, found.out_of_memory
        if found.state == "running":
            past = await self._engine.past_events(found.id, since=found.started_at - timedelta(minutes=10))
            codes = [event.attributes.get("exitCode", "") for event in past if event.action == "die"]
            exit_code = int(codes[-1]) if codes and codes[-1].isdigit() else 0
            out_of_memory = any(event.action == "oom" for event in past)
        often = f"The app keeps ending; it was restarted {found.restarts} times."
        health = Health.UNHEALTHY if found.restarts >= _ENDS_AGAIN_AND_AGAIN else Health.STARTING
        sentence = _end_of(exit_code, out_of_memory, "exited")
        return self._seen(
            found,
            health,
            f"{often} {sentence}" if found.restarts else sentence,
            probe=probe,
            listening=listening,
            exit_code=exit_code,
            out_of_memory=out_of_memory,
        )

    def _seen(
        self,
        found: Container,
        health: Health,
        detail: str,
        *,
        probe: ProbeAnswer | None = None,
        listening: tuple[Listener, ...] | None = None,
        exit_code: int | None = None,
        out_of_memory: bool = False,
    ) -> Observation:
        stopped = found.state == "stopped"
        return Observation(
            at=self._clock(),
            health=health,
            detail=detail,
            image_digest=found.image_digest,
            workload_id=found.id,
            ready_replicas=1 if health is Health.HEALTHY else 0,
            restarts=found.restarts,
            exit_code=found.exit_code if stopped else exit_code,
            out_of_memory=found.out_of_memory if stopped else out_of_memory,
            listening=tuple(str(listener) for listener in listening or ()),
            probe=probe,
        )


def _end_of(exit_code: int, out_of_memory: bool, status: str) -> str:
    if status == "created":
        return "The container was created and not started."
    if out_of_memory:
        return (
            f"The app was ended because it took more memory than its limit (exit code {exit_code}). Raise "
            "memory_bytes of the project, or have the app use less."
        )
    meaning = {
        0: " It ended by itself without an error; a web app must keep running.",
        126: " Its command could not be executed.",
        127: " Its command was not found in the image.",
        137: " It was killed.",
        139: " It crashed (segmentation fault).",
        143: " It was asked to stop.",
    }
    return f"The app ended with exit code {exit_code}.{meaning.get(exit_code, '')}"
