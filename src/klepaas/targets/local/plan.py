"""From a release to the container that runs it: names, labels and limits. Pure."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from klepaas.domain.project import App
from klepaas.domain.release import Release
from klepaas.errors import Rejected
from klepaas.targets.protocol import Plan

LOOPBACK = "127.0.0.1"

INSTANCE = "klepaas.instance"
"""Label of the klepaas that made an object. Nothing without our own value is ever touched."""
APP = "klepaas.app"
RELEASE = "klepaas.release"
ROLE = "klepaas.role"
SPEC = "klepaas.spec"
"""What the container was made from; another value means that it must be made anew."""


def container_name(app: App, release: Release) -> str:
    """The one name a container of this release can have, so that repeating its creation finds it."""
    return f"klepaas-{app.name}-r{release.number}-{re.sub('[^a-z0-9]', '', release.id.lower())[-4:]}"


def refuse_replicas(release: Release) -> None:
    """The local target runs one copy. Errors: Rejected."""
    copies = release.settings.replicas
    if copies != 1:
        raise Rejected(
            f"The local target runs exactly one copy of an app, and this project asks for {copies}.",
            hint="Set replicas to 1, or move the project to a target that scales.",
        )


def container_body(
    app: App, release: Release, *, port: int, variables: Mapping[str, str], instance_id: str
) -> Mapping[str, Any]:
    """The body of `POST /containers/create` for a release reachable at 127.0.0.1:`port`. No host folder is mounted.

    Source: Docker Engine API reference, ContainerCreate."""
    published = f"{release.container_port}/tcp"
    return {
        **_inside(release, variables),
        "Labels": labels_of(app, release, port=port, instance_id=instance_id),
        "ExposedPorts": {published: {}},
        "HostConfig": {
            **_limits(release),
            "PortBindings": {published: [{"HostIp": LOOPBACK, "HostPort": str(port)}]},
            # Not unless-stopped: after an engine crash that does not bring an app back.
            "RestartPolicy": {"Name": "always"},
        },
    }


def command_name(app: App, release: Release) -> str:
    """Of the container that runs the release's command once."""
    return f"{container_name(app, release)}-command"


def command_body(app: App, release: Release, *, variables: Mapping[str, str], instance_id: str) -> Mapping[str, Any]:
    """The same for the release's command: it has what the app has, but no port, and the image's entrypoint no say."""
    program, *words = release.settings.release_command
    return {
        **_inside(release, variables),
        "Labels": {**labels_of(app, release, port=0, instance_id=instance_id), ROLE: "command"},
        "Entrypoint": [program],
        "Cmd": words,
        "HostConfig": {**_limits(release), "RestartPolicy": {"Name": "no"}},
    }


def _inside(release: Release, variables: Mapping[str, str]) -> Mapping[str, Any]:
    environment = {**variables, "PORT": str(release.container_port)}
    return {"Image": release.image_digest, "Env": [f"{name}={value}" for name, value in environment.items()]}


def _limits(release: Release) -> Mapping[str, Any]:
    settings = release.settings
    return {
        # Reaps children and hands on SIGTERM, which an app that is process 1 ignores by default.
        "Init": True,
        "Memory": settings.memory_bytes,
        "MemorySwap": settings.memory_bytes,
        "NanoCpus": round(settings.cpus * 1e9),
        "PidsLimit": settings.pids,
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": ["NET_RAW"],
        "LogConfig": log_config(),
    }


def log_config() -> Mapping[str, Any]:
    """Logs that `docker logs` can read and that never take more than 30 MB."""
    return {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


def labels_of(app: App, release: Release, *, port: int, instance_id: str) -> dict[str, str]:
    return {
        "klepaas.managed": "1",
        INSTANCE: instance_id,
        APP: app.name,
        "klepaas.project": release.project_id,
        "klepaas.environment": release.environment,
        RELEASE: release.id,
        "klepaas.number": str(release.number),
        "klepaas.commit": release.commit_sha,
        "klepaas.digest": release.image_digest,
        SPEC: spec_of(release, port),
    }


def spec_of(release: Release, port: int) -> str:
    """Equal for two containers that are interchangeable. Built from nothing secret."""
    parts = (release.id, release.image_digest, release.environment_digest, str(release.container_port), str(port))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def plan_of(app: App, release: Release) -> Plan:
    settings = release.settings
    container = {
        "create": container_name(app, release),
        "image": release.image_digest,
        "container_port": release.container_port,
        "published_on": f"{LOOPBACK}, a port of its own",
        "variables": sorted({*release.variable_names, "PORT"}),
        "memory_bytes": settings.memory_bytes,
        "cpus": settings.cpus,
        "pids": settings.pids,
    }
    probe = {
        "probe": settings.health_path,
        "ready_when": "below 500" if settings.health_path == "/" else "2xx or 3xx",
        "within_s": settings.health_timeout_s,
    }
    command = {"run_once": list(settings.release_command)}
    switch = {"switch": app.name, "hosts": list(settings.hosts), "drain_timeout_s": settings.drain_timeout_s}
    return Plan(
        target="local",
        summary=f"Run release {release.number} of {app.name} beside what runs now, probe it, then switch to it.",
        steps=(*([command] if settings.release_command else []), container, probe, switch),
    )
