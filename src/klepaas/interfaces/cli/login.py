"""`klepaas login` and `logout`: keep the address and token of a klepaas for later commands."""

import getpass
import ipaddress
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from klepaas.errors import Invalid
from klepaas.interfaces.cli import credentials
from klepaas.interfaces.cli.credentials import DEFAULT_URL, Login
from klepaas.interfaces.cli.options import Json, Quiet
from klepaas.interfaces.cli.screen import Screen


def login(
    url: Annotated[str | None, typer.Argument(help=f"Default: KLEPAAS_URL, else {DEFAULT_URL}")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Store the address and a token of klepaas; the token is read from stdin or asked for."""
    from klepaas.interfaces.cli.server import ask
    from klepaas.settings import ClientSettings

    screen = Screen(as_json=as_json, quiet=quiet)
    settings = ClientSettings()
    address = (url or settings.url or DEFAULT_URL).rstrip("/")
    if not _is_safe(address):
        screen.warn(f"{address} is not encrypted: the token can be read on its way. Use https.")
    wanted = Login(url=address, token=_token())
    ask(lambda client: client.projects(), wanted)  # the server says whether it knows the token
    path = credentials.store(settings.home, wanted)
    screen.json({"url": address, "stored_in": str(path)})
    screen.say(f"Logged in to {address}.")
    if settings.url or settings.token:
        screen.warn("KLEPAAS_URL or KLEPAAS_TOKEN is set and goes before the stored login.")


def logout(as_json: Json = False, quiet: Quiet = False) -> None:
    """Forget the stored login. The token stays valid: revoke it with klepaas tokens revoke."""
    from klepaas.settings import ClientSettings

    screen = Screen(as_json=as_json, quiet=quiet)
    forgotten = credentials.forget(ClientSettings().home)
    screen.json({"forgotten": forgotten})
    screen.say("Logged out." if forgotten else "You were not logged in.")


def _token() -> str:
    text = getpass.getpass("Token: ", stream=sys.stderr) if sys.stdin.isatty() else sys.stdin.readline()
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid(
            "That is not a token.",
            hint=f"It begins with klp_; give it on stdin or at the prompt. {credentials.NO_TOKEN}",
        )
    return token


def _is_safe(url: str) -> bool:
    """Encrypted, or not leaving this machine."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
