"""The least that looking at histories can take: signed requests over one client at a fixed rate, parsed and dropped.

`python -m bench.ncp_floor` reads one JSON object from stdin and writes the seconds of CPU that it took."""

import asyncio
import json
import sys
import time
from typing import Any

import httpx

from klepaas.targets.ncp.signing import Keys, signed_headers


async def look(url: str, ids: list[int], keys: Keys, *, per_s: float, lasts_s: float) -> float:
    """Seconds of CPU beyond the start."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        began, cpu, looks = time.monotonic(), time.process_time(), 0
        while (now := time.monotonic()) - began < lasts_s:
            target = f"/api/v1/project/{ids[looks % len(ids)]}/history"
            headers = signed_headers("GET", target, int(time.time() * 1000), keys, region="KR")
            json.loads((await client.get(target, headers=headers)).raise_for_status().content)
            looks += 1
            await asyncio.sleep(max(began + looks / per_s - now, 0))
        return time.process_time() - cpu


def main() -> None:
    told: dict[str, Any] = json.load(sys.stdin)
    keys = Keys(access=told.pop("access_key"), secret=told.pop("secret_key"))
    print(asyncio.run(look(told["url"], told["ids"], keys, per_s=told["per_s"], lasts_s=told["lasts_s"])))


if __name__ == "__main__":
    main()
