"""`klepaas logs`: what the live release writes, or what a build wrote."""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klepaas.errors import Invalid, NotFound
from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.options import Environment, Json, Quiet
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.client import Client

RUNTIME_LINES = 200
PAGE = 1000


def logs(
    what: Annotated[str, typer.Argument(metavar="PROJECT|DEPLOYMENT", help="A project, or a deployment's id (dep_…).")],
    build: Annotated[
        bool, typer.Option("--build", help="The build log; of a project, that of its last deployment.")
    ] = False,
    runtime: Annotated[
        bool, typer.Option("--runtime", help="What the live release writes (a project's default).")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come; Ctrl-C ends it.")] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", min=1, help="Only the last so many.")] = None,
    environment: Environment = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the runtime log of a project or the build log of a deployment."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    if build and runtime:
        raise Invalid("--build and --runtime exclude each other.", hint="Give one of them.")
    if what.startswith(words.IMPORTED):
        raise NotFound(
            "There is no log of a deployment that an older system made.",
            hint=f"What is known of it: klepaas status {words.one_line(what, 80)}",
        )
    if runtime and words.is_deployment(what):
        raise Invalid("A runtime log belongs to a project.", hint="Name the project instead of the deployment.")

    async def run(client: "Client") -> None:
        if not (build or words.is_deployment(what)):
            await _runtime(client, screen, what, environment, lines, follow)
            return
        deployment_id = what if words.is_deployment(what) else await _last_of(client, what, environment)
        await _build(client, screen, deployment_id, lines, follow)

    ask(run)


async def _last_of(client: "Client", project: str, environment: str | None) -> str:
    page = await client.deployments(project, environment=environment, limit=1)
    if not page["deployments"]:
        raise NotFound(f"{project} was never deployed.", hint=f"Deploy it: klepaas deploy {project}")
    return str(page["deployments"][0]["id"])


async def _runtime(
    client: "Client", screen: Screen, project: str, environment: str | None, lines: int | None, follow: bool
) -> None:
    count = lines or RUNTIME_LINES
    if not follow:
        found = await client.runtime_log(project, environment=environment, lines=count)
        screen.json({"lines": found})
        _print(screen, found)
        return
    async for message in client.follow_runtime_log(project, environment=environment, lines=count):
        if message.is_last:
            screen.say("Nothing is live any more.")
        elif message.event == "gap":
            screen.say("… some lines are missing: the app writes faster than they can be read …")
        else:
            _one(screen, message.data)


async def _build(client: "Client", screen: Screen, deployment_id: str, lines: int | None, follow: bool) -> None:
    after: str | None = None
    kept = deque[dict[str, Any]](maxlen=lines)
    while (page := await client.build_log(deployment_id, after=after, limit=PAGE))["lines"]:
        kept.extend(page["lines"])
        after = page["next_after"]
    if not follow:
        screen.json({"lines": list(kept)})
        _print(screen, (line["text"] for line in kept))
        return
    for line in kept:
        _one(screen, line)
    async for message in client.follow_build_log(deployment_id, after=after):
        if not message.is_last:
            _one(screen, message.data)


def _print(screen: Screen, texts: Iterable[str]) -> None:
    for text in texts:
        screen.line(text)


def _one(screen: Screen, line: dict[str, Any]) -> None:
    if screen.as_json:
        screen.json_line(line)
    else:
        screen.line(line.get("text", ""))
