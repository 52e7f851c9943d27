"""`klepaas demo`: the sample app on this machine, from nothing to a URL that answers."""

import asyncio
from typing import Annotated

import typer

from klepaas.errors import Invalid
from klepaas.interfaces.cli.options import Quiet, Verbose
from klepaas.interfaces.cli.screen import Screen


def demo(
    once: Annotated[
        bool,
        typer.Option("--once", help="Go the whole way in a home of its own and leave nothing running."),
    ] = False,
    github: Annotated[
        bool,
        typer.Option("--github", help="Deploy by merging: with a stand-in GitHub on this machine, and nothing left."),
    ] = False,
    target: Annotated[
        str, typer.Option(metavar="local|ncp", help="ncp: to a stand-in of Naver Cloud on this machine, nothing left.")
    ] = "local",
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", min=1, max=65535, help="Of klepaas. Default: 8700, else a free one."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Deploy the sample app here, print its URL and serve until Ctrl-C; the app goes on serving."""
    from klepaas.interfaces.cli import github_showcase, ncp_showcase, showcase
    from klepaas.settings import Settings, own_environment

    if target not in {"local", "ncp"}:
        raise Invalid(f"There is no demo for the target {target[:40]!r}.", hint="Give --target local or --target ncp.")
    screen = Screen(quiet=quiet, verbose=verbose)
    surroundings = (Settings(), own_environment(), screen, port)
    if target == "ncp":
        raise typer.Exit(asyncio.run(ncp_showcase.show(*surroundings, stays=not once)))
    if github:
        raise typer.Exit(asyncio.run(github_showcase.show(*surroundings, stays=not once)))
    show = showcase.once if once else showcase.until_interrupted
    raise typer.Exit(asyncio.run(show(*surroundings)))
