"""What every operation gets: memory, places, and the two bells (feed and runner). Built once by `wiring`."""

from collections.abc import Mapping
from dataclasses import dataclass

from klepaas.builders.protocol import Builder
from klepaas.operations.ports import (
    Apps,
    BuildLogs,
    Clock,
    Connections,
    Deployments,
    Feed,
    Owners,
    Projects,
    Releases,
    Runner,
    Tokens,
)
from klepaas.sources.protocol import Source
from klepaas.targets.protocol import Target


@dataclass(frozen=True, kw_only=True)
class Context:
    projects: Projects
    apps: Apps
    releases: Releases
    deployments: Deployments
    connections: Connections
    owners: Owners
    tokens: Tokens
    logs: BuildLogs
    feed: Feed
    runner: Runner
    clock: Clock
    source: Source
    builder: Builder
    targets: Mapping[str, Target]
    github_url: str
    local_repositories: bool
