"""`klepaas cancel`: end a deployment that is not live yet."""

from typing import TYPE_CHECKING, Annotated

import typer

from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.options import Json, NoWait, Quiet, Timeout
from klepaas.interfaces.cli.screen import Screen

if TYPE_CHECKING:
    from klepaas.client import Client


def cancel(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its id, dep_…")],
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Cancel a deployment and wait until everything it started is gone."""
    from klepaas.interfaces.cli.server import ask
    from klepaas.interfaces.cli.waiting import Attendance, wishes

    screen = Screen(as_json=as_json, quiet=quiet)
    wanted = wishes(screen, timeout, watch=False)

    async def run(client: "Client") -> int:
        asked = await client.cancel(deployment)
        if no_wait:
            screen.json(asked)
            screen.say(f"Asked to cancel {deployment}.")
            return ExitCode.LIVE
        attendance = Attendance(client, asked, screen)
        code = await attendance.until_over(wanted)
        return _code(attendance.last["status"], code)

    raise typer.Exit(ask(run))


def _code(status: str, otherwise: ExitCode) -> ExitCode:
    """Cancelled is what was asked for; live is the opposite of it."""
    match status:
        case "cancelled":
            return ExitCode.LIVE
        case "succeeded":
            return ExitCode.CONFLICT
        case _:
            return otherwise
