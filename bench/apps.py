"""The apps that are deployed, each as a git repository whose every commit is another version."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.report import BenchFailed
from bench.surroundings import Surroundings
from tests.servers.base_images import python_base, static_base

SAMPLE = Path(__file__).parents[1] / "examples" / "sample"
PYTHON_APP = Path(__file__).parent / "python_app"
_PACKAGES = ("click", "h11", "uvicorn", "websockets")
"""What the Python app depends on, copied from where this program has them: no network, always the same."""
_GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "klepaas bench",
    "GIT_AUTHOR_EMAIL": "bench@localhost",
    "GIT_COMMITTER_NAME": "klepaas bench",
    "GIT_COMMITTER_EMAIL": "bench@localhost",
}


@dataclass(frozen=True, kw_only=True)
class App:
    """A repository with an app that answers /version with the content of `version_file`."""

    name: str
    repository: Path
    version_file: str
    health_path: str
    port: int = 8080

    @property
    def settings(self) -> dict[str, Any]:
        """What klepaas is told; the floor is told the same."""
        return {"port": self.port, "health_path": self.health_path}

    def commit(self, version: str) -> str:
        """Make this the newest version; returns its SHA."""
        (self.repository / self.version_file).write_text(f"{version}\n")
        _git(self.repository, "add", "--all")
        _git(self.repository, "commit", "--quiet", "--message", f"Version {version}")
        return _git(self.repository, "rev-parse", "HEAD")


def static_app(around: Surroundings, name: str = "static") -> App:
    """The sample: FROM scratch, one static binary, two files."""
    folder = around.folder / "repositories" / name
    shutil.copytree(SAMPLE, folder)
    return _repository(App(name=name, repository=folder, version_file="site/version.txt", health_path="/health"))


def small_repository(around: Surroundings, name: str) -> Path:
    """A Dockerfile and nothing else worth copying, for what is built elsewhere."""
    folder = around.folder / "repositories" / name
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\nEXPOSE 8080\nCOPY . /\n")
    _git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", "First")
    return folder


def python_app(around: Surroundings, name: str = "python") -> App:
    """An ASGI app on uvicorn; its dependencies are a layer of the image that stays cached."""
    base = python_base(around.engine)
    folder = around.folder / "repositories" / name
    shutil.copytree(PYTHON_APP, folder)
    (folder / "Dockerfile").write_text((folder / "Dockerfile").read_text().replace("python:3-slim", base))
    _copy_packages(_PACKAGES, folder / "packages")
    return _repository(App(name=name, repository=folder, version_file="version.txt", health_path="/health"))


def waiting_app(around: Surroundings, name: str) -> "WaitingApp":
    """The sample, with a build that takes as long as `WaitingApp.wait` says."""
    app = static_app(around, name)
    machine = "$(uname -m | sed -e s/x86_64/amd64/ -e s/aarch64/arm64/)"
    dockerfile = f"""\
FROM {static_base(around.engine)}
COPY server-amd64 server-arm64 /
COPY site /site
RUN sleep "$(cat /site/seconds)"
EXPOSE 8080
CMD ["/bin/sh", "-c", "exec /server-{machine}"]
"""
    (app.repository / "Dockerfile").write_text(dockerfile)
    return WaitingApp(**vars(app))


class WaitingApp(App):
    def wait(self, seconds: int) -> None:
        """Let the builds of the commits from now on take this long."""
        (self.repository / "site" / "seconds").write_text(f"{seconds}\n")


def _repository(app: App) -> App:
    _git(app.repository, "init", "--quiet", "--initial-branch=main")
    app.commit("nothing yet")
    _git(app.repository, "repack", "-a", "-d", "--quiet")  # as a git server keeps it
    return app


def _copy_packages(names: Sequence[str], into: Path) -> None:
    for name in names:
        found = find_spec(name)
        if found is None or found.origin is None:
            raise BenchFailed(f"The Python app needs {name}, which is not installed: ./run setup")
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(Path(found.origin).parent, into / name, ignore=ignored)


def _git(folder: Path, *arguments: str) -> str:
    environment: Mapping[str, str] = {"PATH": os.environ["PATH"], "HOME": str(folder), **_GIT}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
