"""A git repository on this machine with the sample app in it; each commit is a version of its own."""

import os
import shutil
import subprocess
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample"


class AppRepository:
    """`path` is what a project is registered with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.versions: dict[str, str] = {}
        """Full commit SHA → what the app built from it answers at /version."""
        shutil.copytree(SAMPLE, path)
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, version: str = "", **files: str | None) -> str:
        """Commit a new version of the app, with these files (None removes one). Returns the full SHA.

        A file whose name is no Python name goes in as `**{"klepaas.toml": "…"}`."""
        version = version or f"v{len(self.versions) + 1}"
        (self.path / "site" / "version.txt").write_text(f"{version}\n")
        for name, text in files.items():
            if text is None:
                (self.path / name).unlink()
            else:
                (self.path / name).write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", f"Version {version}")
        sha = self._git("rev-parse", "HEAD")
        self.versions[sha] = version
        return sha

    def _git(self, *arguments: str) -> str:
        who = {
            "GIT_AUTHOR_NAME": "Kim",
            "GIT_AUTHOR_EMAIL": "kim@localhost",
            "GIT_COMMITTER_NAME": "Kim",
            "GIT_COMMITTER_EMAIL": "kim@localhost",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={"PATH": os.environ["PATH"], "HOME": str(self.path.parent), **who},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()
