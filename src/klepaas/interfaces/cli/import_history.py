"""`klepaas history import`: take an older system's deployments over. A dry run unless told otherwise."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.options import Json, Quiet
from klepaas.interfaces.cli.screen import Screen

From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="DATABASE",
        help="A SQLite file, or postgresql://user@host/name; its password comes from PGPASSWORD or ~/.pgpass.",
    ),
]
Apply = Annotated[bool, typer.Option("--apply", help="Write it. Without, only the report is made.")]
Owner = Annotated[str | None, typer.Option(help="Whose history it becomes. Default: your own.")]


def import_(
    database: From, apply: Apply = False, owner: Owner = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Import the deployment history of an older system: first a report, with --apply for good.

    How each deployment ended is asked of Naver Cloud and its registry; what nobody knows is unknown. Importing again
    adds nothing, and asks once more about what is unknown."""
    from klepaas.interfaces.cli import old_database
    from klepaas.interfaces.cli.import_report import report
    from klepaas.interfaces.cli.old_batches import batches
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    old = old_database.read(database)
    if old.password_was_shown:
        screen.warn("The password stood in the command line, where others on this machine can read it: use PGPASSWORD.")

    async def send(client: Any) -> list[dict[str, Any]]:
        return [
            await client.import_history(source=old.name, deployments=rows, projects=projects, owner=owner, apply=apply)
            for rows, projects in batches(old)
        ]

    found = report(old, ask(send), is_applied=apply)
    screen.json(found)
    _show(screen, found)


def _show(screen: Screen, found: dict[str, Any]) -> None:
    rows = [each for each in found["rows"] if each["twin_of"] is None]
    table = [
        [
            each["old_id"],
            words.commit(each["commit_sha"]),
            each["outcome"],
            each["settled_by"],
            words.one_line(each["reason"], 110),
        ]
        for each in rows
    ]
    styles = [words.STATUS_STYLE.get(each["outcome"], "") for each in rows]
    if table:
        screen.table(["OLD ID", "COMMIT", "OUTCOME", "SAID BY", "WHY"], table, styles)
    for line in _sums(found):
        screen.line(line)
    if not found["applied"]:
        screen.say("Nothing was written. To import it, add --apply.")


def _sums(found: dict[str, Any]) -> Sequence[str]:
    told, outcomes = found["problems"], found["outcomes"]
    lines = [
        f"{found['source']}: {found['projects_found']} projects, {found['rows_found']} rows, "
        f"{told.get('duplicate', 0)} duplicates, {told.get('stuck', 0)} stuck, "
        f"{told.get('missing_time', 0)} with missing times, {told.get('unreadable_time', 0)} with unreadable ones, "
        f"{told.get('contradiction', 0)} contradicting themselves; {found['local_times']} with Korean local times.",
        f"{sum(outcomes.values())} deployments: "
        + ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
        + ".",
        f"{found['new']} new to klepaas, {found['settled']} settled now, {found['known']} known already; "
        f"{found['changed']} rows written.",
    ]
    lines += [f"not imported: {words.one_line(each, 160)}" for each in found["refused"]]
    lines += [
        f"{name}: no project here shows it yet. Register it: klepaas projects create {name}"
        for name, names in found["projects"].items()
        if not names
    ]
    return lines
