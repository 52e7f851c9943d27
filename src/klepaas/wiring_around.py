"""What a provider's parts need of the others. Apart from them: nobody pays for a provider that is not configured."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from klepaas.domain.connection import Credential
from klepaas.domain.project import Project
from klepaas.operations.ports.chains import ChainBook
from klepaas.operations.ports.projects import Projects
from klepaas.operations.ports.provider_runs import ProviderRuns
from klepaas.sources.git_program import GitProgram
from klepaas.targets.protocol import Reached


@dataclass(frozen=True, kw_only=True)
class Around:
    projects: Projects
    book: ChainBook
    runs: ProviderRuns
    credential: Callable[[Project], Awaitable[Credential | None]]
    git: GitProgram
    mirrors: Path
    now: Callable[[], datetime]
    reached: Reached
