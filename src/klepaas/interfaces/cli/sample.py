"""The sample app as a git repository of its own, so that the demo deploys it as it would any other."""

import asyncio
import base64
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import klepaas
from klepaas import processes
from klepaas.errors import NotFound, Rejected, Unavailable

_LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__")
_QUIET_GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "klepaas demo",
    "GIT_AUTHOR_EMAIL": "demo@localhost",
    "GIT_COMMITTER_NAME": "klepaas demo",
    "GIT_COMMITTER_EMAIL": "demo@localhost",
    "LC_ALL": "C.UTF-8",
}
"""The user's own git settings (signing, hooks, templates) have no say here."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """`version` is what the app answers at /version."""

    repository: Path
    commit_sha: str
    version: str


def source() -> Path:
    """Where the sample app is kept. Errors: NotFound in an installation without it."""
    folder = Path(klepaas.__file__).resolve().parents[2] / "examples" / "sample"
    if not (folder / "Dockerfile").is_file():
        raise NotFound(
            "The sample app is not part of this installation.",
            hint="Run ./run demo in a clone of the klepaas repository, or deploy an app of yours: klepaas deploy",
        )
    return folder


async def prepare(folder: Path, environment: Mapping[str, str], app: Path | None = None) -> Sample:
    """Have the app of now as the last commit of the repository in `folder`. A commit only when it changed.

    Errors: NotFound without a sample app, Unavailable without git, Rejected when git refuses."""
    app = app if app is not None else source()
    folder = await asyncio.to_thread(_copy, app, folder)
    git = _Git(folder, environment)
    if not (folder / ".git").is_dir():
        await git.tell("init", "--quiet", "--initial-branch=main")
    await git.tell("add", "--all")
    version = (folder / "site" / "version.txt").read_text().strip()
    if await git.tell("status", "--porcelain"):
        await git.tell("commit", "--quiet", "--no-verify", "--message", f"Version {version} of the sample app")
    return Sample(repository=folder, commit_sha=await git.tell("rev-parse", "HEAD"), version=version)


async def change(app: Sample, version: str, environment: Mapping[str, str]) -> Sample:
    """Commit another version of the app in its repository. Errors: as `prepare`."""
    git = _Git(app.repository, environment)
    await asyncio.to_thread((app.repository / "site" / "version.txt").write_text, f"{version}\n")
    await git.tell("commit", "--quiet", "--no-verify", "--all", "--message", f"Version {version} of the sample app")
    return Sample(repository=app.repository, commit_sha=await git.tell("rev-parse", "HEAD"), version=version)


async def push(app: Sample, url: str, branch: str, *, token: str, environment: Mapping[str, str]) -> None:
    """Push the app's commit to a branch of a repository at GitHub. Errors: as `prepare`."""
    shown = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    credential = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{url}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {shown}",
        "GIT_TERMINAL_PROMPT": "0",
    }
    git = _Git(app.repository, environment, credential)
    await git.tell("push", "--quiet", url, f"{app.commit_sha}:refs/heads/{branch}")


@dataclass(frozen=True)
class _Git:
    folder: Path
    environment: Mapping[str, str]
    credential: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that only this command sees."""

    async def tell(self, *arguments: str) -> str:
        path = {"PATH": self.environment.get("PATH", ""), "HOME": str(self.folder.parent)}
        env = {**path, **_QUIET_GIT, **self.credential}
        try:
            done = await processes.run(["git", *arguments], env=env, cwd=self.folder)
        except FileNotFoundError:
            raise Unavailable("There is no git on this machine.", hint="Install it: apt-get install git") from None
        if done.exit_code:
            raise Rejected(f"git {arguments[0]} failed.", evidence={"said": done.stderr.strip()[-500:]})
        return done.stdout.strip()


def _copy(app: Path, folder: Path) -> Path:
    """Make the folder equal to the app; only its history stays. Returns its absolute path."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in folder.iterdir():
        if old.name == ".git":
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()
    shutil.copytree(app, folder, ignore=_LEFT_OUT, dirs_exist_ok=True)
    return folder
