"""The chain of a project at Naver Cloud: mirror, build, deployment, pipeline; made once, then kept in repair."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from klepaas.domain.project import Project
from klepaas.errors import AnswerLost, Conflict, Rejected
from klepaas.operations.ports.chains import ChainBook, Tell
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.chain_links import Links
from klepaas.targets.ncp.chain_work import Work
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.clusters import configured_cluster
from klepaas.targets.ncp.names import MAX_REPOSITORY, app_name, chain_names, check_name
from klepaas.targets.ncp.sourcebuild import SourceBuild
from klepaas.targets.ncp.sourcecommit import SourceCommit
from klepaas.targets.ncp.sourcedeploy import SourceDeploy
from klepaas.targets.ncp.sourcepipeline import SourcePipeline


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Everything a deployment needs to know. `git_url` has no credential; `image_repo` is `{host}/{image}`, `image`
    the part after the slash, `app` the name in the cluster, `branch` that of the mirror."""

    repository_id: int
    repository_name: str
    git_url: str
    branch: str
    build_project_id: int
    deploy_project_id: int
    stage_id: int
    scenario_id: int
    pipeline_id: int
    image_repo: str
    image: str
    app: str


def chain_of(project: Project) -> Chain | None:
    """As the record has it, without asking anybody; None while something of it is missing."""
    known, names = project.chain, project.chain.get("names") or {}
    try:
        return Chain(
            repository_id=int(known["repository_id"]),
            repository_name=str(names["repository"]),
            git_url=str(known["git_url"]),
            branch=project.branch,
            build_project_id=int(project.build_project_id or ""),
            deploy_project_id=int(project.deploy_project_id or ""),
            stage_id=int(known["stage_id"]),
            scenario_id=int(known["scenario_id"]),
            pipeline_id=int(project.pipeline_id or ""),
            image_repo=str(known["image_repo"]),
            image=str(names["image"]),
            app=str(names["app"]),
        )
    except (KeyError, ValueError):
        return None


def known_or_refused(project: Project) -> Chain:
    """Errors: Conflict while the chain is not complete."""
    chain = chain_of(project)
    if chain is None:
        raise Conflict(
            f"The chain of {project.name} at Naver Cloud is not complete.",
            hint=f"Create it with: klepaas projects chain {project.name}",
        )
    return chain


class Chains:
    """One per account. What it makes is written to the book at once, so that a crash anywhere loses nothing."""

    def __init__(self, client: NcpClient, settings: NcpSettings, book: ChainBook) -> None:
        self._client, self._settings, self._book = client, settings, book

    async def ensure(
        self, project: Project, tell: Tell | None = None, *, mirror: str | None = None
    ) -> tuple[Chain, tuple[str, ...]]:
        """Have the whole chain, as klepaas sets it up. Returns it with a sentence for each thing that was changed.

        Idempotent; what exists by its names is adopted, what drifted is repaired. The tag that the build is set to
        stays as it is. `mirror` is a name for the repository; None makes one.
        Errors: those of the client, Conflict, Rejected when settings are missing."""
        registry = self._registry()
        configured_cluster(self._settings)
        names = await self._names(project, mirror)
        work = Work(project=project, names=names, book=self._book, tell=tell)
        await work.note(sc_repo_name=names["repository"], image_repo=f"{registry}/{names['image']}")
        links = Links(self._client, self._settings, work)
        repository = await links.repository()
        build_id = await links.build()
        deploy_id = await links.deploy()
        stage_id = await links.stage(deploy_id)
        scenario_id = await links.scenario(deploy_id, stage_id)
        pipeline_id = await links.pipeline(build_id, deploy_id, stage_id, scenario_id)
        chain = Chain(
            repository_id=repository.id,
            repository_name=names["repository"],
            git_url=work.text("git_url"),
            branch=project.branch,
            build_project_id=build_id,
            deploy_project_id=deploy_id,
            stage_id=stage_id,
            scenario_id=scenario_id,
            pipeline_id=pipeline_id,
            image_repo=work.text("image_repo"),
            image=names["image"],
            app=names["app"],
        )
        return chain, tuple(work.changes)

    async def expect(self, project: Project, *, mirror: str | None, place: str | None) -> None:
        """Only written down: whether the name can be had is found out when the chain is made. Once its names are
        decided, the place is known better than by being told.

        Errors: Invalid; Conflict when the project has another mirror already."""
        if mirror is not None:
            check_name(mirror, "SourceCommit repository", MAX_REPOSITORY)
        if found := project.chain.get("names"):
            _refuse_another(project, found, mirror)
            return
        told = {"sc_repo_name": mirror, "sc_project_id": place}
        await self._book.note(project.id, {name: value for name, value in told.items() if value is not None})

    async def remove(self, project: Project, tell: Tell | None = None) -> tuple[str, ...]:
        """Take the chain down. What is gone already is no error. Images in the registry stay.

        Only what the record has an id for is touched: a thing of the same name may be somebody else's."""
        work = Work(project=project, names=project.chain.get("names") or {}, book=self._book, tell=tell)
        # What uses something goes before it.
        for column, what, remove in (
            ("pipeline_id", "SourcePipeline project", SourcePipeline(self._client).remove),
            ("deploy_project_id", "SourceDeploy project", SourceDeploy(self._client).remove),
            ("build_project_id", "SourceBuild project", SourceBuild(self._client).remove),
            ("repository_id", "SourceCommit repository", SourceCommit(self._client).remove),
        ):
            number = work.number(column)
            if number is None:
                continue
            try:
                await remove(number)
            except AnswerLost:
                await remove(number)
            await work.note(**{column: None})
            await work.changed(f"Removed the {what} {number}.")
        await self._book.forget(project.id)
        return tuple(work.changes)

    def _registry(self) -> str:
        host = self._settings.container_registry_url
        if host is None:
            raise Rejected(
                "klepaas does not know the registry at Naver Cloud.",
                hint="Set KLEPAAS_NCP_CONTAINER_REGISTRY_URL to its host, e.g. acme.kr.ncr.ntruss.com.",
            )
        return host

    async def _names(self, project: Project, mirror: str | None) -> dict[str, str]:
        """Decided once. A project that comes with a mirror or an image keeps their names."""
        if found := project.chain.get("names"):
            _refuse_another(project, found, mirror)
            return dict(found)
        owner, repo = project.repository.owner_and_name or (project.repository.owner, project.repository.name)
        candidates = [
            asdict(chain_names(owner, repo)),
            asdict(chain_names(owner, repo, is_suffixed=True)),
            asdict(chain_names(owner, repo, is_suffixed=True, apart=f" {project.id}")),
        ]
        keep = await self._kept(project, mirror or project.sc_repo_name)
        return dict(await self._book.claim_names(project, candidates, keep=keep))

    async def _kept(self, project: Project, mirror: str | None) -> dict[str, str]:
        kept: dict[str, str] = {}
        if mirror:
            kept["repository"] = check_name(mirror, "SourceCommit repository", MAX_REPOSITORY)
            kept["app"] = app_name(mirror)
        if (project.build_project_id or "").isdigit():
            build = await SourceBuild(self._client).project(int(project.build_project_id or ""))
            if build is not None and build.settings is not None:
                kept["image"] = build.settings.image
        return kept


def _refuse_another(project: Project, names: Mapping[str, str], mirror: str | None) -> None:
    if mirror is not None and mirror != names["repository"]:
        raise Conflict(
            f"{project.name} is mirrored to {names['repository']} already, not to {mirror[:100]}.",
            hint="Leave the name out, or take the chain down first: it keeps no history of its own.",
        )
