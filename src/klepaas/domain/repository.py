"""Where a project's code comes from, and which names of branches, commits and paths are acceptable.

Everything here is checked before any program sees it: no name may look like an option, name another git
protocol or leave the repository."""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import urlsplit

from klepaas.errors import Invalid


class SourceKind(StrEnum):
    GITHUB = "github"
    URL = "url"
    LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository as the user named it. `location` is what git is given; it never holds a credential."""

    kind: SourceKind
    location: str
    owner: str = ""
    name: str = ""

    @property
    def display(self) -> str:
        return f"{self.owner}/{self.name}" if self.kind is SourceKind.GITHUB else self.location

    @property
    def owner_and_name(self) -> tuple[str, str] | None:
        """How its server's API calls it, where that is a GitHub: the two parts of its address; else None."""
        if self.kind is SourceKind.GITHUB:
            return self.owner, self.name
        if self.kind is SourceKind.LOCAL or "://" not in self.location:
            return None
        match = _GITHUB.fullmatch(urlsplit(self.location).path.strip("/").removesuffix(".git"))
        return (match["owner"], match["name"]) if match else None

    @property
    def scheme(self) -> str:
        """How its server is spoken to: `https`, `http` or `ssh`; `file` on this machine's disk."""
        if self.kind is SourceKind.LOCAL:
            return "file"
        return urlsplit(self.location).scheme if "://" in self.location else "ssh"

    @property
    def host(self) -> str:
        """Its server, as `name` or, at another port than that of https, `name:port`; empty on this machine's disk."""
        if self.kind is SourceKind.LOCAL:
            return ""
        if "://" not in self.location:
            return self.location.partition("@")[2].partition(":")[0].lower()
        parts = urlsplit(self.location)
        return host_of(parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme))

    @property
    def keeps_secrets(self) -> bool:
        """Whether nobody on the way can read what its server is told: https, or http that stays on this machine."""
        if self.scheme != "http":
            return self.scheme == "https"
        name = urlsplit(self.location).hostname or ""
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"


def host_of(name: str, port: int | None) -> str:
    """A server as it is compared with another: in lower case, without the port of https."""
    plain = f"[{name.lower()}]" if ":" in name else name.lower()
    return plain if port in {None, 443} else f"{plain}:{port}"


_GITHUB = re.compile(r"^(?P<owner>[A-Za-z0-9](?:[A-Za-z0-9-]{0,38}))/(?P<name>[A-Za-z0-9._-]{1,100})$")
_SCP = re.compile(r"^[A-Za-z0-9._-]+@(?P<host>[A-Za-z0-9.-]+):(?P<path>[A-Za-z0-9._~/-]+)$")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BRANCH_PUNCTUATION = frozenset("-._/+@=#,()!&%")
"""What git allows and people use. Blanks, quotes, `$`, `;`, backslashes and git's own signs are not among them."""
_REF_BYTES = 240
"""A server keeps a branch as a file: 255 bytes to a name, less what git appends while it writes."""
_SHA = re.compile(r"^[0-9a-f]{7,40}$")


def parse_repository(text: str, *, github_url: str = "https://github.com") -> Repository:
    """Read `owner/repo`, an https, http or ssh URL, `user@host:path`, `file://…` or an absolute path.

    Errors: Invalid for anything else, for options, other git protocols and credentials inside a URL."""
    text = text.strip()
    if not text or text.startswith("-") or any(ord(c) < 33 or ord(c) == 127 for c in text) or len(text) > 500:
        raise Invalid(
            f"{_without_credential(text)!r} is not a repository.",
            hint="Give owner/repo, an https or ssh URL, or an absolute path.",
        )
    if match := _GITHUB.fullmatch(text):
        name = match["name"].removesuffix(".git")
        if name in {"", ".", ".."}:
            raise Invalid(f"{text!r} is not a repository.", hint="Give owner/repo.")
        return Repository(
            kind=SourceKind.GITHUB,
            location=f"{github_url}/{match['owner']}/{name}.git",
            owner=match["owner"],
            name=name,
        )
    if text.startswith("/"):
        return Repository(kind=SourceKind.LOCAL, location=text, owner="local", name=_last(text))
    if match := _SCP.fullmatch(text):
        if match["path"].startswith("-"):
            raise Invalid(f"{_without_credential(text)!r} is not a repository.", hint="Give an https or ssh URL.")
        return Repository(kind=SourceKind.URL, location=text, owner=match["host"], name=_last(match["path"]))
    found = _parse_url(text)
    at_github = found.owner_and_name if found.location.startswith(f"{github_url}/") else None
    # The same repository is the same project, however its address was written.
    return found if at_github is None else parse_repository("/".join(at_github), github_url=github_url)


def _parse_url(text: str) -> Repository:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        # Not in Python's words, which repeat what stands in the server's or the port's place: with the `@` forgotten
        # that is a password.
        raise Invalid(
            "The repository's URL cannot be read: what stands for its server or its port is neither.",
            hint="Give an https or ssh URL, e.g. https://git.example.org/team/app.git.",
        ) from None
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        return Repository(kind=SourceKind.LOCAL, location=parts.path, owner="local", name=_last(parts.path))
    if parts.scheme not in {"https", "http", "ssh"} or not parts.hostname or parts.hostname.startswith("-"):
        raise Invalid(
            f"{_without_credential(text)!r} is not a repository klepaas can fetch.",
            hint="Give owner/repo, an https or ssh URL, or an absolute path.",
        )
    if parts.password or (parts.username and parts.scheme != "ssh") or (parts.username or "").startswith("-"):
        raise Invalid(
            "The repository URL holds a credential.",
            hint="Remove it from the URL and add it as a connection; klepaas keeps credentials sealed.",
        )
    return Repository(kind=SourceKind.URL, location=text, owner=parts.hostname, name=_last(parts.path))


def _without_credential(text: str) -> str:
    """What may be repeated of an address that cannot be read, cut to what fits into an error: nothing from where a
    credential could stand, before the last `@` or in a query."""
    before, at, rest = text.rpartition("@")
    scheme = _SCHEME.match(before)
    shown = f"{scheme[0] if scheme else ''}…@{rest}" if at else text
    return re.split(r"[?#]", shown, maxsplit=1)[0][:80]


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git") or "repository"


def parse_branch(text: str) -> str:
    """A branch name, in any script, that git accepts and no program can mistake for an option. Errors: Invalid."""
    name = text.removeprefix("refs/heads/")
    parts = name.split("/")
    good = (
        _begins_a_branch(name[:1])
        and all(_belongs_in_branch(character) for character in name)
        and ".." not in name
        and not name.endswith(".")
        and not any(part == "" or part.startswith(".") or part.endswith(".lock") for part in parts)
        and len(name.encode()) <= _REF_BYTES
    )
    if not good:
        raise Invalid(f"{text[:80]!r} is not a branch name.", hint="Give the branch as git shows it, e.g. main.")
    return name


def _begins_a_branch(character: str) -> bool:
    return character in {"_", "#"} or (character not in _BRANCH_PUNCTUATION and _belongs_in_branch(character))


def _belongs_in_branch(character: str) -> bool:
    """Letters, marks, digits and pictures of any script; nothing invisible, no blanks, no control characters."""
    if character.isascii():
        return character.isalnum() or character in _BRANCH_PUNCTUATION or character == "_"
    category = unicodedata.category(character)
    return category[0] in "LMN" or category == "So"


def parse_commit(text: str) -> str:
    """A commit SHA or a prefix of at least 7 hex digits, in lower case. Errors: Invalid."""
    sha = text.strip().lower()
    if not _SHA.fullmatch(sha):
        raise Invalid(f"{text[:80]!r} is not a commit.", hint="Give 7 to 40 hexadecimal digits.")
    return sha


def parse_path(text: str) -> str:
    """A relative path inside the repository, without `..`, options or control characters. Errors: Invalid."""
    path = text.strip()
    parts = path.split("/")
    if (
        not path
        or len(path) > 500
        or path.startswith(("/", "-", "~"))
        or ".." in parts
        or "\\" in path
        or any(ord(c) < 32 or ord(c) == 127 for c in path)
    ):
        raise Invalid(
            f"{text[:80]!r} is not a path inside the repository.",
            hint="Give a relative path, e.g. app/Dockerfile.",
        )
    return "/".join(part for part in parts if part not in {"", "."}) or "."
