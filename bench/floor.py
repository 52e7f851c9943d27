"""The floor: what a careful person would do by hand with git, the docker CLI, curl and mv, behind the same proxy."""

import itertools
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.answers import FirstAnswer
from bench.apps import App
from bench.report import BenchFailed
from bench.surroundings import FLOOR_PORTS, Surroundings, free_port, tied
from klepaas.builders.docker_cli import BuildProgram, Kind
from klepaas.settings import ProxySettings
from klepaas.targets.local.caddy import Caddy
from klepaas.targets.local.proxy_config import CONFIG_FILE, render, upstream_file

HERE = Path(__file__).parent
WITHIN_S = 120.0


@dataclass
class Floor:
    """An app that is deployed by hand. Its door is a Caddy of its own with the configuration klepaas renders."""

    around: Surroundings
    app: App
    program: BuildProgram
    folder: Path
    door: int
    _live: str = ""
    _count: int = 0
    images: dict[str, str] = field(default_factory=dict)
    """Version to image."""

    def deploy(self, version: str, *, every_s: float) -> "Timed":
        """Deploy the newest commit, which is this version."""
        self.images[version] = f"klepaas-bench/{self.around.run_id}-{self.app.name}:{version}"
        checkout = self.folder / f"checkout-{version}"
        try:
            return self._run("floor_deploy.sh", version, every_s, {"CHECKOUT": str(checkout)})
        finally:
            shutil.rmtree(checkout, ignore_errors=True)

    def roll_back(self, version: str, *, every_s: float) -> "Timed":
        """Run an image again that was built earlier."""
        return self._run("floor_rollback.sh", version, every_s, {})

    def _run(self, script: str, version: str, every_s: float, more: Mapping[str, str]) -> "Timed":
        self._count += 1
        name = f"klepaas-bench-{self.around.run_id}-{self.app.name}-{self._count}"
        marks = self.folder / "marks"
        environment = {**self._environment(name, version), **more}
        with FirstAnswer(self.door, "/version", version, every_s=every_s) as first, marks.open("w") as file:
            began = time.perf_counter()
            argv = ["bash", "-c", 'exec 3>&"$1"; shift; exec "$@"', "bash", str(file.fileno()), str(HERE / script)]
            process = subprocess.Popen(argv, env=environment, pass_fds=[file.fileno()], stdin=subprocess.DEVNULL)
            try:
                seen_at = first.at(within_s=WITHIN_S)
                if process.wait(WITHIN_S):
                    raise BenchFailed(f"{script} ended with {process.returncode}.")
                ended_at = time.perf_counter()
            finally:
                process.kill()
                process.wait()
        self._retire(name)
        stages = _stages(marks.read_text().splitlines())
        return Timed(answer_ms=(seen_at - began) * 1000, script_ms=(ended_at - began) * 1000, stages_ms=stages)

    def _environment(self, name: str, version: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "DOCKER_HOST": self.around.engine,
            **self.program.environment,
            "DOCKER": docker_cli(self.program),
            "BUILD": " ".join(build_command(self.program)),
            "LABEL": self.around.label,
            "NAME": name,
            "IMAGE": self.images[version],
            "REPOSITORY": str(self.app.repository),
            "PORT": str(free_port(FLOOR_PORTS)),
            "APP_PORT": str(self.app.port),
            "HEALTH": self.app.health_path,
            "UPSTREAM": str(upstream_file(self.folder, self.door)),
            "DOOR": str(self.door),
            "WANTED": version,
        }

    def _retire(self, name: str) -> None:
        """Remove the release before. Not on the way that is measured."""
        if self._live:
            environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": self.around.engine}
            argv = [docker_cli(self.program), "rm", "--force", self._live]
            subprocess.run(argv, env=environment, check=True, capture_output=True)
        self._live = name


@dataclass(frozen=True, kw_only=True)
class Timed:
    """`answer_ms`: until the first answer of the new version, seen from outside. `script_ms`: until the script,
    which looks for that answer itself, has ended."""

    answer_ms: float
    script_ms: float
    stages_ms: Mapping[str, float]


@contextmanager
def floor(around: Surroundings, app: App, program: BuildProgram, caddy: Caddy) -> Iterator[Floor]:
    """`app` behind a door of its own."""
    folder = around.folder / f"floor-{app.name}"
    door = free_port(FLOOR_PORTS)
    (folder / "up").mkdir(parents=True)
    config = render(folder=folder, doors=[door], sites=[], settings=ProxySettings(), token=secrets.token_hex(16))
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    argv = [*tied(), str(caddy.path), "run", "--config", str(folder / CONFIG_FILE)]
    with (folder / "caddy.log").open("wb") as log:
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield Floor(around=around, app=app, program=program, folder=folder, door=door)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def docker_cli(program: BuildProgram) -> str:
    """The docker program of the floor: the one that builds, when that is a docker CLI."""
    found = shutil.which("docker") if program.kind is Kind.BUILDX else program.command[0]
    if found is None:
        raise BenchFailed("The floor needs the docker CLI: apt-get install docker-cli")
    return found


def build_command(program: BuildProgram) -> Sequence[str]:
    return (*program.command, "--load") if program.kind is Kind.BUILDX else program.command


def _stages(lines: Sequence[str]) -> dict[str, float]:
    """From lines of `seconds name` to the milliseconds each took since the line before."""
    marks = [(float(at), name) for at, name in (line.split() for line in lines)]
    return {name: (at - before) * 1000 for (before, _), (at, name) in itertools.pairwise(marks)}
