"""`klepaas up` and `down`: start klepaas here, and take away everything it runs here."""

import asyncio
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from klepaas.interfaces.cli.options import Json, Quiet, Yes
from klepaas.interfaces.cli.projects import agree, want_terminal
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.wiring_down import Going

COLLECTS_AFTER = (20_000, 20, 20)
"""Objects, then collections of the younger ones. A webhook makes some hundred that are gone with it: Python's own 700
would search for garbage with every other one, a fifteenth of its time. So many take a few megabytes."""


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", min=0, max=65535, help="Default: 8700.")] = None,
    new_operator_token: Annotated[
        bool,
        typer.Option(
            "--new-operator-token", help="Make one more token of the operator and show it: the others are lost."
        ),
    ] = False,
) -> None:
    """Start klepaas and serve until Ctrl-C; apps go on running without it."""
    # Nothing of what is imported is ever garbage: it is not searched meanwhile, nor later.
    gc.disable()
    from klepaas import logs, serving
    from klepaas.interfaces.api import server
    from klepaas.settings import Settings

    gc.freeze()
    gc.set_threshold(*COLLECTS_AFTER)
    gc.enable()
    settings = Settings()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if given:
        settings = settings.model_copy(update={"server": settings.server.model_copy(update=given)})
    logs.configure(format=settings.log_format, level=settings.log_level)
    screen = Screen()
    # asyncio's own loop: uvloop forks the whole process for every program we start, which costs a deployment more
    # (three programs, some 15 ms each) than its quicker sockets give back.
    work = serving.serve(settings, say=screen.line, door=server.serve, new_operator_token=new_operator_token)
    raise typer.Exit(asyncio.run(work))


def down(
    images: Annotated[
        bool,
        typer.Option("--images", help="Also the images: no release can be had back without building it again."),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove every container that this klepaas runs on this machine, the proxy included. Its records and its images
    stay, so that klepaas up brings back what is live."""
    from klepaas.settings import Settings

    screen = Screen(as_json=as_json, quiet=quiet)
    settings = Settings()
    if not yes:
        # Before anything is looked at: that takes a while, and makes a home where there is none.
        want_terminal(screen, f"Every app of the klepaas in {settings.home} stops serving.")
    from klepaas import wiring_down

    if not yes:
        going = asyncio.run(wiring_down.look(settings, images=images))
        agree(screen, _plan(settings.home, going, images=images), "Take everything down?")
    gone = asyncio.run(wiring_down.take_down(settings, images=images, say=screen.say))
    told = {"containers": list(gone.containers), "images": list(gone.images)}
    screen.json({"taken_down": str(settings.home), **told})


def _plan(home: Path, going: "Going", *, images: bool) -> str:
    """What goes, a line each, and what stays."""
    goes = [
        *going.containers,
        "the proxy: no app is reachable any more",
        *(f"the image {image}" for image in going.images),
    ]
    stays = (
        "Its records stay. No release can be had back without building it again."
        if images
        else "Its records and images stay: klepaas up brings back what is live."
    )
    return "\n".join([f"This goes, of the klepaas in {home}:", *(f"  {each}" for each in goes), stays])
