"""One bare repository of the stand-in: its refs, its commits and how they lie to each other, by real git."""

import contextlib
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from klepaas import processes
from klepaas.settings import process_environment
from klepaas.testing.git.objects import Commit, Files, ObjectStore, Person, parse_commit

GITHUB = Person("GitHub", "noreply@github.com")
"""Who commits what is merged on the web."""

_FULL_SHA = re.compile(r"[0-9a-f]{40}")

_PROGRAMS = (b"#!", b"\x7fELF")
"""How files begin that are committed as executable."""

ENV = {
    **{name: value for name, value in process_environment().items() if name == "PATH"},
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}


_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
[http]
\treceivepack = true
[receive]
\tautogc = false
[uploadpack]
\tallowFilter = true
\tallowAnySHA1InWant = true
"""


class CannotMerge(Exception):
    """The two sides change the same lines."""


@dataclass(frozen=True)
class FileChange:
    path: str
    kind: Literal["added", "removed", "modified"]
    blob: str | None


class GitRepository:
    """`refs` mirrors the repository's refs (`refs/heads/…`, `refs/tags/…` → SHA); nobody else writes into its folder
    but git's http-backend, after which `reload` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refs: dict[str, str] = {}
        self._objects = ObjectStore(folder)
        self._commits: dict[str, Commit] = {}
        self._files: dict[str, Files] = {}

    def create(self, default_branch: str) -> None:
        """What `git init --bare` makes, as far as git needs it, without starting a program."""
        for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "HEAD").write_text(f"ref: refs/heads/{default_branch}\n")
        (self.folder / "config").write_text(_CONFIG)

    async def git(self, *words: str, env: Mapping[str, str] | None = None, stdin: bytes | None = None) -> str:
        """Run git here and return what it printed. Errors: RuntimeError with git's words."""
        done = await processes.run(["git", *words], env={**ENV, **(env or {})}, cwd=self.folder, stdin=stdin)
        if done.exit_code:
            raise RuntimeError(f"git {' '.join(words)} ended with {done.exit_code}: {done.stderr or done.stdout}")
        return done.stdout

    async def reload(self) -> None:
        """Read the refs again, after somebody pushed."""
        listed = await self.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags")
        self.refs = {ref: sha for sha, ref in (line.split(" ", 1) for line in listed.splitlines())}

    async def set_ref(self, ref: str, sha: str | None) -> None:
        """Point a ref at a commit, whatever it pointed at; None removes it."""
        if sha is None:
            await self.git("update-ref", "-d", ref)
            self.refs.pop(ref, None)
            return
        path = self.folder / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.lock")
        unfinished.write_text(f"{sha}\n")
        os.replace(unfinished, path)
        self.refs[ref] = sha

    async def commit(self, sha: str) -> Commit:
        if sha not in self._commits:
            self._commits[sha] = parse_commit(sha, await self.git("cat-file", "commit", sha))
        return self._commits[sha]

    async def files(self, sha: str) -> Files:
        """All files of a commit."""
        if sha not in self._files:
            listed = await self.git("ls-tree", "-r", "-z", "--full-tree", sha)
            found: dict[str, tuple[str, str]] = {}
            for line in filter(None, listed.split("\0")):
                about, _, path = line.partition("\t")
                mode, _, blob = about.split(" ")
                found[path] = (mode, blob)
            self._files[sha] = found
        return self._files[sha]

    async def resolve(self, name: str) -> str | None:
        """The full SHA of the commit that a branch, a tag, a ref or a SHA (7 or more digits) names."""
        if (sha := self.refs.get(f"refs/heads/{name}")) is not None:
            return sha
        if _FULL_SHA.fullmatch(name) and name in self._commits:
            return name
        full = name if name.startswith("refs/") else f"refs/tags/{name}"
        if full not in self.refs and not re.fullmatch(r"[0-9a-f]{7,40}", name):
            return None
        with contextlib.suppress(RuntimeError):
            wanted = self.refs.get(full, name)
            return (await self.git("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")).strip()
        return None

    async def write(
        self,
        changes: Mapping[str, str | bytes | None],
        *,
        parents: Sequence[str],
        message: str,
        author: Person,
        committer: Person,
        at: datetime,
    ) -> Commit:
        """A commit upon the first parent; a file whose content is None is removed. No ref is changed."""
        files = dict(await self.files(parents[0])) if parents else {}
        for path, content in changes.items():
            if content is None:
                files.pop(path, None)
                continue
            data = content.encode() if isinstance(content, str) else content
            mode = files[path][0] if path in files else ("100755" if data.startswith(_PROGRAMS) else "100644")
            files[path] = (mode, self._objects.write("blob", data))
        tree = self._objects.write_tree(files)
        made = self._objects.write_commit(
            tree=tree, parents=parents, message=message, author=author, committer=committer, at=at
        )
        self._commits[made.sha] = made
        self._files[made.sha] = files
        return made

    async def merge(
        self, base: str, head: str, *, parents: Sequence[str], message: str, author: Person, at: datetime
    ) -> Commit:
        """A commit whose files are those of both sides merged. Errors: CannotMerge."""
        done = await processes.run(
            ["git", "merge-tree", "--write-tree", "--no-messages", base, head], env=ENV, cwd=self.folder
        )
        if done.exit_code:
            raise CannotMerge(done.stdout + done.stderr)
        made = self._objects.write_commit(
            tree=done.stdout.strip(), parents=parents, message=message, author=author, committer=GITHUB, at=at
        )
        self._commits[made.sha] = made
        return made

    async def rebase(self, base: str, head: str, *, at: datetime) -> str:
        """The commits of `head` that `base` lacks, made anew upon `base`; the last one's SHA. Errors: CannotMerge."""
        work = self.folder.with_name(f".rebase-{secrets.token_hex(6)}")
        date = f"{int(at.timestamp())} +0000"
        who = {"GIT_COMMITTER_NAME": GITHUB.name, "GIT_COMMITTER_EMAIL": GITHUB.email, "GIT_COMMITTER_DATE": date}
        await self.git("worktree", "add", "-q", "--detach", str(work), head)
        try:
            await self.git("-C", str(work), "rebase", "-q", "--force-rebase", base, env=who)
            return (await self.git("-C", str(work), "rev-parse", "HEAD")).strip()
        except RuntimeError as error:
            raise CannotMerge(str(error)) from error
        finally:
            await self.git("worktree", "remove", "--force", str(work))

    async def tag_object(self, name: str, sha: str, *, message: str, tagger: Person, at: datetime) -> str:
        """Store an annotated tag and return its SHA. No ref is changed."""
        lines = [f"object {sha}", "type commit", f"tag {name}"]
        lines.append(f"tagger {tagger.name} <{tagger.email}> {int(at.timestamp())} +0000")
        return self._objects.write("tag", ("\n".join(lines) + f"\n\n{message}\n").encode())

    async def kind_of(self, sha: str) -> str:
        """`commit`, `tag`, `tree` or `blob`. Errors: RuntimeError when there is no such object."""
        return "commit" if sha in self._commits else (await self.git("cat-file", "-t", sha)).strip()

    async def ahead_and_behind(self, base: str, head: str) -> tuple[int, int]:
        """How many commits `head` has that `base` lacks, and the reverse."""
        if base == head:
            return 0, 0
        counted = await self.git("rev-list", "--left-right", "--count", f"{base}...{head}", "--")
        behind, ahead = counted.split()
        return int(ahead), int(behind)

    async def is_ancestor(self, old: str, new: str) -> bool:
        if old == new or old in (await self.commit(new)).parents:
            return True
        done = await processes.run(["git", "merge-base", "--is-ancestor", old, new], env=ENV, cwd=self.folder)
        return done.exit_code == 0

    async def merge_base(self, one: str, other: str) -> str | None:
        with contextlib.suppress(RuntimeError):
            return (await self.git("merge-base", one, other)).strip()
        return None

    async def new_commits(self, head: str, *, without: Sequence[str]) -> list[str]:
        """What `head` has and none of the others, oldest first."""
        if len(without) == 1 and (await self.commit(head)).parents == (without[0],):
            return [head]
        listed = await self.git("rev-list", "--reverse", "--topo-order", head, "--not", *without, "--")
        return listed.split()

    async def changes(self, old: str | None, new: str) -> list[FileChange]:
        """Which files differ, in the order of their paths; `old` None: all are added."""
        before = await self.files(old) if old else {}
        after = await self.files(new)
        found = [FileChange(p, "removed", None) for p in before if p not in after]
        for path, entry in after.items():
            if path not in before:
                found.append(FileChange(path, "added", entry[1]))
            elif before[path] != entry:
                found.append(FileChange(path, "modified", entry[1]))
        return sorted(found, key=lambda change: change.path)
