"""What every operation gets: memory, places, and the two bells (feed and runner). Built once by `wiring`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from klepaas.builders.protocol import Builder
from klepaas.operations.absent_target import AbsentTarget
from klepaas.operations.code_host import CodeHost
from klepaas.operations.current_app import CurrentApp
from klepaas.operations.past import Past
from klepaas.operations.ports.apps import Apps
from klepaas.operations.ports.branches import Branches
from klepaas.operations.ports.build_logs import BuildLogs
from klepaas.operations.ports.clock import Clock
from klepaas.operations.ports.connections import Connections
from klepaas.operations.ports.deliveries import Deliveries
from klepaas.operations.ports.deployments import Deployments
from klepaas.operations.ports.feed import Feed
from klepaas.operations.ports.owners import Owners
from klepaas.operations.ports.pipelines import Pipelines
from klepaas.operations.ports.projects import Projects
from klepaas.operations.ports.provider_runs import ProviderRuns
from klepaas.operations.ports.releases import Releases
from klepaas.operations.ports.reports import Reports
from klepaas.operations.ports.runner import Runner
from klepaas.operations.ports.tokens import Tokens
from klepaas.sources.protocol import Source
from klepaas.targets.protocol import Target


@dataclass(frozen=True, kw_only=True)
class Context:
    projects: Projects
    apps: Apps
    releases: Releases
    deployments: Deployments
    branches: Branches
    reports: Reports
    deliveries: Deliveries
    connections: Connections
    owners: Owners
    tokens: Tokens
    runs: ProviderRuns
    past: Past
    logs: BuildLogs
    feed: Feed
    runner: Runner
    clock: Clock
    source: Source
    builder: Builder
    """Builds for every target that has no builder of its own (`builders`)."""
    targets: Mapping[str, Target]
    github: CodeHost
    github_app: CurrentApp
    github_url: str
    local_repositories: bool
    github_api_url: str = "https://api.github.com"
    public_url: str | None = None
    """Where people and GitHub reach this klepaas, without a slash at its end; None while the operator said nothing."""
    main_branch: str = "main"
    """The branch of a new project that names none."""
    pipelines: Mapping[str, Pipelines] = field(default_factory=dict)
    """By the name of their target: for those that are built and deployed at a provider."""
    builders: Mapping[str, Builder] = field(default_factory=dict)
    """By the name of their target."""
    absent_targets: Mapping[str, str] = field(default_factory=dict)
    """Targets that klepaas knows and that are not set up here, with what sets them up."""

    def builder_of(self, target: str) -> Builder:
        return self.builders.get(target, self.builder)

    def target_of(self, name: str) -> Target:
        """The target; one that refuses everything where there is none of this name (any more)."""
        return self.targets.get(name) or self.absent(name)

    def absent(self, name: str) -> AbsentTarget:
        offered = f"Choose one of: {', '.join(sorted(self.targets))}."
        return AbsentTarget(name, hint=self.absent_targets.get(name, offered))
