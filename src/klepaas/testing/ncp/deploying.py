"""How a deployment goes: manifests from the branch as it is at the start, then the cluster, and the status shown."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from klepaas.testing.ncp.cluster import Unfit, key_of, resolver
from klepaas.testing.ncp.deploy import Canary, Deploy
from klepaas.testing.ncp.faults import Ending

if TYPE_CHECKING:
    from klepaas.testing.ncp.world import World

Object = Mapping[str, Any]

FOR_STRATEGY = {
    "blueGreen": {"Pod", "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Service"},
    "canary": {"Pod", "Deployment", "ReplicaSet", "Service"},
}
"""The kinds a strategy can handle; `rolling` handles all."""


class _Failed(Exception):
    pass


class _Ended(Exception):
    """With a status of its own."""


async def carry_out(world: "World", deploy: Deploy, *, needs_approval: bool = False) -> None:
    """From its start to its end."""
    ending = deploy.fault.ending if deploy.fault else None
    try:
        await _carry_out(world, deploy, ending, needs_approval=needs_approval)
    except _Failed as failed:
        deploy.trouble = str(failed)
        _end(world, deploy, _word(deploy, "fail"))
    except _Ended as ended:
        _end(world, deploy, str(ended))
    except asyncio.CancelledError:
        _end(world, deploy, "canceled")
    else:
        if ending is Ending.SILENT:
            deploy.ended.set()
        else:
            _end(world, deploy, _word(deploy, "fail" if ending is Ending.SAYS_FAIL else "success"))


async def decide(deploy: Deploy, accepted: bool) -> None:
    if deploy.decision is not None and not deploy.decision.done():
        deploy.decision.set_result(accepted)
        await asyncio.sleep(0)


async def _carry_out(world: "World", deploy: Deploy, ending: Ending | None, *, needs_approval: bool) -> None:
    if needs_approval:
        deploy.status = "pending"
        if not await _decision(world, deploy, None):
            raise _Ended("reject")
    begun, time = (world.clock.now() if needs_approval else deploy.made_at), world.deploy_time
    objects = await _read(world, deploy)
    await world.clock.reach(begun + time / 10)
    deploy.status = "inprogress"
    if ending is Ending.STUCK:
        await asyncio.Event().wait()
    await world.clock.reach(begun + time)
    if deploy.config.canaryConfig is not None and deploy.config.strategy == "canary":
        await _canary(world, deploy, deploy.config.canaryConfig)
    if ending is not Ending.SAYS_SUCCESS:
        await _apply(world, objects, crash=ending is Ending.FAIL)


async def _read(world: "World", deploy: Deploy) -> list[Object]:
    """All objects of all manifests. Errors: _Failed."""
    wanted = deploy.config.manifest
    repository = world.repositories.get(wanted.repository)
    sha = repository.git.refs.get(f"refs/heads/{wanted.branch}") if repository else None
    if repository is None or sha is None:
        raise _Failed(f"there is no branch {wanted.branch} in {wanted.repository}")
    deploy.commit_sha = sha
    files, objects = await repository.git.files(sha), []
    for path in wanted.path:
        if path not in files:
            raise _Failed(f"there is no {path} at {sha}")
        objects += _parsed(path, await repository.git.git("cat-file", "blob", files[path][1]))
    for found in objects:
        _check(deploy, found)
        deploy.images += _images(found)
    return objects


def _parsed(path: str, text: str) -> list[Object]:
    # Here, because it takes a tenth of a second and most stand-ins deploy nothing.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = [one for one in YAML(typ="safe", pure=True).load_all(text) if one is not None]
    except YAMLError as error:
        raise _Failed(f"{path} is no YAML: {error}") from None
    if not found or not all(isinstance(one, Mapping) for one in found):
        raise _Failed(f"{path} holds no objects")
    return found


def _check(deploy: Deploy, found: Object) -> None:
    try:
        kind = key_of(found)[0]
    except Unfit as error:
        raise _Failed(str(error)) from None
    if kind not in FOR_STRATEGY.get(deploy.config.strategy, {kind}):
        raise _Failed(f"{deploy.config.strategy} does not handle {kind}")


def _images(found: Object) -> list[str]:
    if found["kind"] not in ("Deployment", "StatefulSet", "DaemonSet"):
        return []
    return [str(container["image"]) for container in found["spec"]["template"]["spec"]["containers"]]


async def _apply(world: "World", objects: list[Object], *, crash: bool) -> None:
    resolve, trouble = resolver(world.registry_host, world.images.digest), ""
    for found in objects:
        made = world.cluster.apply(found)
        if made["kind"] == "Deployment":
            trouble = await world.cluster.roll_out(key_of(made), resolve, crash=crash) or trouble
    if trouble or crash:
        raise _Failed(trouble or "it was told to fail")


async def _canary(world: "World", deploy: Deploy, canary: Canary) -> None:
    if canary.analysisType == "auto":
        deploy.status = "canary_analyzing"
        await world.clock.pass_by(world.deploy_time)
    else:
        deploy.status = "canary_pending"
        try:
            accepted = await _decision(world, deploy, timedelta(minutes=canary.timeout or 360))
        except TimeoutError:
            raise _Ended("canary_waiting_timeout") from None
        if not accepted:
            deploy.status = "canary_rejecting"
            await world.clock.pass_by(world.deploy_time / 10)
            raise _Ended("canary_reject")
    deploy.status = "inprogress"


async def _decision(world: "World", deploy: Deploy, within: timedelta | None) -> bool:
    """Errors: TimeoutError."""
    deploy.decision = asyncio.get_running_loop().create_future()
    if within is None:
        return await deploy.decision
    late = asyncio.create_task(world.clock.pass_by(within))
    try:
        waited: set[asyncio.Future[Any]] = {deploy.decision, late}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        late.cancel()
    if not deploy.decision.done():
        raise TimeoutError
    return deploy.decision.result()


def _word(deploy: Deploy, usual: str) -> str:
    return deploy.fault.word if deploy.fault and deploy.fault.word else usual


def _end(world: "World", deploy: Deploy, status: str) -> None:
    deploy.status, deploy.ended_at, deploy.decision = status, world.clock.now(), None
    deploy.ended.set()
