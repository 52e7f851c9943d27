"""`klepaas history`: the deployments of a project."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.options import Environment, Json, ProjectName, Quiet
from klepaas.interfaces.cli.screen import Screen


def history(
    project: ProjectName,
    environment: Environment = None,
    status: Annotated[list[str] | None, typer.Option(help="Only those, e.g. failed. Repeatable.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="How many.")] = 20,
    before: Annotated[int | None, typer.Option(help="Only those older than this number.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the deployments of a project, newest first."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    page = ask(
        lambda client: client.deployments(
            project, environment=environment, status=status or (), before=before, limit=limit
        )
    )
    screen.json(page)
    now = datetime.now(UTC)
    rows = [
        [
            f"#{each['number']}",
            each["id"],
            each["status"],
            words.commit(each["commit_sha"]),
            words.ago(each["created_at"], now),
            words.duration(each["duration_s"]),
            words.cause(each),
            words.one_line(" ".join(filter(None, [each["note"], each["commit_message"]])), 70),
        ]
        for each in page["deployments"]
    ]
    styles = [words.STATUS_STYLE.get(each["status"], "") for each in page["deployments"]]
    screen.table(["NUMBER", "ID", "STATUS", "COMMIT", "WHEN", "TOOK", "TRIGGER", "MESSAGE"], rows, styles)
    if page.get("next_before"):
        screen.say(f"Older ones: klepaas history {project} --before {page['next_before']}")
