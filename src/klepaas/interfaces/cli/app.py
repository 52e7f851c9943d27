"""The command line: every verb by its name, and the one place where an error becomes an exit code.

Modules of verbs are light; what a verb needs is imported when it runs, so that help and mistakes answer at once."""

import os
import sys
from collections.abc import Sequence
from functools import cache

import typer
from typer._click.core import Command
from typer._click.exceptions import ClickException, NoArgsIsHelpError  # Typer keeps Click's errors to itself

from klepaas.errors import Invalid, KlepaasError, Outside
from klepaas.interfaces.cli import complaint, connections, env, exit_codes, github, history, projects, tokens
from klepaas.interfaces.cli.cancel import cancel
from klepaas.interfaces.cli.check import check
from klepaas.interfaces.cli.demo import demo
from klepaas.interfaces.cli.deploy import deploy
from klepaas.interfaces.cli.doctor import doctor
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.login import login, logout
from klepaas.interfaces.cli.logs import logs
from klepaas.interfaces.cli.rollback import rollback
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.serve import down, up
from klepaas.interfaces.cli.status import status
from klepaas.interfaces.cli.version import version

app = typer.Typer(
    name="klepaas",
    help="From a commit to a running, health-checked app, and back in one command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SHIP, _LOOK, _SET_UP = "Ship", "Look", "Set up"
for verb, panel in (
    (deploy, _SHIP),
    (rollback, _SHIP),
    (cancel, _SHIP),
    (status, _LOOK),
    (logs, _LOOK),
    (doctor, _LOOK),
    (check, _LOOK),
    (up, _SET_UP),
    (down, _SET_UP),
    (demo, _SET_UP),
    (login, _SET_UP),
    (logout, _SET_UP),
    (version, _LOOK),
):
    app.command(rich_help_panel=panel)(verb)
app.add_typer(history.app, name="history", rich_help_panel=_LOOK)
app.add_typer(projects.app, name="projects", rich_help_panel=_SET_UP)
app.add_typer(env.app, name="env", rich_help_panel=_SET_UP)
app.add_typer(connections.app, name="connections", rich_help_panel=_SET_UP)
app.add_typer(github.app, name="github", rich_help_panel=_SET_UP)
app.add_typer(tokens.app, name="tokens", rich_help_panel=_SET_UP)


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code and prints its errors."""
    screen = Screen(as_json="--json" in arguments, quiet=bool({"--quiet", "-q"} & set(arguments)))
    try:
        return int(_command().main(list(arguments), prog_name="klepaas", standalone_mode=False) or 0)
    except KlepaasError as error:
        complaint.complain(screen, error)
        return exit_codes.of_error(error)
    except NoArgsIsHelpError as error:
        error.show()
        return ExitCode.USAGE
    except ClickException as error:
        complaint.complain(screen, _misused(error))
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.DETACHED
    except BrokenPipeError:
        # Whoever read our output has seen enough; without this, Python complains again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.LIVE
    except OSError as error:
        complaint.complain(screen, _machine(error))
        return ExitCode.FAILED
    except ValueError as error:
        if (wrong := _setting(error)) is None:
            raise
        complaint.complain(screen, wrong)
        return ExitCode.USAGE


@cache
def _command() -> Command:
    """What Typer makes of all verbs, once for a process: making it takes longer than most verbs do."""
    return typer.main.get_command(app)


def _misused(error: ClickException) -> Invalid:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "klepaas"
    message = error.format_message()
    return Invalid(message if message.endswith((".", "?")) else f"{message}.", hint=f"See: {command} --help")


def _machine(error: OSError) -> Outside:
    place = f" ({error.filename})" if error.filename else ""
    return Outside(f"This machine says no: {error.strerror or error}{place}.", evidence={"errno": error.errno})


def _setting(error: ValueError) -> Invalid | None:
    """A setting of the environment that cannot be used; its value stays unsaid, it may be a secret."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return None
    first = error.errors(include_input=False, include_url=False)[0]
    prefix = "NCP_" if error.title == "NcpSettings" else ""  # of names with one underscore, from older installations
    name = prefix + "__".join(str(part) for part in first["loc"]).upper()
    problem = first["msg"].removeprefix("Value error, ")
    return Invalid(f"The setting KLEPAAS_{name} is not valid: {problem}.", hint="Change or unset it.")
