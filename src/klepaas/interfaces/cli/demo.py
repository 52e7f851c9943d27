"""`klepaas demo`: the sample app on this machine, from nothing to a URL that answers."""

import asyncio
from typing import Annotated

import typer

from klepaas.interfaces.cli.options import Quiet, Verbose
from klepaas.interfaces.cli.screen import Screen


def demo(
    once: Annotated[
        bool,
        typer.Option("--once", help="Go the whole way in a home of its own and leave nothing running."),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", min=1, max=65535, help="Of klepaas. Default: 8700, else a free one."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Deploy the sample app here, print its URL and serve until Ctrl-C; the app goes on serving."""
    from klepaas.interfaces.cli import showcase
    from klepaas.settings import Settings, own_environment

    screen = Screen(quiet=quiet, verbose=verbose)
    show = showcase.once if once else showcase.until_interrupted
    raise typer.Exit(asyncio.run(show(Settings(), own_environment(), screen, port)))
