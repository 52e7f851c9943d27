"""`klepaas up` and `down`: start klepaas here, and take away everything it runs here."""

import asyncio
import gc
from typing import Annotated

import typer

from klepaas.interfaces.cli.options import Json, Quiet, Yes
from klepaas.interfaces.cli.projects import agree
from klepaas.interfaces.cli.screen import Screen

COLLECTS_AFTER = (20_000, 20, 20)
"""Objects, then collections of the younger ones. A webhook makes some hundred that are gone with it: Python's own 700
would search for garbage with every other one, a fifteenth of its time. So many take a few megabytes."""


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", min=0, max=65535, help="Default: 8700.")] = None,
) -> None:
    """Start klepaas and serve until Ctrl-C; apps go on running without it."""
    # Nothing of what is imported is ever garbage: it is not searched meanwhile, nor later.
    gc.disable()
    from klepaas import logs, wiring
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
    raise typer.Exit(asyncio.run(wiring.serve(settings, say=screen.line, door=server.serve)))


def down(yes: Yes = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Remove every container that this klepaas runs on this machine, the proxy included. Its records stay."""
    from klepaas.settings import Settings

    screen = Screen(as_json=as_json, quiet=quiet)
    settings = Settings()
    if not yes:
        agree(screen, f"Every app of the klepaas in {settings.home} stops serving.", "Take everything down?")
    from klepaas import wiring

    asyncio.run(wiring.take_down(settings, say=screen.say))
    screen.json({"taken_down": str(settings.home)})
