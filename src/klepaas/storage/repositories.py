"""Which projects belong to a repository of GitHub, and whether they still are what somebody read."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa

from klepaas.domain.connection import GITHUB_KINDS
from klepaas.domain.github import RepositoryName
from klepaas.domain.repository import SourceKind
from klepaas.storage.tables import connections, projects

p = projects.c

Asked = Callable[[str], sa.ColumnElement[Any]]
"""Gives a value of `asked_about` by its name."""

_TYPES: Mapping[str, sa.types.TypeEngine[Any]] = {
    "owner": sa.String(),
    "name": sa.String(),
    "ends": sa.String(),
    "ends_git": sa.String(),
    "repository_id": p.github_repository_id.type,
    "installation_id": p.github_installation_id.type,
}
_ESCAPED = re.compile("[!%_]")


@dataclass(frozen=True)
class RepositoryAsOf:
    """The projects of a repository on PostgreSQL as they were read. Equal ones are one state."""

    repository: RepositoryName
    versions: str
    """As `versions_of` says it."""
    forget: Callable[[RepositoryName], None] = field(compare=False)
    """To be called when it is over."""


def asked_about(repository: RepositoryName) -> Mapping[str, Any]:
    """The values of `PROJECTS_OF`."""
    address = _ESCAPED.sub(r"!\g<0>", f"/{repository.full_name.lower()}")
    return {
        "owner": repository.owner.lower(),
        "name": repository.name.lower(),
        "ends": f"%{address}",
        "ends_git": f"%{address}.git",
        "repository_id": repository.repository_id,
        "installation_id": repository.installation_id,
    }


def _belongs(asked: Asked) -> Iterable[sa.ColumnElement[bool]]:
    """By its id; by its name where one side knows no id; and never that of another installation."""
    has_no_id = sa.or_(p.github_repository_id.is_(None), asked("repository_id").is_(None))
    named = sa.or_(_is_called(asked), _is_at(asked))
    here = (asked("installation_id").is_(None), p.github_installation_id.is_(None))
    return (
        p.retired_at.is_(None),
        sa.or_(p.github_repository_id == asked("repository_id"), sa.and_(has_no_id, named)),
        sa.or_(*here, p.github_installation_id == asked("installation_id")),
    )


def _is_called(asked: Asked) -> sa.ColumnElement[bool]:
    return sa.and_(
        p.repository_kind == SourceKind.GITHUB,
        sa.func.lower(p.github_owner) == asked("owner"),
        sa.func.lower(p.github_repo) == asked("name"),
    )


def _is_at(asked: Asked) -> sa.ColumnElement[bool]:
    """Named by its address, with a connection that says that this is a GitHub."""
    location = sa.func.lower(p.repository_location)
    at_github = sa.exists().where(connections.c.id == p.connection_id, connections.c.kind.in_(GITHUB_KINDS))
    here = sa.or_(*(location.like(asked(ending), escape="!") for ending in ("ends", "ends_git")))
    return sa.and_(p.repository_kind == SourceKind.URL, here, at_github)


PROJECTS_OF = (
    sa.select(projects).where(*_belongs(lambda name: sa.bindparam(name, type_=_TYPES[name]))).order_by(p.name, p.number)
)
"""Built once: it is asked with every delivery, and building it takes longer than asking."""

VERSION: sa.Label[str] = sa.literal_column("projects.xmin::text").label("version")
"""What changes with a row on PostgreSQL, whoever writes it."""


def versions_of(rows: Iterable[sa.Row[Any]]) -> str:
    """Of rows with a `VERSION`."""
    return " ".join(f"{row.number}:{row.version}" for row in sorted(rows, key=lambda row: int(row.number)))


@cache
def versions_now(asked: str) -> str:
    """The same as SQL: a query for PostgreSQL, beside a row named `asked` with columns named as `asked_about` does."""
    from sqlalchemy.dialects.postgresql import psycopg  # only here: SQLite has no use for it

    versions = "string_agg(projects.number || ':' || projects.xmin::text, ' ' ORDER BY projects.number)"
    query: sa.Select[Any] = (
        sa.select(sa.literal_column(f"coalesce({versions}, '')"))
        .select_from(projects)
        .where(*_belongs(lambda name: sa.literal_column(f"{asked}.{name}", _TYPES[name])))
    )
    dialect: sa.Dialect = psycopg.dialect()  # type: ignore[no-untyped-call]
    return str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
