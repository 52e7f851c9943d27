"""Commits written straight into a bare repository: thousands a second, where git would start four programs each."""

import hashlib
import os
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

Files = Mapping[str, tuple[str, str]]
"""All files of a commit: path → (mode as git writes it, blob SHA)."""


@dataclass(frozen=True)
class Person:
    name: str
    email: str


@dataclass(frozen=True)
class Commit:
    """`message` is whole, without the newline at its end."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    message: str
    author: Person
    authored_at: datetime
    committer: Person
    committed_at: datetime


class ObjectStore:
    """Writes loose objects below `folder/objects`; git reads them like its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "objects"

    def write(self, kind: str, data: bytes) -> str:
        """Store one object and return its SHA. An object that is there already stays as it is."""
        whole = f"{kind} {len(data)}\0".encode() + data
        sha = hashlib.sha1(whole).hexdigest()
        path = self._folder / sha[:2] / sha[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            unfinished = path.with_name(f"tmp_obj_{secrets.token_hex(6)}")
            unfinished.write_bytes(zlib.compress(whole, 1))
            os.replace(unfinished, path)
        return sha

    def write_tree(self, files: Files) -> str:
        """Store the folders of these files and return the SHA of the topmost."""
        entries: list[tuple[str, str, str]] = []
        folders: dict[str, dict[str, tuple[str, str]]] = {}
        for path, (mode, sha) in files.items():
            first, inside, rest = path.partition("/")
            if inside:
                folders.setdefault(first, {})[rest] = (mode, sha)
            else:
                entries.append((first, mode, sha))
        entries += [(name, "40000", self.write_tree(inner)) for name, inner in folders.items()]
        # git sorts a folder as if its name ended with a slash.
        entries.sort(key=lambda entry: (entry[0] + "/" * (entry[1] == "40000")).encode())
        return self.write("tree", b"".join(f"{m} {n}\0".encode() + bytes.fromhex(s) for n, m, s in entries))

    def write_commit(
        self, *, tree: str, parents: Sequence[str], message: str, author: Person, committer: Person, at: datetime
    ) -> Commit:
        at = at.replace(microsecond=0)
        seconds = f"{int(at.timestamp())} +0000"
        lines = [
            f"tree {tree}",
            *(f"parent {parent}" for parent in parents),
            f"author {author.name} <{author.email}> {seconds}",
            f"committer {committer.name} <{committer.email}> {seconds}",
        ]
        sha = self.write("commit", ("\n".join(lines) + f"\n\n{message}\n").encode())
        return Commit(sha, tree, tuple(parents), message.rstrip("\n"), author, at, committer, at)


def parse_commit(sha: str, text: str) -> Commit:
    """Read what `git cat-file commit` prints."""
    head, _, message = text.partition("\n\n")
    fields: dict[str, list[str]] = {}
    for line in head.splitlines():
        name, _, value = line.partition(" ")
        fields.setdefault(name, []).append(value)
    author, authored_at = _signature(fields["author"][0])
    committer, committed_at = _signature(fields["committer"][0])
    return Commit(
        sha=sha,
        tree=fields["tree"][0],
        parents=tuple(fields.get("parent", ())),
        message=message.rstrip("\n"),
        author=author,
        authored_at=authored_at,
        committer=committer,
        committed_at=committed_at,
    )


def _signature(line: str) -> tuple[Person, datetime]:
    who, _, rest = line.rpartition("> ")
    name, _, email = who.partition(" <")
    return Person(name, email), datetime.fromtimestamp(int(rest.split()[0]), UTC)
