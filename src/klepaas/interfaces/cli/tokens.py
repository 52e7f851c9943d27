"""`klepaas tokens`: who may come in."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from klepaas.interfaces.cli import words
from klepaas.interfaces.cli.options import Json, Quiet, Yes, hand_down
from klepaas.interfaces.cli.projects import agree
from klepaas.interfaces.cli.screen import Screen

app = typer.Typer(help="Access tokens.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def tokens(context: typer.Context, as_json: Json = False, quiet: Quiet = False) -> None:
    """List tokens."""
    hand_down(context, as_json=as_json, quiet=quiet)
    if context.invoked_subcommand is None:
        show_all(as_json, quiet)


@app.command("list")
def show_all(as_json: Json = False, quiet: Quiet = False) -> None:
    """List tokens; their text is shown only when they are made."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    found = ask(lambda client: client.tokens())
    screen.json({"tokens": found})
    now = datetime.now(UTC)
    rows = [
        [each["id"], each["name"], each["scope"], words.ago(each["created_at"], now), _standing(each, now)]
        for each in found
    ]
    screen.table(["ID", "NAME", "SCOPE", "MADE", "STANDING"], rows)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for, e.g. 'ci of the shop'.")],
    scope: Annotated[str, typer.Option(help="read, deploy, admin or operator.")] = "read",
    days: Annotated[float | None, typer.Option(help="How long it lives. Default: until it is revoked.")] = None,
    owner: Annotated[str | None, typer.Option(help="For the operator: whose token it is.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a token. It is shown this once; stdout is the token and nothing else."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    made = ask(lambda client: client.create_token(name, scope, lifetime_days=days, owner=owner))
    screen.json(made)
    screen.say(f"Token {made['id']} ({made['scope']}); it is shown only now:")
    screen.line(made["token"])


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="ID", help="As shown by: klepaas tokens")],
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """End a token now."""
    from klepaas.interfaces.cli.server import ask

    screen = Screen(as_json=as_json, quiet=quiet)
    if not yes:
        agree(screen, f"Whoever uses the token {words.one_line(token, 80)} is locked out at once.", "Revoke it?")
    ask(lambda client: client.revoke_token(token))
    screen.json({"revoked": token})
    screen.say(f"Revoked {token}.")


def _standing(token: dict[str, Any], now: datetime) -> str:
    if token["revoked_at"]:
        return f"revoked {words.ago(token['revoked_at'], now)}"
    expires = words.parse_time(token["expires_at"])
    if expires is None:
        return "valid"
    return "expired" if expires <= now else f"valid until {expires:%Y-%m-%d}"
