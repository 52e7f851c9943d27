"""All that a stand-in knows. Changed only on its server's loop."""

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from klepaas.testing.git.repository import GitRepository
from klepaas.testing.ncp.build import Build, BuildProject
from klepaas.testing.ncp.clock import Clock
from klepaas.testing.ncp.cluster import Cluster
from klepaas.testing.ncp.deploy import Deploy, DeployProject
from klepaas.testing.ncp.engine_builds import EngineBuilds
from klepaas.testing.ncp.faults import Faults
from klepaas.testing.ncp.images import Images
from klepaas.testing.ncp.pipeline import PipelineProject, PipelineRun
from klepaas.testing.ncp.signature import KeyPair

FIRST_IDS = {
    "repository": 632_001,
    "build project": 20_001,
    "deploy project": 12_001,
    "stage": 14_001,
    "scenario": 17_001,
    "pipeline": 2_001,
    "task": 5_001,
    "pipeline run": 54_001,
    "deploy": 80_001,
}
"""Ranges as they look at the real service, never 1: a constant in a client stands out."""


class Made(Protocol):
    @property
    def made_at(self) -> datetime: ...


@dataclass
class Repository:
    """A repository of SourceCommit."""

    id: int
    name: str
    description: str
    linked: dict[str, bool]
    git: GitRepository
    made_at: datetime
    default: str = ""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class World:
    folder: Path
    images: Images
    cluster: Cluster
    registry_name: str
    registry_host: str
    """Without a scheme, as in image references."""
    git_url: str
    account: str
    """The seven digits in git URLs."""
    git_user: str
    git_password: str = field(repr=False)
    pairs: dict[str, KeyPair] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    faults: Faults = field(default_factory=Faults)
    engine: EngineBuilds | None = None
    """Builds for real; without one a build is a time and a small image."""
    build_time: timedelta = timedelta(milliseconds=30)
    deploy_time: timedelta = timedelta(milliseconds=30)
    repositories: dict[str, Repository] = field(default_factory=dict)
    build_projects: dict[int, BuildProject] = field(default_factory=dict)
    builds: dict[str, Build] = field(default_factory=dict)
    deploy_projects: dict[int, DeployProject] = field(default_factory=dict)
    deploys: dict[int, Deploy] = field(default_factory=dict)
    pipeline_projects: dict[int, PipelineProject] = field(default_factory=dict)
    pipeline_runs: dict[int, PipelineRun] = field(default_factory=dict)
    pushed: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """Image name and tag → when it came in."""
    _counters: dict[str, Iterator[int]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def next_id(self, kind: str) -> int:
        if kind not in self._counters:
            self._counters[kind] = itertools.count(FIRST_IDS[kind])
        return next(self._counters[kind])

    def shows(self, thing: Made) -> bool:
        """Whether a new thing has arrived in lists and details."""
        return self._is_older(thing, self.faults.lags.objects)

    def shows_run(self, run: Made) -> bool:
        return self._is_older(run, self.faults.lags.runs)

    def git_serves(self, repository: Repository) -> bool:
        return self._is_older(repository, self.faults.lags.git)

    def _is_older(self, thing: Made, lag_ms: int) -> bool:
        return not lag_ms or self.clock.now() - thing.made_at >= timedelta(milliseconds=lag_ms)

    def create_repository(self, name: str, description: str = "", linked: dict[str, bool] | None = None) -> Repository:
        """Errors: KeyError when the name is taken."""
        if name in self.repositories:
            raise KeyError(name)
        number = self.next_id("repository")
        git = GitRepository(self.folder / f"{number}.git")
        git.create("master")
        safe = {"FileSafer": False, "ObjectStorage": False, **(linked or {})}
        made = Repository(number, name, description, safe, git, self.clock.now())
        self.repositories[name] = made
        return made

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """End what is still running."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
