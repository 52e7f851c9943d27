"""The container Caddy runs in: made FROM nothing, on the host's network, brought back by the engine."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineConflict, EngineNotFound, NameTaken
from klepaas.errors import ImageMissing, Rejected
from klepaas.targets.local.caddy import Caddy, find_caddy
from klepaas.targets.local.container import Container, container_of
from klepaas.targets.local.plan import INSTANCE, ROLE, SPEC, log_config
from klepaas.targets.local.proxy_config import CONFIG_FILE

STARTS_WITHIN_S = 20.0
"""Caddy answers 0.3 s after its container is created; the rest is patience with a busy machine."""
BACK_WITHIN_S = 3.0
"""The engine restarts a killed proxy in 0.2 s; only when that fails is the container made anew."""
_LOOK_AGAIN_S = 0.02
_GRACE_S = 10
_CERTIFICATES = Path("/etc/ssl/certs")

Answers = Callable[[], Awaitable[bool]]


class ProxyContainer:
    def __init__(self, engine: DockerEngine, *, folder: Path, instance_id: str) -> None:
        self._engine, self._folder, self._instance_id = engine, folder, instance_id
        self.name = f"klepaas-proxy-{instance_id}"
        self._caddy: Caddy | None = None

    async def caddy(self) -> Caddy:
        """The program, found and checked once. Errors: Rejected."""
        if self._caddy is None:
            self._caddy = await find_caddy()
        return self._caddy

    async def is_current(self) -> bool:
        """Whether the container is the one this version of klepaas would make."""
        found = await self._find()
        return found is not None and found.labels.get(SPEC) == (await self._body(image=""))["Labels"][SPEC]

    async def comes_back(self, answers: Answers) -> bool:
        """Wait for a proxy that the engine is just restarting. False when there is none, or it does not come."""
        deadline = time.monotonic() + BACK_WITHIN_S
        while time.monotonic() < deadline:
            if await answers():
                return True
            found = await self._find()
            if found is None or found.state == "stopped":
                return False
            await asyncio.sleep(_LOOK_AGAIN_S)
        return False

    async def start(self, answers: Answers) -> None:
        """Make the container and wait until Caddy answers. Errors: Rejected with Caddy's last words."""
        body = await self._body(image=await (await self.caddy()).image(self._engine))
        try:
            container = await self._engine.create(self.name, body)
        except NameTaken:
            container = self.name  # another process of ours was quicker
        except ImageMissing:
            return  # somebody deleted the image in between; the next turn makes it again
        await self._engine.start(container)
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not await answers():
            found = await self._find()
            if found is None or found.state == "stopped" or found.restarts > 2 or time.monotonic() > deadline:
                raise Rejected("The proxy does not start.", evidence={"log": await self._last_words()})
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def remove(self) -> None:
        """Have no such container. Idempotent; requests it serves have ten seconds to end."""
        found = await self._find()
        if found is None:
            return
        try:
            await self._engine.restart_policy(found.id, "no")
            await self._engine.stop(found.id, grace_s=_GRACE_S)
            await self._engine.remove(found.id, force=True)
        except (EngineNotFound, EngineConflict):
            return

    async def _find(self) -> Container | None:
        try:
            found = container_of(await self._engine.inspect(self.name))
        except EngineNotFound:
            return None
        if found.labels.get(INSTANCE) != self._instance_id:
            raise Rejected(
                f"A container named {self.name} exists that this klepaas did not make.",
                hint="Rename or remove it.",
            )
        return found

    async def _last_words(self) -> list[str]:
        try:
            return [line.text for line in await self._engine.logs(self.name, lines=5)]
        except EngineNotFound:
            return []

    async def _body(self, *, image: str) -> dict[str, Any]:
        folder = str(self._folder)
        mounts: list[dict[str, Any]] = [{"Type": "bind", "Source": folder, "Target": folder}]
        if await asyncio.to_thread(_CERTIFICATES.is_dir):
            # To know the certificate authority that ACME talks to; an image made of one program knows none.
            certificates = str(_CERTIFICATES)
            mounts.append({"Type": "bind", "Source": certificates, "Target": certificates, "ReadOnly": True})
        body: dict[str, Any] = {
            "Image": image,
            "Cmd": ["run", "--config", str(self._folder / CONFIG_FILE)],
            # As ourselves, so that we may use the admin socket it makes.
            "User": f"{os.getuid()}:{os.getgid()}",
            "Env": [f"HOME={folder}/data", f"XDG_DATA_HOME={folder}/data", f"XDG_CONFIG_HOME={folder}/data"],
            "Labels": {"klepaas.managed": "1", INSTANCE: self._instance_id, ROLE: "proxy"},
            "HostConfig": {
                "NetworkMode": "host",
                "RestartPolicy": {"Name": "always"},
                "Mounts": mounts,
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "CapAdd": ["NET_BIND_SERVICE"],
                "SecurityOpt": ["no-new-privileges"],
                "LogConfig": log_config(),
            },
        }
        version = (await self.caddy()).version
        body["Labels"][SPEC] = _spec_of({**body, "Image": version})
        return body


def _spec_of(body: Mapping[str, Any]) -> str:
    """Equal for containers that are interchangeable."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
