"""The memory of projects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from klepaas.domain.github import RepositoryName
from klepaas.domain.project import Project


class AsOf(Protocol):
    """A state of the store that something was decided on. Whoever writes it down hands this in, and the store looks
    whether the state still is."""


@dataclass(frozen=True)
class Recalled:
    """`as_of` is None when nothing can have changed."""

    projects: Sequence[Project]
    as_of: AsOf | None


class Projects(Protocol):
    async def add(self, project: Project) -> Project: ...

    async def get(self, project_id: str) -> Project | None: ...

    async def named(self, name: str, owner_id: str | None) -> Sequence[Project]:
        """Projects with this name, of one owner or (None) of all."""

    async def list(self, owner_id: str | None) -> Sequence[Project]: ...

    async def targets(self) -> Mapping[str, str]:
        """Of every project by its id, and nothing more of it."""

    async def of_repository(self, repository: RepositoryName) -> Sequence[Project]:
        """Projects of this GitHub repository: by its id, else by its name in any case; and never those of another
        installation."""

    async def recall(self, repository: RepositoryName) -> "Recalled":
        """The same, perhaps from memory: for those whose write says `as_of` when it was."""

    async def learn(self, projects: Sequence[Project]) -> None:
        """Write down what GitHub said of their repositories (ids, names), unless somebody changed them meanwhile."""

    async def change(self, project: Project, *, unchanged_since: datetime) -> Project:
        """Errors: Conflict when somebody changed it in the meantime."""

    async def retire(self, project_id: str, at: datetime) -> None: ...

    async def set_variables(
        self, project_id: str, environment: str, values: Mapping[str, str | None], at: datetime
    ) -> None:
        """Seal and store; None removes."""

    async def variable_names(self, project_id: str, environment: str) -> Mapping[str, datetime]: ...
