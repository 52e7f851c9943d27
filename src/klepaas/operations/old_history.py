"""Take the deployment history of an older system over: read it, ask who saw it, keep it. Nothing is guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.old_row import OldRow, read_row
from klepaas.errors import Invalid, NotFound
from klepaas.operations.context import Context
from klepaas.operations.old_repository import Line, OldRepository, is_of


@dataclass(frozen=True, kw_only=True)
class OldRows:
    """Rows of `deployment_histories` and the rows of `user_project_integrations` of their repositories, word for word.

    Neighbours in time come together: a run at the provider is a row's own when it is the only one around it."""

    source: str
    """Which database, for people; without credentials."""
    deployments: Sequence[Mapping[str, Any]]
    projects: Sequence[Mapping[str, Any]]
    owner: str | None = None
    """Whose history it becomes; None: the caller's."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """`refused` are rows nothing can be made of, each with the reason. `projects`: repository → names of the owner's
    projects here that will show its rows."""

    lines: Sequence[Line]
    refused: Sequence[str]
    projects: Mapping[str, Sequence[str]]
    changed: int
    """Rows written; 0 for a dry run."""


async def import_rows(context: Context, actor: Actor, old: OldRows, *, apply: bool) -> Report:
    """Read them, ask the provider, and (`apply`) keep them. Again, it adds nothing and asks only about unknown ones.
    Errors: NotAllowed, NotFound for an owner nobody knows."""
    actor.require(Scope.OPERATOR)
    owner_id = await _owner_id(context, actor, old.owner)
    rows, refused = _readable(old.deployments)
    lines: list[Line] = []
    for repository in dict.fromkeys(row.repository for row in rows):
        its_rows = [row for row in rows if row.repository == repository]
        lines += await OldRepository(context, owner_id, old.source, old.projects, its_rows, context.clock.now()).lines()
    new = [line.imported for line in lines if line.is_new or line.is_settled or line.is_changed]
    changed = await context.past.imported.keep(new) if apply else 0
    return Report(lines=lines, refused=refused, projects=await _projects(context, owner_id, rows), changed=changed)


async def _owner_id(context: Context, actor: Actor, name: str | None) -> str:
    if name is None:
        return actor.owner_id
    owner = await context.owners.named(name)
    if owner is None:
        raise NotFound(
            f"There is no owner named {name[:80]!r}.",
            hint="Make one with a token: klepaas tokens create NAME --owner OWNER",
        )
    return owner.id


def _readable(originals: Sequence[Mapping[str, Any]]) -> tuple[list[OldRow], list[str]]:
    rows: dict[str, OldRow] = {}
    refused: list[str] = []
    for original in originals:
        try:
            row = read_row(original)
        except Invalid as unusable:
            refused.append(unusable.message)
        else:
            rows.setdefault(row.key, row)
    return list(rows.values()), refused


async def _projects(context: Context, owner_id: str, rows: Sequence[OldRow]) -> Mapping[str, Sequence[str]]:
    here: dict[str, list[str]] = {f"{row.owner}/{row.repo}": [] for row in rows}
    own = await context.projects.list(owner_id)
    for name, names in here.items():
        names += [each.name for each in own if is_of(each, name.lower())]
    return here
