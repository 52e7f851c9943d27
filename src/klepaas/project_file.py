"""The project file: what a repository says about its own app, in `klepaas.toml` at its root.

Every key is optional and so is the file. It holds names of environment variables, never their values. It comes
from somebody's repository, so it is read with suspicion: an ordinary file of limited size, and every problem is
told with its line and what would be accepted."""

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from klepaas.domain.project import ProjectSettings, parse_variable
from klepaas.domain.repository import parse_path
from klepaas.errors import Invalid

NAME = "klepaas.toml"
MAX_BYTES = 64 * 1024
TARGETS = ("local", "kubernetes", "ncp", "aws")
MAX_REPLICAS = 100


@dataclass(frozen=True, kw_only=True)
class ProjectFile:
    """`settings` holds those of ProjectSettings that the file names, checked one by one."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    """Environment variables the app needs."""
    target: str | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong in the file. `line` counts from 1; `accepted` says what the key may hold."""

    line: int
    key: str
    message: str
    accepted: str

    def sentence(self, name: str) -> str:
        return f"{name}:{self.line}: {self.message}"


@dataclass(frozen=True)
class _Key:
    accepted: str
    read: Callable[[Any], Any]


def read(folder: Path) -> ProjectFile | None:
    """The project file of a checked-out repository, None when it has none.

    Errors: Invalid; its evidence holds `file` and all `problems` (line, key, message, accepted)."""
    text = _text(folder / NAME)
    return None if text is None else parse(text)


def parse(text: str, name: str = NAME) -> ProjectFile:
    """Errors: Invalid, as `read`."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(name, [_syntax(text, error)]) from None
    read_values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in values.items():
        if key not in KEYS:
            known = ", ".join(KEYS)
            problems.append(Problem(line=_line_of(key, text), key=key, message=f"unknown key {key!r}", accepted=known))
            continue
        try:
            read_values[key] = KEYS[key].read(value)
        except (ValueError, Invalid) as error:
            accepted = KEYS[key].accepted
            message = f"{key} {error}"
            problems.append(Problem(line=_line_of(key, text), key=key, message=message, accepted=accepted))
    if problems:
        raise _invalid(name, problems)
    return ProjectFile(
        settings={key: value for key, value in read_values.items() if key in ProjectSettings.model_fields},
        variables=read_values.get("variables", ()),
        target=read_values.get("target"),
    )


def _text(path: Path) -> str | None:
    """Errors: Invalid when it is a link, a device, too large or not UTF-8."""
    try:
        # Not through a link, which may leave the repository; not blocking, which a named pipe would.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _invalid(path.name, [_whole(f"cannot be read: {error.strerror or error}")]) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _invalid(path.name, [_whole("is not an ordinary file")])
    with open(descriptor, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _invalid(path.name, [_whole("is larger than 64 KiB")])
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _invalid(path.name, [Problem(line=line, key="", message="not UTF-8", accepted="UTF-8 text")]) from None


def _whole(message: str) -> Problem:
    return Problem(line=1, key="", message=f"the file {message}", accepted="an ordinary TOML file of at most 64 KiB")


_AT_LINE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")


def _syntax(text: str, error: tomllib.TOMLDecodeError) -> Problem:
    words = str(error)
    place = _AT_LINE.search(words)
    line = int(place[1]) if place and place[1] else text.count("\n") + (not text.endswith("\n"))
    message = _AT_LINE.sub("", words)
    return Problem(line=max(line, 1), key="", message=f"not TOML: {message}", accepted="lines like: port = 8080")


def _invalid(name: str, problems: list[Problem]) -> Invalid:
    first = min(problems, key=lambda problem: problem.line)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Invalid(
        first.sentence(name) + more,
        hint=f"Accepted: {first.accepted}.",
        evidence={"file": name, "problems": [vars(problem) for problem in sorted(problems, key=lambda p: p.line)]},
    )


def _line_of(key: str, text: str) -> int:
    """The line where a top-level key (or its table) begins; 1 when it cannot be told."""
    pattern = re.compile(rf"^\s*\[*\s*(?:\"{re.escape(key)}\"|'{re.escape(key)}'|{re.escape(key)})\s*[=.\]]")
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if pattern.match(line) and _ends_a_value("\n".join(lines[: number - 1])):
            return number
    return 1


def _ends_a_value(text: str) -> bool:
    """Whether what follows is a new line of the file and not the inside of a text or list of several lines."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


# Readers of one value each: they return it or raise a ValueError whose words follow the name of the key.


def _whole_number(low: int, high: int) -> Callable[[Any], int]:
    def read_number(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"is {_kind(value)}, not a whole number")
        if not low <= value <= high:
            raise ValueError(f"is {value}, and must be from {low} to {high}")
        return value

    return read_number


def _path(value: Any) -> str:
    try:
        return parse_path(_words(value))
    except Invalid as refused:
        raise ValueError(f"is no path inside the repository: {refused.message}") from None


def _health_path(value: Any) -> str:
    text = _words(value)
    try:
        return ProjectSettings(health_path=text).health_path
    except ValueError:
        raise ValueError(f"is {text[:80]!r}, which is no path of a URL") from None


def _variables(value: Any) -> tuple[str, ...]:
    """Never repeats an entry that is no name: somebody may have written a secret there."""
    if not isinstance(value, list):
        raise ValueError(f"is {_kind(value)}, not a list of names; values have no place in this file")
    for place, name in enumerate(value, start=1):
        try:
            parse_variable(name if isinstance(name, str) else "")
        except Invalid:
            raise ValueError(f"has an entry that is not a name (number {place} in the list)") from None
        if name == "PORT":
            raise ValueError("names PORT, which klepaas gives by itself; the key `port` sets it")
    return tuple(dict.fromkeys(value))


def _command(value: Any) -> tuple[str, ...]:
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {error}") from None
    if not isinstance(words, list) or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise ValueError(f"is {_kind(value)}, not a command")
    if not words or not words[0]:
        raise ValueError("is empty")
    return tuple(words)


def _target(value: Any) -> str:
    if value not in TARGETS:
        raise ValueError(f"is {str(value)[:80]!r}, which is no target")
    return str(value)


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}, not a text")
    return value


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


KEYS: Mapping[str, _Key] = {
    "port": _Key("a whole number from 1 to 65535", _whole_number(1, 65535)),
    "health_path": _Key('a path of the app that answers 2xx or 3xx when it is ready, e.g. "/health"', _health_path),
    "dockerfile": _Key('a path inside the repository, e.g. "app/Dockerfile"', _path),
    "context": _Key('a folder inside the repository, e.g. "app", or "." for the root', _path),
    "variables": _Key('a list of names (letters, digits, underscores), e.g. ["DATABASE_URL"]', _variables),
    "release_command": _Key('a program and its words, e.g. "python manage.py migrate"', _command),
    "replicas": _Key(f"a whole number from 0 to {MAX_REPLICAS}", _whole_number(0, MAX_REPLICAS)),
    "target": _Key("one of " + ", ".join(TARGETS), _target),
}
"""Every key the file may have."""


def missing(folder: Path) -> list[Problem]:
    """What the project file of a repository names and the repository does not have. Errors: Invalid, as `read`."""
    text = _text(folder / NAME) or ""
    settings = parse(text).settings
    wanted = {"dockerfile": Path.is_file, "context": Path.is_dir}
    return [
        Problem(
            line=_line_of(key, text),
            key=key,
            message=f"{key} is {settings[key]!r}, and there is no such path in the repository",
            accepted=KEYS[key].accepted,
        )
        for key, is_there in wanted.items()
        if key in settings and not is_there(folder / settings[key])
    ]
