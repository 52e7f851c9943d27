"""What is known of a project's chain at its provider."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from klepaas.domain.project import Project

Tell = Callable[[str], Awaitable[None]]
"""Receives a sentence for each thing that was changed, right after it was."""


class ChainBook(Protocol):
    """What is known of the projects' chains at their provider: the ids on the project, and the rest in `chain`."""

    async def claim_names(
        self, project: Project, candidates: Sequence[Mapping[str, str]], *, keep: Mapping[str, str]
    ) -> Mapping[str, str]:
        """By what they name: those the project has already, else the first of these that no other project holds,
        with `keep` in them whoever holds it. Errors: Conflict when all are held."""

    async def note(self, project_id: str, known: Mapping[str, Any]) -> None:
        """Write down what is known now and keep the rest. None takes something away."""

    async def forget(self, project_id: str) -> None:
        """The chain is gone, and its names are free."""
