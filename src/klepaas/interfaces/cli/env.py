"""`klepaas env`: environment variables of a project. Values go in and never come out."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from klepaas.errors import Invalid
from klepaas.interfaces.cli import secret, words
from klepaas.interfaces.cli.options import Environment, Json, ProjectName, Quiet, Yes
from klepaas.interfaces.cli.projects import agree
from klepaas.interfaces.cli.screen import Screen

app = typer.Typer(help="Environment variables of a project: sealed, write-only.", no_args_is_help=True)


@app.command("list")
def show_all(
    project: ProjectName, environment: Environment = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """List the names of a project's variables; values are never shown."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    found = ask(lambda client: client.variables(project, environment=environment))
    screen.json({"variables": found})
    if not found:
        screen.say(f"No variables. Set one: klepaas env set {project} NAME")
        return
    now = datetime.now(UTC)
    rows = [[each["name"], words.ago(each["updated_at"], now)] for each in found]
    screen.table(["NAME", "SET"], rows)


@app.command("set")
def set_variables(
    project: ProjectName,
    variables: Annotated[
        list[str], typer.Argument(metavar="NAME[=VALUE]…", help="NAME alone reads the value from stdin or asks for it.")
    ],
    environment: Environment = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Set variables; they apply from the next deployment on."""
    screen = Screen(as_json=as_json, quiet=quiet)
    _put(screen, project, environment, _values(screen, variables))


@app.command()
def unset(
    project: ProjectName,
    names: Annotated[list[str], typer.Argument(metavar="NAME…")],
    environment: Environment = None,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove variables, from the next deployment on."""
    screen = Screen(as_json=as_json, quiet=quiet)
    if not yes:
        which = words.one_line(", ".join(names), 200)
        plan = f"The value is lost for good, as klepaas shows none: {which} of {words.one_line(project, 80)}."
        agree(screen, plan, f"Remove {which}?")
    _put(screen, project, environment, dict.fromkeys(names))


def _put(screen: Screen, project: str, environment: str | None, values: dict[str, str | None]) -> None:
    from klepaas.interfaces.cli.server import ask

    found = ask(lambda client: client.set_variables(project, values, environment=environment))
    screen.json({"variables": found})
    done = "Set" if None not in values.values() else "Removed"
    screen.say(f"{done} {', '.join(values)}. It applies from the next deployment on: klepaas deploy {project}")


def _values(screen: Screen, variables: list[str]) -> dict[str, str | None]:
    """Errors: Invalid, never with a value in its words."""
    values: dict[str, str | None] = {}
    unnamed = [text for text in variables if "=" not in text]
    if len(unnamed) > 1 and not sys.stdin.isatty():
        raise Invalid("Stdin holds the value of one variable.", hint="Give one NAME at a time, or NAME=value.")
    for text in variables:
        name, equals, value = text.partition("=")
        if not name:
            raise Invalid("A variable needs a name before its '='.", hint="Give NAME, or NAME=value.")
        values[name] = value if equals else secret.read(f"Value of {name}: ")
    if len(unnamed) < len(variables):
        screen.warn(
            "values given on the command line stay in the shell's history and are seen in the process list; "
            f"better: klepaas env set PROJECT {variables[0].partition('=')[0]}"
        )
    return values
