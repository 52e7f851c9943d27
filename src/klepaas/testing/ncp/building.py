"""How a build goes: the branch's head, the image, the push, and the status it shows meanwhile.

Commands before and after the image (`cmd.pre`, `cmd.build`, `cmd.post`) are not carried out, only logged."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

from klepaas import processes
from klepaas.testing.git.repository import ENV, GitRepository
from klepaas.testing.ncp.build import Build, DockerBuild
from klepaas.testing.ncp.engine_builds import CannotBuild, EngineBuilds
from klepaas.testing.ncp.faults import Ending
from klepaas.testing.ncp.images import small_image

if TYPE_CHECKING:
    from klepaas.testing.ncp.world import World


class _Failed(Exception):
    def __init__(self, phase: str, words: str) -> None:
        super().__init__(words)
        self.phase = phase


async def carry_out(world: "World", build: Build) -> None:
    """From `prepare` to its end."""
    ending = build.fault.ending if build.fault else None
    try:
        await _carry_out(world, build, ending)
    except _Failed as failed:
        build.log.append(str(failed))
        _end(world, build, "fail", failed.phase)
    except asyncio.CancelledError:
        _end(world, build, "canceled", "canceling")
    else:
        if ending is Ending.SILENT:
            build.ended.set()
        elif ending is Ending.SAYS_FAIL:
            _end(world, build, _word(build, "fail"), build.fault.phase if build.fault else None)
        else:
            _end(world, build, _word(build, "success"))


async def _carry_out(world: "World", build: Build, ending: Ending | None) -> None:
    repository, images = world.repositories.get(build.settings.source.config.repository), build.settings.cmd.dockerbuild
    sha = repository.git.refs.get(f"refs/heads/{build.branch}") if repository else None
    if repository is None or sha is None:
        raise _Failed("prepare", f"there is no branch {build.branch}")
    build.commit_sha = sha
    build.log += [f"not carried out: {command}" for command in _commands(build)]
    files = await repository.git.files(sha)
    await _take_time(world, build, stuck=ending is Ending.STUCK)
    if ending is Ending.FAIL:
        raise _Failed(build.fault.phase if build.fault else "build", "it was told to fail")
    if ending is Ending.SAYS_SUCCESS or not images.use:
        return
    if (images.dockerfile or "").removeprefix("./") not in files:
        raise _Failed("build", f"there is no {images.dockerfile} at {sha}")
    if world.engine is None:
        await _make(world, build, images, sha)
    else:
        await _make_for_real(world, world.engine, build, images, repository.git)


async def _take_time(world: "World", build: Build, *, stuck: bool) -> None:
    limit = timedelta(minutes=build.settings.env.timeout)
    await world.clock.reach(build.made_at + (limit if stuck else min(limit, build.takes)))
    if stuck or build.takes >= limit:
        raise _Failed("timeout", f"not done within {limit}")


async def _make(world: "World", build: Build, images: DockerBuild, sha: str) -> None:
    image = small_image({"commit": sha}, f"{images.image} {sha}\n")
    await _upload(world, build)
    await world.images.put(str(images.image), _tags(build, images), image)
    _note(world, build, images, image.digest)


async def _make_for_real(
    world: "World", engine: EngineBuilds, build: Build, images: DockerBuild, git: GitRepository
) -> None:
    references = [f"{world.registry_host}/{images.image}:{tag}" for tag in _tags(build, images)]
    pair, first = next(iter(world.pairs.values())), references[0]
    dockerfile = str(images.dockerfile).removeprefix("./")
    try:
        context = _archive(git, build.commit_sha)
        await engine.build(context, dockerfile=dockerfile, reference=first, say=build.log.append)
        await _upload(world, build)
        digests = []
        for reference in references:
            if reference != first:
                await engine.tag(first, reference)
            pushed = await engine.push(reference, user=pair.access_key, password=pair.secret_key, say=build.log.append)
            digests.append(pushed)
    except CannotBuild as error:
        raise _Failed("upload" if build.status == "upload" else "build", str(error)) from error
    finally:
        for reference in references:
            await asyncio.shield(engine.forget(reference))
    _note(world, build, images, digests[0])


async def _archive(git: GitRepository, sha: str) -> AsyncIterator[bytes]:
    command = ["git", "archive", "--format=tar", sha]
    async with processes.piped(command, env=ENV, cwd=git.folder, stdin=b"") as chunks:
        async for chunk in chunks:
            yield chunk


async def _upload(world: "World", build: Build) -> None:
    if build.fault is None or build.fault.ending is not Ending.SILENT:
        build.status = "upload"
    await world.clock.reach(build.made_at + build.takes * 1.1)


def _note(world: "World", build: Build, images: DockerBuild, digest: str) -> None:
    tags = _tags(build, images)
    build.image, build.digest = f"{world.registry_host}/{images.image}:{tags[0]}", digest
    for tag in tags:
        world.pushed[str(images.image), tag] = world.clock.now()


def _tags(build: Build, images: DockerBuild) -> list[str]:
    # `#` for the number of the build, as the console's `1.0.#` suggests.
    tag = str(images.tag).replace("#", str(build.number))
    return [tag, "latest"] if images.latest and tag != "latest" else [tag]


def _commands(build: Build) -> list[str]:
    commands = build.settings.cmd
    return [*commands.pre, *commands.build, *commands.post]


def _word(build: Build, usual: str) -> str:
    return build.fault.word if build.fault and build.fault.word else usual


def _end(world: "World", build: Build, status: str, phase: str | None = None) -> None:
    build.status, build.failed_phase, build.ended_at = status, phase, world.clock.now()
    build.ended.set()
