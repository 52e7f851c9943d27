"""Builds at SourceBuild: a commit is mirrored, the project is told its tag, a build is started and looked at until the
registry shows the image. One build of a project at a time: its tag is a setting, not a part of a start."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import structlog

from klepaas.builders.dockerfile import BuildInput, choose
from klepaas.builders.protocol import BuildRequest, Image, OnLine
from klepaas.domain.project import App
from klepaas.errors import (
    BuildFailed,
    BuildTimeout,
    ContextUnusable,
    DiskFull,
    ImageMissing,
    Outside,
    Rejected,
    Unavailable,
)
from klepaas.operations.ports.provider_runs import ProviderRun
from klepaas.targets.ncp.chain import Chain, chain_of
from klepaas.targets.ncp.cloud import BUILD, Cloud, mirror_of
from klepaas.targets.ncp.exposed import exposed_ports
from klepaas.targets.ncp.image_reference import read_reference
from klepaas.targets.ncp.mirror import Mirrors
from klepaas.targets.ncp.run import Run, Started
from klepaas.targets.ncp.sourcebuild import BuildProject
from klepaas.targets.ncp.starting import begun, given_up
from klepaas.targets.ncp.states import RunState, state_of

log = structlog.get_logger()

REST_S = 3.0
"""Between two tries while Naver Cloud is away, or while another deployment builds."""
IMAGE_RESTS_S = (0.2, 0.5, 1.0, 2.0, 5.0)

T = TypeVar("T")


class NcpBuilder:
    def __init__(self, cloud: Cloud, mirrors: Mirrors) -> None:
        self._cloud, self._mirrors = cloud, mirrors
        self._turns: dict[int, asyncio.Lock] = {}

    async def find(self, app: App, commit_sha: str, *, dockerfile: str | None, context: str | None) -> Image | None:
        """The registry is asked for the tag of the commit, whoever pushed it.

        Errors: AuthenticationFailed, PermissionMissing, Unavailable: then nobody knows."""
        await self._cloud.require_no_variables(app)
        chain = chain_of(await self._cloud.project(app))
        found = await self._cloud.registry.find(chain.image, commit_sha) if chain is not None else None
        if chain is None or found is None:
            return None
        origin = self._cloud.origin(await self._cloud.project(app))
        text = await self._mirrors.dockerfile(origin, mirror_of(app, chain), commit_sha, dockerfile)
        ports = exposed_ports(text or b"")
        return Image(digest=found.digest, ref=found.reference, commit_sha=commit_sha, exposed_ports=ports)

    async def build(self, request: BuildRequest, on_line: OnLine) -> Image:
        """Errors: BuildFailed with the provider's word, BuildTimeout, ImageMissing when a build that succeeded pushed
        nothing, those of the mirror and of the chain."""
        cloud, app, commit = self._cloud, request.app, request.commit_sha
        await cloud.require_no_variables(app)
        dockerfile = await asyncio.to_thread(_chosen, request)
        project = await cloud.project(app)
        chain = await self._patiently(lambda: cloud.chain(project, on_line), on_line)
        async with self._turns.setdefault(chain.build_project_id, asyncio.Lock()):
            run = await cloud.runs.of(request.deployment_id, BUILD)
            if run is None or run.run_id is None:
                origin, mirror = cloud.origin(project), mirror_of(app, chain)
                head = await self._patiently(lambda: self._mirrors.bring(origin, mirror, commit), on_line)
                await on_line(f"Mirrored {commit[:12]} to {chain.repository_name} ({chain.branch} is at {head[:12]}).")
                run = await self._started(request, chain, dockerfile.shown, on_line)
            await self._followed(run, chain, on_line)
        image = await self._pushed(chain, commit, on_line)
        return replace(image, exposed_ports=exposed_ports(dockerfile.text))

    async def inspect(self, digest: str, *, ref: str = "") -> Image | None:
        """By its name in `ref`: a registry knows a digest only together with it."""
        reference = read_reference(ref)
        if reference is None:
            return None
        try:
            found = await self._cloud.registry.find(reference.last, digest)
        except Outside as fault:
            _log_image(exists=False, code=fault.evidence.get("status"))
            raise
        _log_image(exists=found is not None, code=200 if found is not None else 404)
        if found is None:
            return None
        return Image(digest=digest, ref=ref, commit_sha=reference.tag or "", exposed_ports=())

    async def collectable(self, app: App) -> Mapping[str, str]:
        return {}

    async def collect(self, app: App, keep: Collection[str]) -> Sequence[str]:
        """Deletes nothing: klepaas has no say over how long a registry at Naver Cloud keeps images, and one that is
        gone can be built again."""
        return ()

    async def end(self, app: App, deployment_id: str) -> None:
        """Cancel the build of a deployment that was given up. One that stores its results already ends by itself, and
        so does one that shows only later."""
        cloud, run = self._cloud, await self._cloud.runs.of(deployment_id, BUILD)
        if run is None or run.ended_at is not None:
            return
        number, within = int(run.provider_project_id), cloud.settings.runs_appear_within
        run = await given_up(cloud.runs, run, lambda: cloud.builds.runs(number), appears_within=within, now=cloud.now)
        if run.run_id is not None:
            try:
                await cloud.builds.cancel(number, run.run_id)
            except Rejected as refused:
                log.info("build_not_cancelled", run_id=run.run_id, reason=refused.message)
        await cloud.runs.ended(run, "canceled")

    async def _started(self, request: BuildRequest, chain: Chain, dockerfile: str, on_line: OnLine) -> ProviderRun:
        cloud, number = self._cloud, chain.build_project_id

        async def runs() -> Sequence[Run]:
            return await cloud.builds.runs(number)

        async def start(known: Collection[str]) -> Started:
            await self._set(chain, request.commit_sha, dockerfile)
            return await cloud.builds.start(number, known=known)

        async def one_try() -> ProviderRun:
            noted = await cloud.runs.of(request.deployment_id, BUILD)
            run = noted or await self._noted(request, chain, on_line)
            return await begun(
                cloud.runs,
                run,
                start,
                runs,
                was_noted_before=noted is not None,
                appears_within=cloud.settings.runs_appear_within,
                now=cloud.now,
                reached=cloud.reached,
            )

        run = await self._patiently(one_try, on_line)
        await on_line(f"SourceBuild project {number} builds {request.commit_sha[:12]} as run {run.run_id}.")
        return run

    async def _noted(self, request: BuildRequest, chain: Chain, on_line: OnLine) -> ProviderRun:
        """In the book, once nobody else builds in the project: a build begins with the tag of then."""
        number = chain.build_project_id
        while True:
            seen = await self._cloud.builds.runs(number)
            while others := [run for run in seen if not run.state.is_final]:
                await on_line(f"Waits for run {others[0].id} of the same project ({others[0].word}).")
                seen = await self._cloud.build_looks.look(number)
            noted = await self._cloud.runs.intend(
                request.app,
                BUILD,
                str(number),
                deployment_id=request.deployment_id,
                known=[run.id for run in seen],
                commit_sha=request.commit_sha,
            )
            if noted is not None:
                return noted
            await on_line("Waits for the build of another deployment.")
            await asyncio.sleep(REST_S)

    async def _set(self, chain: Chain, commit: str, dockerfile: str) -> None:
        """Tell the project what to build. Errors: Rejected when it is gone, or builds in another way."""
        project = await self._cloud.builds.project(chain.build_project_id)
        if project is None or project.settings is None or _is_elsewhere(project, chain):
            raise Rejected(
                f"The SourceBuild project {chain.build_project_id} is gone, or does not build the mirror any more.",
                hint="Run the creation of the chain again: it repairs the project.",
            )
        values = {"IMAGE_TAG": commit, "GIT_COMMIT_SHORT_SHA": commit[:7]}
        variables = tuple((key, values.get(key, value)) for key, value in project.settings.variables)
        wanted = replace(project.settings, tag=commit, dockerfile=dockerfile, variables=variables)
        if wanted != project.settings:
            await self._cloud.builds.change(project.id, wanted)

    async def _followed(self, run: ProviderRun, chain: Chain, on_line: OnLine) -> None:
        """Look until it ends. Errors: BuildFailed, BuildTimeout."""
        if run.word is not None and run.ended_at is not None:
            return _judge(run, run.word, None)
        deadline = run.noted_at + self._cloud.settings.build_deadline
        said = ""
        while True:
            try:
                async with asyncio.timeout(max((deadline - self._cloud.now()).total_seconds(), 0.01)):
                    seen = await self._looked(run, chain, on_line)
            except TimeoutError:
                raise _too_late(run, self._cloud.settings.build_deadline, said) from None
            word = (seen.word if seen else None) or ""
            if seen is not None and word != said:
                said = word
                await on_line(f"SourceBuild: {word}")
            if seen is not None and seen.state.is_final:
                await self._cloud.runs.ended(run, word)
                return _judge(run, word, seen.failed_phase)

    async def _looked(self, run: ProviderRun, chain: Chain, on_line: OnLine) -> Run | None:
        async def look() -> Sequence[Run]:
            return await self._cloud.build_looks.look(chain.build_project_id)

        return next((each for each in await self._patiently(look, on_line) if each.id == run.run_id), None)

    async def _pushed(self, chain: Chain, commit: str, on_line: OnLine) -> Image:
        """The image in the registry, which may show it late."""
        until = self._cloud.now() + self._cloud.settings.images_appear_within
        rests_s = iter(IMAGE_RESTS_S)
        while True:
            found = await self._patiently(lambda: self._cloud.registry.find(chain.image, commit), on_line)
            if found is not None:
                await on_line(f"The registry has it: {found.reference} is {found.digest}.")
                return Image(digest=found.digest, ref=found.reference, commit_sha=commit, exposed_ports=())
            if self._cloud.now() >= until:
                raise ImageMissing(
                    f"SourceBuild says that it built {commit[:12]}, but the registry has no {chain.image}:{commit}.",
                    hint="Look at the build's log in Naver Cloud's console, and whether the project builds an image.",
                    evidence={"image": f"{chain.image_repo}:{commit}"},
                )
            await asyncio.sleep(next(rests_s, IMAGE_RESTS_S[-1]))

    async def _patiently(self, work: Callable[[], Awaitable[T]], on_line: OnLine) -> T:
        """Again while Naver Cloud is away; the stage's deadline ends it."""
        while True:
            try:
                return await work()
            except DiskFull:
                raise
            except Unavailable as away:
                await on_line(f"{away.message} Tried again.")
                rest_s = away.retry_after.total_seconds() if away.retry_after is not None else REST_S
                await asyncio.sleep(max(rest_s, 0.05))


def _chosen(request: BuildRequest) -> BuildInput:
    """Errors: as in `builders.dockerfile`; ContextUnusable for a context that is not the root."""
    if request.context not in {None, "."}:
        raise ContextUnusable(
            f"SourceBuild builds in the root of the repository, not in {request.context!r}.",
            hint="Take the setting `context` away, and write the Dockerfile for the root.",
        )
    return choose(request.source, dockerfile=request.dockerfile, context=".")


def _is_elsewhere(project: BuildProject, chain: Chain) -> bool:
    settings = project.settings
    return settings is None or (settings.repository, settings.branch) != (chain.repository_name, chain.branch)


def _judge(run: ProviderRun, word: str, phase: str | None) -> None:
    if state_of(word) is RunState.SUCCEEDED:
        return
    where = f"in its phase {phase}" if phase else "before it was done"
    raise BuildFailed(
        f"Build failed: {word}",
        hint=f"SourceBuild ended {where}. No API gives its log out: look at run {run.run_id} in Naver Cloud's console.",
        evidence={"run_id": run.run_id, "provider_project_id": run.provider_project_id, "phase": phase},
    )


def _too_late(run: ProviderRun, limit: timedelta, said: str) -> BuildTimeout:
    return BuildTimeout(
        "Build timeout",
        hint=f"SourceBuild did not end it within {limit.total_seconds() / 60:g} minutes; it is cancelled. "
        "KLEPAAS_NCP_BUILD_DEADLINE is the limit.",
        evidence={"run_id": run.run_id, "provider_project_id": run.provider_project_id, "last_word": said},
    )


def _log_image(*, exists: bool, code: object) -> None:
    log.info(f"NCR image verification result: exists={exists}, code={code}")
