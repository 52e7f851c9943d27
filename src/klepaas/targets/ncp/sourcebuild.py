"""SourceBuild: projects that build an image from a branch, and their runs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from klepaas.errors import Rejected
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import Service
from klepaas.targets.ncp.making import Ensured, ensured
from klepaas.targets.ncp.names import MAX_BUILD, check_image, check_name, check_tag
from klepaas.targets.ncp.reading import Listed, each_of, id_of, listed, named, understood
from klepaas.targets.ncp.refusal import is_missing, not_understood
from klepaas.targets.ncp.run import Run, Started, build_run, start_once

SERVICE = Service.SOURCE_BUILD


@dataclass(frozen=True, kw_only=True)
class BuildMachine:
    """Ids of what a build runs on, from `machine`: they differ by account and time."""

    compute_id: int
    os_id: int
    runtime_id: int
    runtime_version_id: int
    docker_id: int


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What a project is to build. `registry` is the registry's name, not its host; `timeout_min` from 5 to 540."""

    repository: str
    branch: str
    machine: BuildMachine
    registry: str
    image: str
    tag: str
    dockerfile: str = "Dockerfile"
    timeout_min: int = 60
    variables: tuple[tuple[str, str], ...] = ()
    commands_before: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    commands_after: tuple[str, ...] = ()
    description: str = ""

    def tagged(self, tag: str) -> "BuildSettings":
        """For the next image, with the variables that the user's build may read beside those it has."""
        ours = {
            "DOCKER_IMAGE_NAME": self.image,
            "REGISTRY_PROJECT_NAME": self.registry,
            "IMAGE_TAG": check_tag(tag),
            "GIT_COMMIT_SHORT_SHA": tag[:7],
        }
        return replace(self, tag=tag, variables=tuple({**dict(self.variables), **ours}.items()))

    def body(self) -> dict[str, Any]:
        """Everything the service takes, apart from the name. Whether it merges or replaces is in no guide."""
        return {
            "description": self.description[:500],
            "source": {"type": "SourceCommit", "config": {"repository": self.repository, "branch": self.branch}},
            "env": {
                "compute": {"id": self.machine.compute_id},
                "platform": {
                    "type": "SourceBuild",
                    "config": {
                        "os": {"id": self.machine.os_id},
                        "runtime": {
                            "id": self.machine.runtime_id,
                            "version": {"id": self.machine.runtime_version_id},
                        },
                    },
                },
                "docker": {"use": True, "id": self.machine.docker_id},
                "timeout": self.timeout_min,
                "envVars": [{"key": key, "value": value} for key, value in self.variables],
            },
            "cmd": {
                "pre": list(self.commands_before),
                "build": list(self.commands),
                "post": list(self.commands_after),
                "dockerbuild": {
                    "use": True,
                    "dockerfile": self.dockerfile,
                    "registry": self.registry,
                    "image": check_image(self.image),
                    "tag": check_tag(self.tag),
                    "latest": False,
                },
            },
            "artifact": {"use": False},
            "cache": {"use": False},
            "linked": {"CloudLogAnalytics": False, "FileSafer": False},
        }


@dataclass(frozen=True, kw_only=True)
class BuildProject:
    """`settings` is None when it builds in a way that klepaas does not set up."""

    id: int
    name: str
    settings: BuildSettings | None


class SourceBuild:
    def __init__(self, client: NcpClient) -> None:
        self._client = client

    async def projects(self) -> Sequence[Listed]:
        data = await self._client.get(SERVICE, "/project")
        with understood(SERVICE):
            return each_of(data, "project", listed)

    async def find(self, name: str) -> Listed | None:
        return named(await self.projects(), name)

    async def project(self, project_id: int) -> BuildProject | None:
        try:
            data = await self._client.get(SERVICE, f"/project/{int(project_id)}")
        except Rejected as refused:
            if is_missing(refused):
                return None
            raise
        with understood(SERVICE):
            return BuildProject(id=int(data["id"]), name=str(data["name"]), settings=_settings(data))

    async def ensure(self, name: str, settings: BuildSettings) -> Ensured[Listed]:
        """One that is there already is left as it is: compare `project(…).settings` and `change` it."""
        body = {"name": check_name(name, "SourceBuild project", MAX_BUILD), **settings.body()}

        async def make() -> Listed:
            data = await self._client.change(SERVICE, "POST", "/project", body)
            with understood(SERVICE):
                return Listed(id=id_of(data), name=name)

        return await ensured(
            lambda: self.find(name), make, looks_s=self._client.looks_s, what=f"the SourceBuild project {name}"
        )

    async def change(self, project_id: int, settings: BuildSettings) -> None:
        await self._client.change(SERVICE, "PATCH", f"/project/{int(project_id)}", settings.body())

    async def set_tag(self, project: BuildProject, tag: str) -> BuildProject:
        """The tag of the next image; a run cannot be given one. Nothing is sent when it is set already."""
        if project.settings is None:
            raise Rejected(
                f"The SourceBuild project {project.name} does not build an image the way klepaas sets it up.",
                hint="Run the creation of the chain again: it repairs the project.",
            )
        wanted = project.settings.tagged(tag)
        if wanted != project.settings:
            await self.change(project.id, wanted)
        return replace(project, settings=wanted)

    async def remove(self, project_id: int) -> None:
        """What is gone already is no error."""
        try:
            await self._client.change(SERVICE, "DELETE", f"/project/{int(project_id)}")
        except Rejected as refused:
            if not is_missing(refused):
                raise

    async def start(self, project_id: int, *, known: Collection[str]) -> Started:
        """`known`: see `start_once`. One build of a project at a time: the caller sees to that."""

        async def start() -> str:
            data = await self._client.change(SERVICE, "POST", f"/project/{int(project_id)}/build")
            with understood(SERVICE):
                return str(data["buildId"])

        return await start_once(
            start,
            lambda: self.runs(project_id),
            known=known,
            looks_s=self._client.looks_s,
            what=f"SourceBuild project {project_id}",
        )

    async def runs(self, project_id: int, *, is_polling: bool = False) -> Sequence[Run]:
        """In the order of the service, which it does not promise. There is no way to ask for a single one."""
        data = await self._client.get(SERVICE, f"/project/{int(project_id)}/history", is_polling=is_polling)
        with understood(SERVICE):
            return each_of(data, "history", build_run)

    async def cancel(self, project_id: int, build_id: str) -> None:
        """Errors: Rejected while it stores its results."""
        await self._client.change(SERVICE, "DELETE", f"/project/{int(project_id)}/build", {"buildId": build_id})

    async def registries(self) -> Sequence[str]:
        """Names of those it may push to, as `BuildSettings.registry` wants them."""
        data = await self._client.get(SERVICE, "/containerregistry/registry")
        with understood(SERVICE):
            return each_of(data, "registry", lambda one: str(one["name"]))

    async def machine(self) -> BuildMachine:
        """The smallest machine with the basic Ubuntu and the newest Docker engine that is offered."""
        computes = await self._choices("/env/compute", "compute")
        os_id = _chosen(await self._choices("/env/os", "os"), "ubuntu")
        runtime_id = _chosen(await self._choices(f"/env/os/{os_id}/runtime", "runtime"), "base")
        versions = await self._choices(f"/env/os/{os_id}/runtime/{runtime_id}/version", "version")
        engines = await self._choices("/env/docker", "docker")
        return BuildMachine(
            compute_id=min(computes, key=lambda one: (one.get("cpu") or 0, one.get("mem") or 0, one["id"]))["id"],
            os_id=os_id,
            runtime_id=runtime_id,
            runtime_version_id=_chosen(versions, ""),
            docker_id=_chosen(engines, "docker"),
        )

    async def _choices(self, path: str, key: str) -> list[dict[str, Any]]:
        data = await self._client.get(SERVICE, path)
        with understood(SERVICE):
            found = each_of(data, key, lambda one: {**one, "id": int(one["id"])})
        if not found:
            raise not_understood(SERVICE)
        return found


def _chosen(choices: Sequence[dict[str, Any]], word: str) -> int:
    """The newest that is called so, else the newest of all."""
    matching = [one for one in choices if word in str(one.get("name", "")).lower()] or choices
    newest = max(matching, key=lambda one: (_version(f"{one.get('name', '')} {one.get('version', '')}"), -one["id"]))
    return int(newest["id"])


def _version(text: str) -> list[int]:
    return [int(part) for part in "".join(c if c.isdigit() else " " for c in text if c.isascii()).split()]


def _settings(data: Any) -> BuildSettings | None:
    """What a project builds, out of everything its detail holds."""
    source, env, cmd = data["source"], data["env"], data["cmd"]
    docker, platform = cmd.get("dockerbuild") or {}, env["platform"]
    engine = env.get("docker") or {}
    is_ours = source["type"] == "SourceCommit" and platform["type"] == "SourceBuild"
    if not (is_ours and docker.get("use") and engine.get("use")):
        return None
    config = platform["config"]
    return BuildSettings(
        repository=str(source["config"]["repository"]),
        branch=str(source["config"]["branch"]),
        machine=BuildMachine(
            compute_id=int(env["compute"]["id"]),
            os_id=int(config["os"]["id"]),
            runtime_id=int(config["runtime"]["id"]),
            runtime_version_id=int(config["runtime"]["version"]["id"]),
            docker_id=int(engine["id"]),
        ),
        registry=str(docker["registry"]),
        image=str(docker["image"]),
        tag=str(docker["tag"]),
        dockerfile=str(docker["dockerfile"]),
        timeout_min=int(env.get("timeout") or 60),
        variables=tuple((str(one["key"]), str(one["value"])) for one in env.get("envVars") or ()),
        commands_before=tuple(cmd.get("pre") or ()),
        commands=tuple(cmd.get("build") or ()),
        commands_after=tuple(cmd.get("post") or ()),
        description=str(data.get("description") or ""),
    )
