"""A klepaas that is killed at a point that a file names, and started again on the same home."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from tests.acceptance.klepaas_process import Ground, KlepaasProcess

ENDS_WITHIN_S = 60.0


class Crashing:
    """`fault` names the next point to die at, `record` collects the points that were reached."""

    def __init__(self, ground: Ground, **settings: str) -> None:
        self.ground = ground
        self.fault, self.record = ground.folder / "fault", ground.folder / "record"
        self.fault.write_text("")
        self.process: KlepaasProcess = ground.process(
            TESTING__CRASH_AT=f"@{self.fault}", TESTING__RECORD_TO=str(self.record), **settings
        )

    async def deploy(self, key: str, project: str = "shop") -> dict[str, Any]:
        async with self.process.client() as klepaas:
            found: dict[str, Any] = (await klepaas.deploy(project, key=key))["deployment"]
            return found

    async def ended(self, deployment: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(ENDS_WITHIN_S), self.process.client() as klepaas:
            async for _ in klepaas.follow(deployment["id"]):
                pass
            return await klepaas.deployment(deployment["id"])

    async def dies_and_comes_back(self) -> datetime:
        """Wait for the kill, start again without the fault. Returns when it answered again."""
        assert await self.process.ended(ENDS_WITHIN_S) == -9
        self.fault.write_text("")
        await self.process.start()
        return datetime.now(UTC)
