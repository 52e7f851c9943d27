"""Which program builds on this machine, and the few things its kinds want said differently.

In order: the buildx plugin, called directly; the first docker CLI that carries BuildKit itself (18.09 to 22); the
first docker CLI, with the engine's old builder. Asked once per builder, not once per build."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from klepaas import processes
from klepaas.errors import EngineUnavailable

_USUAL = ("/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin")
_PLUGINS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
"""Where the docker CLI looks for plugins of all users. Source: docker/cli, cli-plugins/manager."""

_VERSION = re.compile(r"Docker version (\d+)\.(\d+)")


class Kind(StrEnum):
    BUILDX = "buildx"
    BUILDKIT = "buildkit"
    """A docker CLI with BuildKit inside."""
    LEGACY = "legacy"


@dataclass(frozen=True, kw_only=True)
class BuildProgram:
    """A program that builds: `command` comes before the options, `environment` goes on top of the build's own."""

    kind: Kind
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def options(self, *, cache_namespace: str, memory_bytes: int) -> list[str]:
        """The options that differ between the kinds.

        `memory_bytes` limits one step of the old builder; BuildKit has no such limit."""
        if self.kind is Kind.LEGACY:
            # force-rm: the container of a step that failed or was cancelled would stay.
            return ["--force-rm", "--memory", str(memory_bytes), "--memory-swap", str(memory_bytes)]
        # Folders of `RUN --mount=type=cache` belong to the whole engine unless they are given a namespace.
        options = ["--progress", "plain", "--build-arg", f"BUILDKIT_CACHE_MOUNT_NS={cache_namespace}"]
        return [*options, "--load"] if self.kind is Kind.BUILDX else options


async def choose_program(
    *, speaks_buildkit: bool = True, path: Sequence[str] | None = None, plugins: Sequence[str] | None = None
) -> BuildProgram:
    """The best program for an engine. `path` and `plugins` are the folders to look in.

    `speaks_buildkit` is false for Podman, whose socket knows the old builder only.
    Errors: EngineUnavailable when this machine has no docker program at all."""
    clis = list(
        _executables("docker", [*(os.get_exec_path() if path is None else path), *(_USUAL if path is None else ())])
    )
    if speaks_buildkit:
        home = str(Path.home() / ".docker" / "cli-plugins")
        for plugin in _executables("docker-buildx", (home, *_PLUGINS) if plugins is None else plugins):
            if await _answer(plugin, "version"):
                # No attestations: an image that is an index of manifests has no plain digest to pin.
                return BuildProgram(
                    kind=Kind.BUILDX,
                    command=(plugin, "build"),
                    environment={"BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "BUILDX_BUILDER": "default"},
                )
        for cli in clis:
            if (18, 9) <= await _version(cli) < (23, 0):
                return BuildProgram(kind=Kind.BUILDKIT, command=(cli, "build"), environment={"DOCKER_BUILDKIT": "1"})
    if clis:
        return BuildProgram(kind=Kind.LEGACY, command=(clis[0], "build"), environment={"DOCKER_BUILDKIT": "0"})
    raise EngineUnavailable(
        "This machine has no docker program to build with.",
        hint="Install the docker CLI, e.g. apt-get install docker.io (Debian 13: docker-cli docker-buildx).",
    )


def _executables(name: str, folders: Sequence[str]) -> Iterator[str]:
    seen = set()
    for folder in folders:
        program = os.path.join(folder, name)
        real = os.path.realpath(program)
        if real not in seen and os.path.isfile(real) and os.access(real, os.X_OK):
            seen.add(real)
            yield program


async def _version(cli: str) -> tuple[int, int]:
    match = _VERSION.match(await _answer(cli, "--version"))
    return (int(match[1]), int(match[2])) if match else (0, 0)


async def _answer(program: str, question: str) -> str:
    try:
        finished = await processes.run([program, question], env={"PATH": search_path()})
    except OSError:
        return ""
    return finished.stdout if finished.exit_code == 0 else ""


def search_path() -> str:
    """PATH for a build program: it may start credential helpers and plugins, nothing else."""
    return os.pathsep.join(os.get_exec_path())
