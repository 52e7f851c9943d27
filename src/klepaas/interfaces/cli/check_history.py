"""`klepaas history check`: does the record contradict itself?"""

from typing import Annotated, Any

import typer

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.options import Json, Quiet
from klepaas.interfaces.cli.screen import Screen

Project = Annotated[str | None, typer.Argument(metavar="PROJECT", help="Name or id of a project. Unset: all.")]


def check(project: Project = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Report duplicates and contradictions. Exits with 1 when klepaas' own record has some.

    What an older system recorded is reported too, and changes nothing about the exit code: it is past."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    found = ask(lambda client: client.check_history(project=project))
    screen.json(found)
    if found["complaints"]:
        screen.table(["PROBLEM", "NUMBER", "ID", "REPOSITORY", "WHAT"], [_row(each) for each in found["complaints"]])
    own = sum(not each["is_past"] for each in found["complaints"])
    past = len(found["complaints"]) - own
    screen.say(_verdict(own, past), style="green" if found["ok"] else "red")
    if not found["ok"]:
        raise typer.Exit(ExitCode.FAILED)


def _row(complaint: dict[str, Any]) -> list[str]:
    problem = f"{complaint['problem']} (imported)" if complaint["is_past"] else complaint["problem"]
    text = words.one_line(complaint["text"], 160)
    return [problem, f"#{complaint['number']}", complaint["deployment_id"], complaint["repository"], text]


def _verdict(own: int, past: int) -> str:
    said = f"{own} things in klepaas' own record do not fit together." if own else "klepaas' own record fits together."
    return f"{said} Of what was imported, {past} are told as the older system left them." if past else said
