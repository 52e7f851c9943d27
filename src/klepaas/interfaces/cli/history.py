"""`klepaas history`: the deployments of a project; taking over an older system's; looking for contradictions.

`klepaas history PROJECT` is `klepaas history list PROJECT`, which also reaches a project named like one of the
verbs here."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from typer._click.core import Context  # Typer keeps Click to itself
from typer.core import TyperGroup

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.check_history import check
from klepaas.interfaces.cli.import_history import import_
from klepaas.interfaces.cli.options import Environment, Json, ProjectName, Quiet
from klepaas.interfaces.cli.screen import Screen


class ListByDefault(TyperGroup):
    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """What begins with none of the verbs is a project's name or an option of `list`."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ListByDefault,
    help="List the deployments of a project (klepaas history PROJECT), newest first.",
    subcommand_metavar="PROJECT | COMMAND [ARGS]...",
)


@app.command("list")
def history(
    project: ProjectName,
    environment: Environment = None,
    status: Annotated[list[str] | None, typer.Option(help="Only those, e.g. failed. Repeatable.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=200, help="How many; older ones with --before.")
    ] = 20,
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


app.command("import")(import_)
app.command("check")(check)
