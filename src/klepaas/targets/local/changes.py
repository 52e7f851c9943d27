"""The engine's event stream as names of apps that should be looked at."""

import asyncio
import time
from collections.abc import AsyncIterator

from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineRejected
from klepaas.errors import EngineTooOld, EngineUnavailable
from klepaas.targets.local.plan import APP, INSTANCE

_TELLING = {"die", "stop", "start", "oom", "kill", "destroy", "pause", "unpause"}
_REST_S = (0.2, 0.5, 1.0, 2.0)
"""Between tries to reach an engine that went away; it is back 0.4 to 1.3 s after it is started."""


async def changes_of(engine: DockerEngine, instance_id: str) -> AsyncIterator[str]:
    """Names of apps whose containers changed; an empty name when anything may have: the proxy did, or the engine
    was away. What happened while it was away is told late rather than not at all."""
    since_ns = time.time_ns()
    failures = 0
    while True:
        try:
            if failures:
                await engine.connect()
                yield ""
            failures = 0
            async for event in engine.events([f"{INSTANCE}={instance_id}"], since_ns=since_ns):
                since_ns = max(since_ns, event.at_ns + 1)
                if event.action in _TELLING:
                    yield event.attributes.get(APP, "")
        except (EngineUnavailable, EngineRejected, EngineTooOld):
            await asyncio.sleep(_REST_S[min(failures, len(_REST_S) - 1)])
            failures += 1
