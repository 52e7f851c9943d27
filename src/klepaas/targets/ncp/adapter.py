"""Naver Cloud as a target: a release is a manifest at the tip of the mirror and a run of SourceDeploy that applies it.

Kubernetes moves the traffic and keeps the app running; klepaas starts one run for each deployment and looks at it."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import App, Project
from klepaas.domain.release import Release
from klepaas.errors import Outside, Rejected, Unavailable
from klepaas.operations.ports.provider_runs import ProviderRun
from klepaas.targets.ncp.by_hand import noticed
from klepaas.targets.ncp.chain import Chain, known_or_refused
from klepaas.targets.ncp.cloud import BUILD, DEPLOY, RESTORE, Cloud, mirror_of, refuse_variables
from klepaas.targets.ncp.cluster_view import ClusterView
from klepaas.targets.ncp.image_reference import read_reference
from klepaas.targets.ncp.manifest import MANIFEST_PATH
from klepaas.targets.ncp.manifest_made import Wanted
from klepaas.targets.ncp.mirror import Mirrors
from klepaas.targets.ncp.rollout import Rollout, Stand, workloads_with
from klepaas.targets.ncp.rollout import Wanted as Workload
from klepaas.targets.ncp.run import Run, Started
from klepaas.targets.ncp.starting import begun, given_up
from klepaas.targets.ncp.states import RunState, state_of
from klepaas.targets.protocol import Plan

log = structlog.get_logger()

RESTORE_REST_S = 2.0
"""Between two tries to put back what is live; whoever gave the deployment up says for how long it is tried."""
KNOWN = 500
"""Deployments whose workloads are kept in memory; those of others are read from the mirror."""
CLUSTER_REST_S = 1.0
"""Between two looks at a rollout that goes on."""


@dataclass(frozen=True)
class _Stand:
    """Of a run: what the provider says, and what the book had before."""

    run: ProviderRun
    state: RunState
    word: str


class NcpTarget:
    name = "ncp"

    def __init__(self, cloud: Cloud, mirrors: Mirrors, view: ClusterView) -> None:
        self.look_every: timedelta = cloud.settings.watch_every
        self._cloud, self._mirrors, self._view = cloud, mirrors, view
        self._workloads: OrderedDict[str, tuple[Workload, ...]] = OrderedDict()
        self._in_registry: OrderedDict[str, None] = OrderedDict()

    async def check(self) -> None:
        await self._cloud.deploys.clusters()

    def plan(self, app: App, release: Release) -> Plan:
        image = _image(release)
        return Plan(
            target=self.name,
            summary=f"Deploy release {release.number} of {app.name} with SourceDeploy.",
            steps=(
                {"do": "manifest", "file": MANIFEST_PATH, "commit": release.commit_sha, "image": image},
                {"do": "deploy", "image": release.image_digest, "variables": list(release.variable_names)},
            ),
        )

    async def apply(
        self, app: App, release: Release, variables: Mapping[str, str], *, deployment_id: str | None = None
    ) -> None:
        """Have the manifest of this release at the tip of the mirror, and a run that applies it, one for each
        deployment. Errors: Rejected for variables, ManifestUnusable, those of the mirror and of SourceDeploy."""
        cloud, key = self._cloud, deployment_id or release.deployment_id
        refuse_variables(sorted(variables))
        noted = await cloud.runs.of(key, DEPLOY)
        if noted is not None and noted.run_id is not None:
            return
        project = await cloud.project(app)
        chain = known_or_refused(project)
        wanted = _wanted(project, chain, release)
        published = await self._mirrors.publish(
            cloud.origin(project), mirror_of(app, chain), release.commit_sha, wanted
        )
        for each in (*published.manifest.changes, *published.manifest.notes):
            log.info("manifest_changed", app=app.name, what=each)
        self._remember(key, await asyncio.to_thread(workloads_with, published.manifest.content, wanted.image))
        started = await self._run(app, release, chain, key, DEPLOY)
        log.info(f"[NCP-DEBUG][SD-STATUS-POLLING-STARTED] history_id={started.run_id}", history_id=started.run_id)

    async def restore(self, app: App, live: Release | None, *, deployment_id: str) -> None:
        """The mirror's tip says what is live again; a run applies it when one of the deployment may have applied
        something else. Kubernetes then keeps the pods it still has."""
        built, deployed = [await self._cloud.runs.of(deployment_id, kind) for kind in (BUILD, DEPLOY)]
        if live is None or (built is None and deployed is None):
            return
        project = await self._cloud.project(app)
        chain = known_or_refused(project)
        wanted = _wanted(project, chain, live)
        await self._mirrors.publish(self._cloud.origin(project), mirror_of(app, chain), live.commit_sha, wanted)
        while deployed is not None:
            try:
                await self._run(app, live, chain, deployment_id, RESTORE)
                return
            except Unavailable as away:
                log.info("restore_waits", app=app.name, reason=away.message)
                await asyncio.sleep(away.retry_after.total_seconds() if away.retry_after else RESTORE_REST_S)

    async def observe(self, app: App, release: Release, *, deployment_id: str | None = None) -> Observation:
        """Waits for its turn to look while a run goes on: histories are read for all who wait together."""
        try:
            run = await self._run_of(app, deployment_id)
            if run is None or run.release_id != release.id:
                return self._seen(Health.ABSENT, "No run of SourceDeploy applied this release last.")
            if run.run_id is None:
                return self._seen(Health.STARTING, "The run was not seen yet.")
            return await self._observed(app, release, await self._stand(run))
        except Outside as fault:
            return self._seen(Health.UNKNOWN, fault.message)

    async def settle(self, app: App, release: Release, *, deployment_id: str) -> Observation:
        """Also a rollout alone is proof here: a run that never says its end is not waited for any longer."""
        run = await self._cloud.runs.of(deployment_id, DEPLOY)
        if run is None:
            return self._seen(Health.ABSENT, "No run of SourceDeploy was started.")
        if run.run_id is None:
            found = await self._found_late(app, run)
            if isinstance(found, Observation):
                return found
            run = found
        stand = await self._stand(run)
        rollout = await self._rollout(app, release, run)
        if stand.state is RunState.SUCCEEDED and rollout is not None and rollout.stand is Stand.ELSEWHERE:
            detail = f"SourceDeploy says {stand.word} of its run {run.run_id}, but {rollout.detail}."
            return self._seen(Health.STOPPED, detail, run=run)
        if stand.state.is_final:
            return await self._observed(app, release, stand)
        if rollout is not None and rollout.stand is Stand.DONE:
            detail = f"{rollout.detail}, though SourceDeploy says {stand.word or 'nothing'} of its run {run.run_id}."
            return self._seen(Health.HEALTHY, detail, run=run, digest=release.image_digest, ready=rollout.ready)
        return self._seen(Health.STARTING, f"SourceDeploy says {stand.word or 'nothing'} of its run {run.run_id}.")

    async def watch(self, app: App, release: Release, *, deployment_id: str) -> tuple[Observation, Sequence[str]]:
        """By the cluster, where klepaas may look into it; else it is as it was when its run succeeded."""
        notes: tuple[str, ...] = ()
        try:
            project = await self._cloud.project(app)
            notes = await noticed(self._cloud, app, known_or_refused(project))
            run = await self._cloud.runs.of(deployment_id, DEPLOY)
            rollout = await self._rollout(app, release, run) if run is not None else None
        except Outside as fault:
            return self._seen(Health.UNKNOWN, fault.message), notes
        if rollout is None:
            return self._seen(
                Health.HEALTHY, "SourceDeploy deployed it. The cluster is not looked into.", run=run
            ), notes
        health = Health.HEALTHY if rollout.stand is Stand.DONE else Health.UNHEALTHY
        digest = release.image_digest if rollout.stand is Stand.DONE else None
        return self._seen(health, f"{rollout.detail}.", run=run, digest=digest, ready=rollout.ready), notes

    def urls(self, app: App, hosts: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"https://{host}" for host in hosts)

    async def remove(self, app: App, release: Release) -> None:
        """Cancel a run of this release that still goes on. What the cluster runs stays: it is replaced, by the next
        run, never taken away by klepaas."""
        cloud, run = self._cloud, await self._cloud.runs.newest(app.key, DEPLOY)
        if run is None or run.release_id != release.id or run.ended_at is not None:
            return
        chain, within = known_or_refused(await cloud.project(app)), cloud.settings.runs_appear_within
        run = await given_up(cloud.runs, run, lambda: self._of_scenario(chain), appears_within=within, now=cloud.now)
        if run.run_id is not None:
            try:
                await cloud.deploys.cancel(int(run.provider_project_id), run.run_id)
            except Rejected as refused:
                log.info("run_not_cancelled", history_id=run.run_id, reason=refused.message)
        await cloud.runs.ended(run, "canceled")

    async def running(self, app: App) -> Sequence[str]:
        """Nothing beside the last one: Kubernetes keeps one version of an app, and replaces it."""
        return ()

    async def tail(self, app: App, release: Release, lines: int) -> Sequence[str]:
        """SourceDeploy gives no log out."""
        return ()

    # Starting

    async def _run(self, app: App, release: Release, chain: Chain, key: str, kind: str) -> ProviderRun:
        noted = await self._cloud.runs.of(key, kind)
        run = noted or await self._noted(app, release, chain, key, kind)
        return await self._begun(run, chain, was_noted_before=noted is not None)

    async def _noted(self, app: App, release: Release, chain: Chain, key: str, kind: str) -> ProviderRun:
        cloud, number = self._cloud, chain.deploy_project_id
        seen = await cloud.deploys.runs(number)
        if going := next((run for run in seen if run.state is RunState.RUNNING), None):
            raise Unavailable(
                f"Run {going.id} of the SourceDeploy project {number} still goes on ({going.word}).",
                hint="It is waited for; cancel it in Naver Cloud's console when it does not end.",
                retry_after=cloud.settings.look_every,
            )
        noted = await cloud.runs.intend(
            app,
            kind,
            str(number),
            deployment_id=key,
            known=[run.id for run in seen],
            commit_sha=release.commit_sha,
            release_id=release.id,
        )
        if noted is None:
            raise Unavailable(
                f"Another deployment still runs in the SourceDeploy project {number}.",
                hint="It is tried again; two apps that share one project take turns.",
                retry_after=timedelta(seconds=5),
            )
        return noted

    async def _begun(self, run: ProviderRun, chain: Chain, *, was_noted_before: bool) -> ProviderRun:
        cloud, number = self._cloud, chain.deploy_project_id

        async def start(known: Collection[str]) -> Started:
            return await cloud.deploys.start(number, chain.stage_id, chain.scenario_id, known=known)

        return await begun(
            cloud.runs,
            run,
            start,
            lambda: self._of_scenario(chain),
            was_noted_before=was_noted_before,
            appears_within=cloud.settings.runs_appear_within,
            now=cloud.now,
            reached=cloud.reached,
        )

    async def _of_scenario(self, chain: Chain) -> Sequence[Run]:
        found = await self._cloud.deploys.runs(chain.deploy_project_id)
        return [run for run in found if run.scenario_id in {None, chain.scenario_id}]

    # Looking

    async def _run_of(self, app: App, deployment_id: str | None) -> ProviderRun | None:
        if deployment_id is not None:
            return await self._cloud.runs.of(deployment_id, DEPLOY)
        return await self._cloud.runs.newest(app.key, DEPLOY)

    async def _stand(self, run: ProviderRun) -> _Stand:
        """What became of a run: from the book once it has ended, else at the next look. Errors: those of looking."""
        if run.ended_at is not None and run.word is not None:
            return _Stand(run, state_of(run.word), run.word)
        seen = await self._cloud.deploy_looks.look(int(run.provider_project_id))
        found = next((each for each in seen if each.id == run.run_id), None)
        word = (found.word if found else None) or ""
        log.info("deployment_status_checked", history_id=run.run_id, ncp_status=word)
        if found is None or not found.state.is_final:
            return _Stand(run, found.state if found else RunState.RUNNING, word)
        await self._cloud.runs.ended(run, word)
        took_s = round((self._cloud.now() - run.noted_at).total_seconds(), 1)
        if found.state is RunState.SUCCEEDED:
            log.info("deployment_completed_successfully", history_id=run.run_id, elapsed_seconds=took_s)
            log.info("deployment_history_updated_success", history_id=run.run_id, duration_seconds=took_s)
        return _Stand(run, found.state, word)

    async def _observed(self, app: App, release: Release, stand: _Stand) -> Observation:
        run = stand.run
        said = f"SourceDeploy says {stand.word or 'nothing yet'} of its run {run.run_id}"
        if stand.state is RunState.WAITING:
            detail = f"{said}: it waits for somebody to decide in Naver Cloud's console."
            return self._seen(Health.STARTING, detail, run=run)
        if not stand.state.is_final:
            return self._seen(Health.STARTING, f"{said}.", run=run)
        rollout = await self._rollout(app, release, run)
        if stand.state is not RunState.SUCCEEDED:
            why = f" {rollout.detail}." if rollout is not None else ""
            return self._seen(Health.STOPPED, f"{said}.{why}", run=run)
        if not await self._has_image(release):
            return self._seen(Health.UNHEALTHY, f"The registry has no {release.image_ref} any more.", run=run)
        if rollout is None:
            detail = f"{said}. The cluster is not looked into."
            return self._seen(Health.HEALTHY, detail, run=run, digest=release.image_digest)
        if rollout.stand is Stand.DONE:
            detail = f"{said}. {rollout.detail}."
            return self._seen(Health.HEALTHY, detail, run=run, digest=release.image_digest, ready=rollout.ready)
        await asyncio.sleep(CLUSTER_REST_S)
        health = Health.UNHEALTHY if rollout.stand is Stand.STUCK else Health.STARTING
        return self._seen(health, f"{said}, but {rollout.detail}.", run=run, ready=rollout.ready)

    async def _rollout(self, app: App, release: Release, run: ProviderRun) -> Rollout | None:
        key = run.deployment_id or ""
        if key not in self._workloads:
            project = await self._cloud.project(app)
            mirror = mirror_of(app, known_or_refused(project))
            content = await self._mirrors.current(self._cloud.origin(project), mirror) or b""
            self._remember(key, await asyncio.to_thread(workloads_with, content, _image(release)))
        return await self._view.look(self._workloads[key], release.image_digest)

    async def _has_image(self, release: Release) -> bool:
        """Asked once for each image. Errors: those of the registry."""
        reference = read_reference(release.image_ref)
        if reference is None or release.image_digest in self._in_registry:
            return reference is not None
        found = await self._cloud.registry.find(reference.last, release.image_digest)
        if found is not None:
            self._in_registry[release.image_digest] = None
            while len(self._in_registry) > KNOWN:
                self._in_registry.popitem(last=False)
        return found is not None

    async def _found_late(self, app: App, run: ProviderRun) -> ProviderRun | Observation:
        """A run whose start was answered with nothing, once its history shows it."""
        project = await self._cloud.project(app)
        new = [each.id for each in await self._of_scenario(known_or_refused(project)) if each.id not in run.known]
        if len(new) == 1:
            return await self._cloud.runs.began(run, new[0])
        if new:
            return self._seen(Health.UNKNOWN, f"Several runs of SourceDeploy may be this one: {', '.join(new[:5])}.")
        if self._cloud.now() < run.noted_at + self._cloud.settings.runs_appear_within:
            return self._seen(Health.STARTING, "The run was not seen yet.")
        await self._cloud.runs.forget(run)
        return self._seen(Health.ABSENT, "The run of SourceDeploy never appeared in its history.")

    def _remember(self, key: str, workloads: tuple[Workload, ...]) -> None:
        self._workloads[key] = workloads
        while len(self._workloads) > KNOWN:
            self._workloads.popitem(last=False)

    def _seen(
        self,
        health: Health,
        detail: str,
        *,
        run: ProviderRun | None = None,
        digest: str | None = None,
        ready: int = 0,
    ) -> Observation:
        return Observation(
            at=self._cloud.now(),
            health=health,
            detail=detail,
            image_digest=digest,
            workload_id=run.run_id if run is not None else None,
            ready_replicas=ready,
        )


def _image(release: Release) -> str:
    """As the manifest names it: by its tag for people, by its digest for the cluster."""
    return f"{release.image_ref}@{release.image_digest}"


def _wanted(project: Project, chain: Chain, release: Release) -> Wanted:
    """Replicas and host names are the project's, whatever release it is; a file's replicas stay where nobody chose."""
    health_path = release.settings.health_path
    return Wanted(
        app=chain.app,
        image=_image(release),
        replicas=_replicas(project, release),
        port=release.container_port,
        health_path=None if health_path == "/" else health_path,
        hosts=project.settings.hosts,
    )


def _replicas(project: Project, release: Release) -> int | None:
    """None: nobody chose. A release holds every setting, so what differs from the usual comes from its project file."""
    if "replicas" in project.settings.model_fields_set:
        return project.settings.replicas
    usual = type(project.settings).model_fields["replicas"].default
    return release.settings.replicas if release.settings.replicas != usual else None
