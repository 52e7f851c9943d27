"""The options that many verbs share, each written down once."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only data and errors, no talk.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the whole build log while building.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow it; with --json one event a line.")]
Environment = Annotated[str | None, typer.Option("--environment", "-e", help="Default: the project's own.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return as soon as the request is accepted.")]
Timeout = Annotated[str | None, typer.Option(help="Stop waiting after e.g. 90s or 10m; the deployment goes on.")]
Key = Annotated[str | None, typer.Option(help="Name this request: repeated with the same key it happens once.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer the question with yes.")]
ProjectName = Annotated[str, typer.Argument(metavar="PROJECT", help="Name or id of a project.")]


def hand_down(context: typer.Context, *, as_json: bool, quiet: bool) -> None:
    """What was said to a group is said to its verb: `klepaas projects --json list`."""
    said = {name: True for name, given in (("as_json", as_json), ("quiet", quiet)) if given}
    if context.invoked_subcommand is not None and said:
        context.default_map = {context.invoked_subcommand: said}
