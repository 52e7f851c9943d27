"""Tiny apps as images of one static program, made without any build."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from klepaas.docker.archive import archive_of
from klepaas.docker.engine import DockerEngine
from klepaas.domain.project import App, ProjectSettings
from klepaas.domain.release import Release
from klepaas.targets.local.adapter import LocalTarget
from tests.targets.releases import a_release, an_app

BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox")

SHELL = 'PATH=/bin; bb=/bin/busybox; mkdir() { $bb mkdir "$@"; }; '


async def image_of(engine: DockerEngine, instance_id: str, name: str, script: str) -> str:
    """An image whose app is this shell script; `$bb` is busybox. Returns its digest."""
    quoted = (SHELL + script).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return await engine.import_image(
        archive_of({"bin/busybox": BUSYBOX}),
        repository=f"klepaas-test-{instance_id}",
        tag=name,
        changes=[f'CMD ["/bin/busybox", "sh", "-c", "{quoted}"]', f"LABEL klepaas.instance={instance_id}"],
    )


def serving(text: str, *, listen: str = "0.0.0.0:$PORT") -> str:
    """An app that says hello in its log and answers `text` at `/`."""
    return f"mkdir -p /www; echo '{text}' > /www/index.html; echo '{text} began'; exec $bb httpd -f -p {listen} -h /www"


def answering(lines: str) -> str:
    """An app whose `/cgi-bin/health` answers with these lines of shell."""
    return (
        "mkdir -p /www/cgi-bin; echo hello > /www/index.html; "
        f"printf '%s\\n' '#!/bin/busybox sh' {lines} > /www/cgi-bin/health; $bb chmod +x /www/cgi-bin/health; "
        "exec $bb httpd -f -p 0.0.0.0:$PORT -h /www"
    )


@dataclass
class LocalPlace:
    """The local target on a real engine, with releases of a working and of a broken app."""

    target: LocalTarget
    engine: DockerEngine
    instance_id: str
    app: App = field(default_factory=an_app)
    digests: dict[tuple[int, str], str] = field(default_factory=dict)
    """Of the images made so far: importing one again would give it another digest."""

    async def release(self, number: int, settings: ProjectSettings | None = None) -> Release:
        return await self.release_of(number, serving(f"release {number}"), settings)

    async def release_with_command(self, number: int, *, exit_code: int) -> Release:
        script = f"echo command began; echo GREETING is $GREETING; exit {exit_code}"
        command = ("/bin/busybox", "sh", "-c", script)
        return await self.release(number, ProjectSettings(release_command=command))

    async def broken_release(self, number: int) -> Release:
        return await self.release_of(number, "echo cannot work; exit 3")

    async def release_of(self, number: int, script: str, settings: ProjectSettings | None = None) -> Release:
        key = (number, script)
        if key not in self.digests:
            self.digests[key] = await image_of(self.engine, self.instance_id, f"r{number}", script)
        return a_release(self.app, number, digest=self.digests[key], settings=settings)
