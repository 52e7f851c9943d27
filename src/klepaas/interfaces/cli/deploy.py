"""`klepaas deploy`: bring a commit of a project live, and wait until it is or is not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from klepaas.errors import Conflict, NotFound
from klepaas.interfaces.cli.options import Environment, Json, Key, NoWait, Quiet, Timeout, Verbose, Watch
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.client import Client


def deploy(
    project: Annotated[
        str, typer.Argument(metavar="PROJECT", help="A project, or a repository: owner/repo, URL, path.")
    ],
    branch: Annotated[str | None, typer.Option("--branch", "-b", help="Default: the project's own.")] = None,
    commit: Annotated[str | None, typer.Option("--commit", "-c", help="A SHA or its first 7 digits and more.")] = None,
    environment: Environment = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again although the image exists.")] = False,
    create: Annotated[bool, typer.Option("--create", help="Make a project of a repository that has none.")] = False,
    note: Annotated[str | None, typer.Option(help="A sentence for the history.")] = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    key: Key = None,
    watch: Watch = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Deploy a project and wait until the new version is live."""
    from klepaas.interfaces.cli.server import ask
    from klepaas.interfaces.cli.submission import submit
    from klepaas.interfaces.cli.waiting import wishes

    screen = Screen(as_json=as_json, quiet=quiet, verbose=verbose)
    wanted = None if no_wait else wishes(screen, timeout, watch=watch)
    fields = {"branch": branch, "commit": commit, "environment": environment, "rebuild": rebuild, "note": note}

    async def run(client: "Client") -> int:
        name = project
        if _is_repository(project):
            found = await _project_of(client, project)
            name = found if found is not None else await _create(client, screen, project, branch, create)
        return await submit(client, screen, lambda key: client.deploy(name, key=key, **fields), key=key, wishes=wanted)

    raise typer.Exit(ask(run))


def _is_repository(text: str) -> bool:
    """Names of projects have neither dots nor slashes nor colons."""
    return any(mark in text for mark in "/.:~\\")


def _located(text: str) -> str:
    """A repository as the server knows it: paths of this machine are absolute."""
    from klepaas.domain.repository import parse_repository

    looks_like_path = text.startswith((".", "/", "~")) or (text.count("/") != 1 and ":" not in text)
    return parse_repository(str(Path(text).expanduser().resolve()) if looks_like_path else text).display


async def _project_of(client: "Client", repository: str) -> str | None:
    """The id of the one project of this repository. Errors: Conflict when there are several."""
    location = _located(repository)
    known = [each for each in await client.projects() if each["repository"] == location]
    if len(known) > 1:
        names = ", ".join(each["name"] for each in known)
        raise Conflict(f"{location} has several projects.", hint=f"Say which: klepaas deploy one of {names}")
    return str(known[0]["id"]) if known else None


async def _create(client: "Client", screen: Screen, repository: str, branch: str | None, agreed: bool) -> str:
    location = _located(repository)
    if not agreed and not (screen.can_ask and screen.confirm(f"There is no project for {location}. Create one?")):
        raise NotFound(
            f"There is no project for {location}.", hint=f"Make one and deploy: klepaas deploy --create {repository}"
        )
    made = await client.register(location, branch=branch)
    screen.say(f"Created the project {made['name']}.")
    return str(made["id"])
