"""One account at Naver Cloud, as its builder and its target share it: client, registry, and the two pollers."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from klepaas.domain.connection import Credential
from klepaas.domain.project import App, Project
from klepaas.domain.repository import Repository
from klepaas.errors import NotFound, Rejected
from klepaas.operations.ports.chains import Tell
from klepaas.operations.ports.projects import Projects
from klepaas.operations.ports.provider_runs import ProviderRuns
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.chain import Chain, Chains, chain_of
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.mirror import Mirror, Origin
from klepaas.targets.ncp.observer import Observer
from klepaas.targets.ncp.registry import Registry
from klepaas.targets.ncp.run import Run
from klepaas.targets.ncp.sourcebuild import SourceBuild
from klepaas.targets.ncp.sourcedeploy import SourceDeploy
from klepaas.targets.protocol import Reached, nothing_reached

BUILD, DEPLOY, RESTORE = "build", "deploy", "restore"
"""Kinds of runs in the book. A restoring one is a run of SourceDeploy too."""


@dataclass(kw_only=True)
class Cloud:
    """`credential` opens a project's connection to where its code comes from. Close it at the end."""

    settings: NcpSettings
    client: NcpClient
    registry: Registry
    chains: Chains
    projects: Projects
    runs: ProviderRuns
    credential: Callable[[Project], Awaitable[Credential | None]]
    now: Callable[[], datetime]
    reached: Reached = nothing_reached
    builds: SourceBuild = field(init=False)
    deploys: SourceDeploy = field(init=False)
    build_looks: Observer = field(init=False)
    deploy_looks: Observer = field(init=False)

    def __post_init__(self) -> None:
        self.builds, self.deploys = SourceBuild(self.client), SourceDeploy(self.client)
        every_s = self.settings.look_every.total_seconds()
        self.build_looks = Observer(self._read_builds, every_s=every_s)
        self.deploy_looks = Observer(self._read_deploys, every_s=every_s)

    async def close(self) -> None:
        await self.build_looks.close()
        await self.deploy_looks.close()

    async def project(self, app: App) -> Project:
        """Errors: NotFound when it was retired; Rejected for another environment than its own."""
        found = await self.projects.get(app.project_id)
        if found is None:
            raise NotFound(f"The project of {app.name} is gone.")
        if app.environment != found.environment:
            raise Rejected(
                f"{found.name} has one place at Naver Cloud, which is for {found.environment}: {app.environment} would "
                "take it over.",
                hint=f"Register the repository once more, for {app.environment}: each project has a chain of its own.",
            )
        return found

    async def chain(self, project: Project, tell: Tell | None = None) -> Chain:
        """As the record has it; made where it is not complete."""
        known = chain_of(project)
        return known if known is not None else (await self.chains.ensure(project, tell))[0]

    def origin(self, project: Project) -> Origin:
        async def credential() -> Credential | None:
            return await self.credential(project)

        return Origin(repository=project.repository, branch=project.branch, credential=credential)

    async def require_no_variables(self, app: App) -> None:
        """Errors: Rejected, before anything is touched, for a project with environment variables."""
        names = await self.projects.variable_names(app.project_id, app.environment)
        refuse_variables(sorted(names))

    async def _read_builds(self, project_id: int) -> Sequence[Run]:
        return await self.builds.runs(project_id, is_polling=True)

    async def _read_deploys(self, project_id: int) -> Sequence[Run]:
        return await self.deploys.runs(project_id, is_polling=True)


def mirror_of(app: App, chain: Chain) -> Mirror:
    return Mirror(name=app.name, git_url=chain.git_url, branch=chain.branch)


def refuse_variables(names: Sequence[str]) -> None:
    """Their values would have to be written into the manifest, which is in git. Errors: Rejected."""
    if names:
        raise Rejected(
            f"The environment variables of this project ({', '.join(names)[:200]}) cannot be given to it at Naver "
            "Cloud: klepaas writes no secret into the mirror. Nothing was touched.",
            hint="Put them into a Secret of the cluster, name it in k8s/deployment.yaml (envFrom), and take the "
            "variables away here: klepaas env unset.",
            evidence={"variables": list(names)[:50]},
        )


def git_credential(settings: NcpSettings, place: Repository) -> Credential:
    """Of the sub account that pushes. It is shown to the mirror's own server. Errors: Rejected when there is none."""
    if settings.sourcecommit_username is None or settings.sourcecommit_password is None:
        raise Rejected(
            "klepaas has no user for git at SourceCommit.",
            hint="Set KLEPAAS_NCP_SOURCECOMMIT_USERNAME to a sub account, and KLEPAAS_NCP_SOURCECOMMIT_PASSWORD to the "
            "git password set for it in the console.",
        )
    password = settings.sourcecommit_password.get_secret_value()
    return Credential(username=settings.sourcecommit_username, password=password, host=place.host)
