"""A git repository on this machine, for a project whose code is to be mirrored."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_WHO = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Kim"), ("EMAIL", "kim@localhost"))
}


class OriginRepository:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def commit(self, files: Mapping[str, str | bytes | None]) -> str:
        """On `main`; None removes a file. Returns the full SHA."""
        for name, content in files.items():
            place = self.path / name
            if content is None:
                place.unlink()
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", f"Change {', '.join(files)}")
        return self.git("rev-parse", "HEAD")

    def rewrite(self) -> None:
        """Have `main` begin anew, as after a force-push."""
        self.git("checkout", "--quiet", "--orphan", "rewritten")
        self.git("branch", "--quiet", "-D", "main")
        self.git("branch", "-m", "main")

    def remove(self) -> None:
        shutil.rmtree(self.path)

    def git(self, *arguments: str, at: Path | None = None) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **_WHO, "GIT_CONFIG_GLOBAL": "/dev/null"}
        folder = at or self.path
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", *arguments],
            cwd=folder if folder.exists() else "/",
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()
