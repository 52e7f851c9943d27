"""`klepaas connections`: credentials for private repositories. They go in and never come out."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from klepaas.interfaces.cli import secret, words
from klepaas.interfaces.cli.options import Json, Quiet, Yes, hand_down
from klepaas.interfaces.cli.projects import agree
from klepaas.interfaces.cli.screen import Screen

app = typer.Typer(help="Credentials for private repositories: sealed, write-only.", no_args_is_help=False)

ConnectionName = Annotated[str, typer.Argument(metavar="CONNECTION", help="Name or id of a connection.")]


@app.callback(invoke_without_command=True)
def connections(context: typer.Context, as_json: Json = False, quiet: Quiet = False) -> None:
    """List connections."""
    hand_down(context, as_json=as_json, quiet=quiet)
    if context.invoked_subcommand is None:
        show_all(as_json, quiet)


@app.command("list")
def show_all(as_json: Json = False, quiet: Quiet = False) -> None:
    """List connections; what is sealed in them is never shown."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    found = ask(lambda client: client.connections())
    screen.json({"connections": found})
    if not found:
        screen.say("No connections. Add one: klepaas connections add NAME --host git.example.org")
        return
    now = datetime.now(UTC)
    rows = [
        [each["name"], each["id"], each["kind"], each["host"] or "any", words.ago(each["created_at"], now)]
        for each in found
    ]
    screen.table(["NAME", "ID", "KIND", "SERVER", "MADE"], rows)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Yours to choose, e.g. forge.")],
    username: Annotated[str | None, typer.Option("--username", "-u", help="Not needed with most tokens.")] = None,
    host: Annotated[str | None, typer.Option(help="The only server that may be told it, e.g. git.example.org.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="git_basic (default; any https git server), github_token or github_app.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Of a github_token: its GitHub Enterprise Server, e.g. github.example.org.")
    ] = None,
    installation: Annotated[str | None, typer.Option(help="Of a github_app: the installation's number.")] = None,
    owner: Annotated[str | None, typer.Option(help="Of a github_app, for the operator: whose it is.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Seal a password or token, read from stdin or asked for."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    password = secret.read("Password or token: ") if kind != "github_app" else None
    more = {"server": server, "installation_id": installation, "owner": owner}
    made = ask(lambda client: client.add_connection(name, password, username=username, host=host, kind=kind, **more))
    screen.json(made)
    if made["host"] is None:
        screen.warn("any project may send it to any server; --host binds it to one.")
    screen.line(made["id"])
    screen.say(f"Use it: klepaas projects create REPOSITORY --connection {made['name']}")


@app.command()
def verify(
    connection: ConnectionName,
    repository: Annotated[
        str | None, typer.Argument(help="What it is to open: an https URL or owner/repo. Not needed at GitHub.")
    ] = None,
    branch: Annotated[str | None, typer.Option("--branch", "-b", help="Default: main.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask the repository's server whether it accepts the credential."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    seen = ask(lambda client: client.verify_connection(connection, repository, branch=branch))
    screen.json(seen)
    if seen.get("account"):
        screen.say(f"GitHub knows it as {seen['account']}.", "green")
    if repository is not None:
        screen.say(f"It opens {repository}: branch {seen['branch']} is at {words.commit(seen['commit_sha'])}.", "green")


@app.command()
def remove(connection: ConnectionName, yes: Yes = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Forget a credential; projects that use it stay, without one."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    if not yes:
        plan = f"Projects that use {words.one_line(connection, 80)} can fetch a private repository no more."
        agree(screen, plan, "Remove it?")
    gone = ask(lambda client: client.remove_connection(connection))
    screen.json(gone)
    screen.say(f"Removed {gone['name']}. {_left(gone['projects'])}")


def _left(projects: list[dict[str, Any]]) -> str:
    names = ", ".join(each["name"] for each in projects)
    return f"Without a connection now: {names}." if names else "No project used it."
