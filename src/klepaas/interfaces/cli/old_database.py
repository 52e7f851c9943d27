"""The database of an older system, read and never written: a SQLite file or a PostgreSQL."""

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from klepaas.domain.old_row import REQUIRED
from klepaas.errors import Invalid, NotFound, Unavailable

HISTORIES, INTEGRATIONS = "deployment_histories", "user_project_integrations"
OURS = "deployment_events"
"""A table that only klepaas has."""
CONNECT_WITHIN_S = 10
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg", "postgresql+psycopg2")
_SQLITE = ("sqlite", "sqlite+aiosqlite")


@dataclass(frozen=True, kw_only=True)
class OldDatabase:
    """Rows as their columns hold them, as JSON can say it: times as text. `name` holds no credentials."""

    name: str
    deployments: Sequence[Mapping[str, Any]]
    projects: Sequence[Mapping[str, Any]]
    password_was_shown: bool = False
    """It stood in the address, and so in the list of processes."""


def read(place: str) -> OldDatabase:
    """Errors: NotFound, Invalid with what is missing, Unavailable."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        return _sqlite(Path(place).expanduser())
    if scheme.lower() in _SQLITE:
        return _sqlite(Path("/" + rest.lstrip("/") if rest.startswith("//") else rest.removeprefix("/")))
    if scheme.lower() in _POSTGRES:
        return _postgres(f"postgresql://{rest}")
    raise Invalid(
        f"{scheme[:40]!r} is no kind of database that an older system used.",
        hint="Give a SQLite file or a postgresql:// address.",
    )


def _sqlite(path: Path) -> OldDatabase:
    if not path.exists():
        raise NotFound(f"There is no file {str(path)[:200]!r}.", hint="Give the older system's database file.")
    if not path.is_file():
        raise Invalid(f"{str(path)[:200]!r} is no file.", hint="Give the older system's database file.")
    try:
        connection = sqlite3.connect(_read_only(path), uri=True)
        try:
            connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
            connection.row_factory = sqlite3.Row
            return _from_sqlite(connection, path.name)
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise Invalid(
            f"{path.name[:100]!r} cannot be read as a SQLite database: {error}.",
            hint="Give the file itself, or a copy made with: sqlite3 OLD.db '.backup COPY.db'",
        ) from error


def _read_only(path: Path) -> str:
    """The address of a file that stays as it is, and so does the folder around it: to read one in WAL mode, SQLite
    makes files beside it, unless it is told that nobody writes. Where somebody does, they are there already."""
    with path.open("rb") as file:
        is_wal = file.read(20)[18:20] == b"\x02\x02"
    is_quiet = is_wal and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.resolve().as_uri()}?{'immutable=1' if is_quiet else 'mode=ro'}"


def _from_sqlite(connection: sqlite3.Connection, name: str) -> OldDatabase:
    listed = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    tables = {str(row["name"]) for row in listed}
    _check_tables(tables, name)
    columns = {str(row["name"]) for row in connection.execute(f"PRAGMA table_info({HISTORIES})")}
    _check_columns(columns, name)
    projects = connection.execute(f"SELECT * FROM {INTEGRATIONS}").fetchall() if INTEGRATIONS in tables else []
    return OldDatabase(
        name=name[:255],
        deployments=[_plain(dict(row)) for row in connection.execute(f"SELECT * FROM {HISTORIES}")],
        projects=[_plain(dict(row)) for row in projects],
    )


def _postgres(url: str) -> OldDatabase:
    parts = _checked(url)
    import psycopg
    from psycopg.rows import dict_row

    name = _name(parts)
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_WITHIN_S, row_factory=dict_row) as connection:
            connection.read_only = True
            found = _from_postgres(connection, name)
    except psycopg.Error as error:
        said = _without(str(error), parts).strip().splitlines()
        # The driver's own error may show the address as it was given: it is not kept as the cause.
        raise Unavailable(
            f"{name} cannot be read: {said[0][:300] if said else type(error).__name__}.",
            hint="Look at the address; the password comes from PGPASSWORD or ~/.pgpass.",
        ) from None
    return replace(found, password_was_shown=bool(_secrets(parts)))


def _checked(url: str) -> SplitResult:
    """Nothing of an address that does not read as one is shown: any part of it may be of a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            raise ValueError("a sign of the password ended the host's part")
    except ValueError:
        raise Invalid(
            "That is no address of a PostgreSQL.",
            hint="Give e.g. postgresql://user@host:5432/name and its password in PGPASSWORD.",
        ) from None
    return parts


def _name(parts: SplitResult) -> str:
    """The address without user, password and options."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(("postgresql", f"{host}{port}", parts.path, "", ""))[:255]


def _without(text: str, parts: SplitResult) -> str:
    for secret in _secrets(parts):
        text = text.replace(secret, "***")
    return text


def _secrets(parts: SplitResult) -> list[str]:
    """Whatever of the address is a password, as it was written and as it was meant; the longest first."""
    options = [option.partition("=") for option in parts.query.split("&")]
    given = [parts.password or "", *(value for name, _, value in options if "password" in name.lower())]
    return sorted({text for each in given for text in (each, unquote(each)) if text}, key=len, reverse=True)


def _from_postgres(connection: Any, name: str) -> OldDatabase:
    listed = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = ANY (current_schemas(false))"
    )
    tables = {str(row["table_name"]) for row in listed}
    _check_tables(tables, name)
    described = connection.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = ANY (current_schemas(false)) AND table_name = %s",
        [HISTORIES],
    )
    _check_columns({str(row["column_name"]) for row in described}, name)
    projects = connection.execute(f"SELECT * FROM {INTEGRATIONS}").fetchall() if INTEGRATIONS in tables else []
    return OldDatabase(
        name=name,
        deployments=[_plain(row) for row in connection.execute(f"SELECT * FROM {HISTORIES}")],
        projects=[_plain(row) for row in projects],
    )


def _check_tables(tables: set[str], name: str) -> None:
    if OURS in tables:
        raise Invalid(f"{name} is a klepaas database, not an older system's.", hint="Its history is here already.")
    if HISTORIES not in tables:
        there = ", ".join(sorted(tables)[:20]) or "none at all"
        raise Invalid(
            f"{name} has no table {HISTORIES}.", hint=f"There are: {there}. Is it the older system's database?"
        )


def _check_columns(columns: set[str], name: str) -> None:
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        raise Invalid(
            f"The table {HISTORIES} of {name} lacks {', '.join(missing)}.",
            hint="Without them its rows cannot be told apart or understood.",
        )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {str(column): _value(value) for column, value in row.items()}


def _value(value: Any) -> Any:
    """Word for word where JSON and databases can say it; what they cannot is spelt out."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime():
            return value.isoformat(sep=" ")
        case date():
            return value.isoformat()
        case bytes() | memoryview():
            return {"hex": bytes(value).hex()}
        case str():
            text = value.encode("utf-8", "backslashreplace").decode()
            return text.replace("\0", "\\x00")
        case dict() | list():
            return _nested(value)
        case _:
            return str(value)


def _nested(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(_value(str(key))): _value(each) for key, each in value.items()}
    return [_value(each) for each in value]
