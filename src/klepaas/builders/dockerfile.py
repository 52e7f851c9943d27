"""Which Dockerfile a commit is built from, with which context, and whether that is safe to hand to a builder.

A repository is a stranger's: its links, devices and sizes are checked before any program follows them."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from klepaas.domain.repository import parse_path
from klepaas.errors import ContextUnusable, DockerfileAmbiguous, DockerfileEmpty, DockerfileNotFound, DockerfileUnusable

LARGEST_BYTES = 2**20
"""A Dockerfile is a few KiB; the largest generated ones we know are under 100 KiB."""

MOST_CANDIDATES = 20
"""More than this are counted in the message, not listed."""

MOST_ENTRIES = 200_000
"""Files and folders looked at for a Dockerfile; the Linux kernel's tree has 90,000."""

_SKIPPED = frozenset({".git", ".hg", ".svn", "node_modules", "vendor", ".venv", "venv", ".tox", ".devcontainer"})
"""Folders whose Dockerfiles are somebody else's, or build an editor rather than the app."""

_VARIANT = re.compile(r"^(?:dockerfile|dockerfile\.[\w.-]+|[\w.-]+\.dockerfile)$", re.IGNORECASE)
_NO_VARIANT = re.compile(
    r"\.(?:dockerignore|md|rst|txt|j2|jinja2?|tmpl|template|tpl|erb|in|example|sample|bak|orig|rej|old|swp|py|js|ts|go)$",
    re.IGNORECASE,
)
_DIRECTIVE = re.compile(rb"^\s*#\s*([A-Za-z]+)\s*=\s*(\S+)\s*$")
_FRONTEND = re.compile(rb"^(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?$")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class BuildInput:
    """A Dockerfile that was checked, and the folder it is built in.

    `shown` is the Dockerfile's path inside the repository; `ignore` the ignore file that belongs to this
    Dockerfile alone (`Dockerfile.dockerignore`), when there is one. `context` is absolute, without links."""

    shown: str
    text: bytes
    ignore: bytes | None
    context: Path


def choose(source: Path, *, dockerfile: str | None, context: str | None) -> BuildInput:
    """Find and check what to build in a checkout. `dockerfile` and `context` are the project's settings.

    Without a setting it is the root's `Dockerfile`, else the only one in the tree, with its own folder as context.
    Reads files and waits for the disk: call it in a thread.

    Errors: DockerfileNotFound, DockerfileAmbiguous, DockerfileEmpty, DockerfileUnusable, ContextUnusable, and
    Invalid for a setting that is no path inside a repository."""
    root = Path(os.path.realpath(source, strict=True))
    shown = parse_path(dockerfile) if dockerfile is not None else _only(root)
    text = _read(root, shown)
    if not _has_instruction(text):
        raise DockerfileEmpty(
            f"The Dockerfile `{shown}` is empty: it has no instruction.",
            hint="Begin it with FROM and commit it.",
            evidence={"dockerfile": shown},
        )
    folder = parse_path(context) if context is not None else _default_context(shown, named=dockerfile is not None)
    ignore = f"{shown}.dockerignore"
    return BuildInput(
        shown=shown,
        text=text,
        ignore=_read(root, ignore) if os.path.lexists(root / ignore) else None,
        context=_context(root, folder),
    )


def without_frontend(text: bytes) -> bytes | None:
    """The Dockerfile without its `# syntax=docker/dockerfile…` line, or None when it names no such frontend.

    Other frontends are left alone: without theirs the file means something else, or nothing."""
    lines = text.removeprefix(_BOM).splitlines(keepends=True)
    for number, line in enumerate(lines):
        directive = _DIRECTIVE.match(line)
        if directive is None:
            return None
        if directive[1].lower() == b"syntax":
            return b"".join(lines[:number] + lines[number + 1 :]) if _FRONTEND.match(directive[2]) else None
    return None


def _only(root: Path) -> str:
    if (root / "Dockerfile").is_file() or (root / "Dockerfile").is_symlink():
        return "Dockerfile"
    found = sorted(_candidates(root))
    if not found:
        raise DockerfileNotFound(
            "Dockerfile not found in repository.",
            hint="Commit a Dockerfile, or name its path in the project's setting `dockerfile`.",
        )
    plain = [path for path in found if path.rsplit("/", 1)[-1] == "Dockerfile"]
    if len(plain) == 1 or len(found) == 1:
        return (plain or found)[0]
    listed = ", ".join(f"`{path}`" for path in found[:MOST_CANDIDATES])
    more = f" and {len(found) - MOST_CANDIDATES} more" if len(found) > MOST_CANDIDATES else ""
    raise DockerfileAmbiguous(
        f"The repository has {len(found)} Dockerfiles and none is `Dockerfile` in its root: {listed}{more}.",
        hint="Name the one to build in the project's setting `dockerfile`.",
        evidence={"candidates": found[:MOST_CANDIDATES]},
    )


def _candidates(root: Path) -> Iterator[str]:
    looked_at, seen = 0, set()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        looked_at += len(folders) + len(files)
        if looked_at > MOST_ENTRIES:
            return
        for name in files:
            path = Path(folder, name)
            if _VARIANT.match(name) and not _NO_VARIANT.search(name) and path.is_file():
                # Two names of one file are one choice.
                real = os.path.realpath(path)
                if real not in seen:
                    seen.add(real)
                    yield path.relative_to(root).as_posix()


def _read(root: Path, shown: str) -> bytes:
    try:
        path = Path(os.path.realpath(root / shown, strict=True))
        about = path.stat()
    except OSError as error:
        raise DockerfileNotFound(
            f"Dockerfile not found in repository: there is no `{shown}` in this commit.",
            hint="Commit it, or correct the project's setting `dockerfile`.",
            evidence={"dockerfile": shown},
        ) from error
    if not path.is_relative_to(root):
        raise _unusable(shown, "is a link that leaves the repository")
    if not stat.S_ISREG(about.st_mode):
        raise _unusable(shown, "is a folder" if stat.S_ISDIR(about.st_mode) else "is a device, not a file")
    if about.st_size > LARGEST_BYTES:
        raise _unusable(shown, f"has {about.st_size:,} bytes, and at most {LARGEST_BYTES:,} are read")
    return path.read_bytes()


def _unusable(shown: str, why: str) -> DockerfileUnusable:
    return DockerfileUnusable(
        f"`{shown}` cannot be used as a Dockerfile: it {why}.",
        hint="Name an ordinary file of the repository in the project's setting `dockerfile`.",
        evidence={"dockerfile": shown},
    )


def _has_instruction(text: bytes) -> bool:
    lines = (line.strip() for line in text.removeprefix(_BOM).splitlines())
    return any(line and not line.startswith(b"#") for line in lines)


def _default_context(shown: str, *, named: bool) -> str:
    return "." if named or "/" not in shown else shown.rsplit("/", 1)[0]


def _context(root: Path, shown: str) -> Path:
    try:
        path = Path(os.path.realpath(root / shown, strict=True))
        is_folder = path.is_dir()
    except OSError:
        is_folder = False
    if not is_folder:
        raise _no_context(shown, "there is no such folder in this commit")
    if not path.is_relative_to(root):
        raise _no_context(shown, "it is a link that leaves the repository")
    ignore = path / ".dockerignore"
    # The docker program reads this file itself: a link would show it a file of this machine, a device hang it.
    if os.path.lexists(ignore):
        real = Path(os.path.realpath(ignore))
        if not real.is_relative_to(root) or (real.exists() and not real.is_file()):
            raise _no_context(shown, "its .dockerignore is not an ordinary file of the repository")
    return path


def _no_context(shown: str, why: str) -> ContextUnusable:
    return ContextUnusable(
        f"`{shown}` cannot be used as the build context: {why}.",
        hint="Name a folder of the repository in the project's setting `context`.",
        evidence={"context": shown},
    )
