"""Builds a checked-out commit with the docker CLI; finds, keeps and collects the images through the engine."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from klepaas import processes
from klepaas.builders.build_log import BuildLog
from klepaas.builders.disk import BuildDisk, visible_folder
from klepaas.builders.docker_cli import BuildProgram, choose_program, search_path
from klepaas.builders.dockerfile import BuildInput, choose, without_frontend
from klepaas.builders.images import APP, INSTANCE, MANAGED, ImageName, image_of, labels_of, repository
from klepaas.builders.protocol import BuildRequest, Image, OnLine
from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineConflict, EngineNotFound
from klepaas.docker.metadata_address import MetadataAddress
from klepaas.domain.project import App
from klepaas.errors import BuildFailed, DiskFull, EngineUnavailable

_HINTS = {
    137: "Exit code 137 means that something killed the step, most often because it took too much memory.",
    127: "Exit code 127 means that the base image has no such program.",
}


@dataclass(frozen=True, kw_only=True)
class BuildLimits:
    """What a build may take. Units are bytes."""

    min_free_bytes: int = 2**30
    max_image_bytes: int = 10 * 2**30
    memory_bytes: int = 2 * 2**30
    """For one step, where the builder can limit it (the engine's old builder; BuildKit cannot)."""


class DockerBuilder:
    """Builds on the engine of this machine, for one klepaas (`instance`), whose images it never mixes with others'.

    `metadata_address` is kept closed for builds; without it nobody cares. `docker_config` is the folder with the
    operator's registry logins; without it base images are pulled anonymously. `work` is where short-lived private
    folders are made."""

    def __init__(
        self,
        engine: DockerEngine,
        *,
        instance: str,
        limits: BuildLimits | None = None,
        docker_config: Path | None = None,
        work: Path | None = None,
        program: BuildProgram | None = None,
        metadata_address: MetadataAddress | None = None,
    ) -> None:
        self._engine = engine
        self._instance = instance
        self._limits = limits or BuildLimits()
        self._docker_config = docker_config
        self._work = work
        self._program = program
        self._metadata_address = metadata_address
        self._root: Path | None = None
        self._preparing = asyncio.Lock()

    async def find(self, app: App, commit_sha: str, *, dockerfile: str | None, context: str | None) -> Image | None:
        """The image built earlier from this commit with these settings, if it still exists."""
        name = self._name(app, commit_sha, dockerfile, context)
        try:
            found = await self._engine.inspect_image(name.ref)
        except EngineNotFound:
            return None
        # Whoever can use the engine can move a tag; the labels say what an image really is.
        return image_of(found, ref=name.ref) if _carries(found, name) else None

    async def inspect(self, digest: str, *, ref: str = "") -> Image | None:
        """The image with this digest, if it exists. Errors: EngineUnavailable when nobody can say."""
        try:
            return image_of(await self._engine.inspect_image(digest))
        except EngineNotFound:
            return None

    async def build(self, request: BuildRequest, on_line: OnLine) -> Image:
        """Build the image and return it. Cancelling ends the build, here and on the engine.

        Errors: those of `dockerfile.choose`, BuildFailed (with the failing step and the last lines as evidence),
        DiskFull, EngineUnavailable."""
        chosen = await asyncio.to_thread(choose, request.source, dockerfile=request.dockerfile, context=request.context)
        program = await self._prepare()
        disk = BuildDisk(self._root or request.source, min_free_bytes=self._limits.min_free_bytes)
        disk.require_room()
        if self._metadata_address is not None:
            await self._metadata_address.keep_closed()
        name = self._name(request.app, request.commit_sha, request.dockerfile, request.context)
        with tempfile.TemporaryDirectory(prefix="klepaas-build-", dir=self._work) as folder:
            private = _Private(Path(folder), chosen, self._docker_config)
            digest = await self._carry_out(
                _Run(program=program, name=name, private=private, disk=disk), chosen, on_line
            )
        return await self._accept(digest, name)

    async def collectable(self, app: App) -> Mapping[str, str]:
        found = await self._engine.images([f"{MANAGED}=1", f"{INSTANCE}={self._instance}", f"{APP}={app.name}"])
        names = {
            str(each["Id"]): [name for name in each.get("RepoTags") or () if name != "<none>:<none>"] for each in found
        }
        return {
            digest: ", ".join(own) or digest[:19]
            for digest, own in names.items()
            if all(name.rpartition(":")[0] == repository(app) for name in own)
        }

    async def collect(self, app: App, keep: Collection[str]) -> Sequence[str]:
        """Delete our own images of this app whose digest is not kept and that nothing uses; return the deleted
        digests. Not to be called while a deployment of the app runs: its new image is nobody's yet.

        An image that somebody gave a name of their own is theirs too, and stays. Errors: EngineUnavailable."""
        deleted = []
        for digest in [each for each in await self.collectable(app) if each not in keep]:
            with contextlib.suppress(EngineConflict, EngineNotFound):
                await self._engine.remove_image(digest)
                deleted.append(digest)
        return deleted

    def _name(self, app: App, commit_sha: str, dockerfile: str | None, context: str | None) -> ImageName:
        return ImageName(
            instance=self._instance, app=app, commit_sha=commit_sha, dockerfile=dockerfile, context=context
        )

    async def _prepare(self) -> BuildProgram:
        async with self._preparing:
            if self._program is None or self._root is None:
                engine = await self._engine.info()
                self._root = visible_folder(str(engine.get("DockerRootDir", "")))
                if self._program is None:
                    self._program = await choose_program(speaks_buildkit="BuildahVersion" not in engine)
            return self._program

    async def _carry_out(self, run: "_Run", chosen: BuildInput, on_line: OnLine) -> str:
        log = await self._run(run, on_line)
        if log is not None and log.frontend_failed and (shorter := without_frontend(chosen.text)) is not None:
            # The frontend comes from Docker Hub; the engine's own understands all but the newest syntax.
            await on_line("klepaas: the frontend of the `# syntax=` line cannot be loaded; building without that line.")
            run.private.dockerfile.write_bytes(shorter)
            log = await self._run(run, on_line)
        if log is not None:
            await self._fail(log, run, chosen)
        return run.private.digest.read_text().strip()

    async def _run(self, run: "_Run", on_line: OnLine) -> BuildLog | None:
        """Run the program once; return its log when it failed, None when it succeeded."""
        log = BuildLog()
        argv = run.argv(memory_bytes=self._limits.memory_bytes)
        async with (
            processes.stream(argv, env=run.environment(self._engine.host)) as (lines, child),
            _ending(child, when=run.disk) as ended,
        ):
            async for raw in lines:
                if (line := log.read(raw)) is not None:
                    await on_line(line)
            exit_code = await child.wait()
        if ended.is_set():
            raise run.disk.full("The build was ended")
        return log if exit_code != 0 else None

    async def _fail(self, log: BuildLog, run: "_Run", chosen: BuildInput) -> None:
        await self._engine.connect()  # An engine that is gone is the reason, whatever the log says.
        failure = log.failure()
        evidence = {
            "dockerfile": chosen.shown,
            "step": failure.step,
            "instruction": failure.instruction,
            "exit_code": failure.exit_code,
            "error": failure.error,
            "last_lines": list(log.last),
            "clipped": log.clipped,
        }
        if log.disk_full or (run.disk.was_nearly_full and log.mentions("no space left on device")):
            raise DiskFull(
                "The build failed: no space left on device.",
                hint="Free some space on the disk of the Docker engine and deploy again.",
                evidence=evidence,
            )
        if log.engine_gone:
            raise EngineUnavailable(
                "The Docker engine went away during the build.", hint="It is asked again.", evidence=evidence
            )
        raise BuildFailed(failure.sentence, hint=_hint(failure.exit_code, failure.base_image), evidence=evidence)

    async def _accept(self, digest: str, name: ImageName) -> Image:
        found = await self._engine.inspect_image(digest)
        size_bytes = int(found.get("Size", 0))
        if size_bytes > self._limits.max_image_bytes:
            with contextlib.suppress(EngineConflict, EngineNotFound):
                await self._engine.remove_image(digest)
            raise BuildFailed(
                f"The image has {size_bytes / 2**20:,.0f} MiB, and at most "
                f"{self._limits.max_image_bytes / 2**20:,.0f} MiB are allowed.",
                hint="Begin from a smaller base image, leave build tools in an earlier stage, and add a .dockerignore.",
                evidence={"size_bytes": size_bytes, "max_image_bytes": self._limits.max_image_bytes},
            )
        return image_of(found, ref=name.ref)


class _Private:
    """The private folder of one build: the Dockerfile as it is built, the docker config, and the answer."""

    def __init__(self, folder: Path, chosen: BuildInput, docker_config: Path | None) -> None:
        self.config = folder / "config"
        self.digest = folder / "digest"
        self.context = chosen.context
        self.logins = docker_config
        # BuildKit is shown the whole folder of the Dockerfile: it has one of its own.
        self.dockerfile = folder / "dockerfile" / "Dockerfile"
        self.dockerfile.parent.mkdir()
        self.dockerfile.write_bytes(chosen.text)
        if chosen.ignore is not None:
            self.dockerfile.with_name("Dockerfile.dockerignore").write_bytes(chosen.ignore)
        self.config.mkdir(mode=0o700)
        if docker_config is not None:
            # A link: logins that are copied could be left behind.
            (self.config / "config.json").symlink_to(docker_config.absolute() / "config.json")

    @property
    def home(self) -> Path:
        """Credential helpers keep their state in the home of the person who logged in."""
        return Path.home() if self.logins is not None else self.config


@dataclass(frozen=True, kw_only=True)
class _Run:
    """How to run the program for one build."""

    program: BuildProgram
    name: ImageName
    private: _Private
    disk: BuildDisk

    def argv(self, *, memory_bytes: int) -> list[str]:
        namespace = f"klepaas-{self.name.instance}-{self.name.app.name}"
        labels = [option for key, value in self.name.labels.items() for option in ("--label", f"{key}={value}")]
        return [
            *self.program.command,
            *self.program.options(cache_namespace=namespace, memory_bytes=memory_bytes),
            *("--network", "default"),
            *("--file", str(self.private.dockerfile), "--iidfile", str(self.private.digest)),
            *("--tag", self.name.ref, *labels),
            *("--", str(self.private.context)),
        ]

    def environment(self, host: str) -> dict[str, str]:
        return {
            "PATH": search_path(),
            "HOME": str(self.private.home),
            "DOCKER_HOST": host,
            "DOCKER_CONFIG": str(self.private.config),
            "BUILDX_CONFIG": str(self.private.config / "buildx"),
            **self.program.environment,
        }


@contextlib.asynccontextmanager
async def _ending(child: processes.Child, *, when: BuildDisk) -> AsyncIterator[asyncio.Event]:
    """End the program when the disk is nearly full; the event then says so."""
    ended = asyncio.Event()

    async def watch() -> None:
        await when.until_nearly_full()
        ended.set()
        await child.end()

    watcher = asyncio.create_task(watch())
    try:
        yield ended
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


def _carries(found: Mapping[str, Any], name: ImageName) -> bool:
    return name.labels.items() <= labels_of(found).items()


def _hint(exit_code: int | None, base_image: str) -> str:
    if base_image:
        return "Check its name and tag, whether it needs a login, and whether this machine reaches its registry."
    return _HINTS.get(exit_code or 0, "The build log has the whole story; commit a fix and deploy again.")
