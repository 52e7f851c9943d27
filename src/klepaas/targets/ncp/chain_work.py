"""A visit to one project's chain: what is known of it, written down as it is learnt, and what was changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from klepaas.domain.project import Project
from klepaas.operations.ports.chains import ChainBook, Tell

_COLUMNS = ("sc_project_id", "sc_repo_name", "build_project_id", "deploy_project_id", "pipeline_id")


@dataclass
class Work:
    """`changes` are sentences, in the order they became true."""

    project: Project
    names: Mapping[str, str]
    book: ChainBook
    tell: Tell | None = None
    changes: list[str] = field(default_factory=list)
    known: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        columns = {name: getattr(self.project, name) for name in _COLUMNS}
        self.known = {**self.project.chain, **columns}

    def number(self, name: str) -> int | None:
        """An id; None when it is not known, or is no number."""
        value = str(self.known.get(name) or "")
        return int(value) if value.isascii() and value.isdigit() else None

    def text(self, name: str) -> str:
        return str(self.known[name])

    async def note(self, **facts: Any) -> None:
        """At once, before anything is made that builds on it."""
        news = {name: value for name, value in facts.items() if str(self.known.get(name)) != str(value)}
        if news:
            await self.book.note(self.project.id, news)
            self.known.update(news)

    async def changed(self, sentence: str) -> None:
        self.changes.append(sentence)
        if self.tell is not None:
            await self.tell(sentence)
