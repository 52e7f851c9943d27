"""Where the command line keeps its login: the address of one klepaas and a token for it, for our eyes only."""

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from klepaas.errors import NotAuthenticated

if TYPE_CHECKING:
    from klepaas.settings import ClientSettings

DEFAULT_URL = "http://127.0.0.1:8700"
NO_TOKEN = "Who runs klepaas and has no token left: klepaas up --new-operator-token"


@dataclass(frozen=True, kw_only=True, repr=False)
class Login:
    url: str
    token: str


def path_in(home: Path) -> Path:
    return home / "cli" / "credentials.json"


def choose(settings: "ClientSettings") -> Login:
    """The login to use: KLEPAAS_URL and KLEPAAS_TOKEN, else the stored one.

    A stored token is never sent to another address than the one it was stored for. Errors: NotAuthenticated."""
    stored = load(settings.home)
    url = (settings.url or (stored.url if stored else DEFAULT_URL)).rstrip("/")
    if settings.token is not None and settings.token.get_secret_value():
        return Login(url=url, token=settings.token.get_secret_value())
    if stored is None or stored.url != url:
        raise NotAuthenticated(
            f"You are not logged in to {url}.",
            hint=f"Log in with: klepaas login {url}. {NO_TOKEN}",
            evidence={"looked_in": str(path_in(settings.home))},
        )
    return stored


def load(home: Path) -> Login | None:
    """The stored login; None when there is none or the file is damaged."""
    try:
        content = json.loads(path_in(home).read_text())
        return Login(url=str(content["url"]), token=str(content["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(home: Path, login: Login) -> Path:
    """Write the login so that at no moment anybody else could read it. Errors: OSError."""
    path = path_in(home)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w") as file:
            json.dump({"url": login.url, "token": login.token}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        raise
    return path


def forget(home: Path) -> bool:
    """Remove the stored login. False when there was none."""
    try:
        path_in(home).unlink()
    except FileNotFoundError:
        return False
    return True
