"""`klepaas check`: is the project file right?"""

from pathlib import Path
from typing import Annotated

import typer

from klepaas.errors import Invalid, NotFound
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.options import Json, Quiet
from klepaas.interfaces.cli.screen import Screen


def check(
    folder: Annotated[Path, typer.Argument(help="The repository's root, or the file itself.")] = Path("."),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Validate klepaas.toml; problems are told as file:line with what would be accepted."""
    from klepaas import project_file

    screen = Screen(as_json=as_json, quiet=quiet)
    root = folder.parent if folder.name == project_file.NAME else folder
    if not root.is_dir():
        raise NotFound(f"There is no folder {str(root)[:200]!r}.", hint="Give the root of a repository.")
    path = root / project_file.NAME
    try:
        found = project_file.read(root)
    except Invalid as wrong:
        problems = wrong.evidence["problems"]
        screen.json({"file": str(path), "ok": False, "problems": problems})
        for each in problems:
            screen.line(f"{path}:{each['line']}: {each['message']}", "red")
            screen.line(f"    accepted: {each['accepted']}")
        raise typer.Exit(ExitCode.USAGE) from None
    missing = [] if found is None else project_file.missing(root)
    screen.json({"file": str(path) if found else None, "ok": not missing, "problems": [vars(each) for each in missing]})
    if found is None:
        screen.say(f"There is no {project_file.NAME} in {root.resolve()}; every key has its default, so all is well.")
        return
    for problem in missing:
        screen.line(f"{path}:{problem.line}: {problem.message}", "red")
        screen.line(f"    accepted: {problem.accepted}")
    if missing:
        raise typer.Exit(ExitCode.USAGE)
    screen.say(f"{path} is fine.", style="green")
