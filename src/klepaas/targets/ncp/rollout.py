"""The rollout of one image in the cluster: whether every pod that should run it does, by its digest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from klepaas.targets.ncp.image_reference import read_reference
from klepaas.targets.ncp.kubernetes import WATCHED, Json, Kubernetes, path_of, pods_of

PODS_NAMED = 3


class Stand(StrEnum):
    DONE = "done"
    GOING = "going"
    ELSEWHERE = "elsewhere"
    """The cluster was not told to run this image, or was told something else since."""
    STUCK = "stuck"
    """The cluster itself says that it does not get on."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    stand: Stand
    detail: str
    ready: int = 0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A workload of a manifest that runs the image, in these containers."""

    kind: str
    name: str
    namespace: str
    containers: tuple[str, ...]


def workloads_with(manifest: bytes, image: str) -> tuple[Wanted, ...]:
    """What of a manifest runs exactly this image and can be watched. Takes as long as it: call it in a thread."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        documents = list(YAML(typ="safe", pure=True).load_all(manifest.decode(errors="replace")))
    except YAMLError:
        return ()
    objects = [each for document in documents for each in _objects(document)]
    found = (_wanted(each, image) for each in objects if each.get("kind") in WATCHED)
    return tuple(each for each in found if each is not None)


async def look(kubernetes: Kubernetes, wanted: Sequence[Wanted], digest: str) -> Rollout:
    """Once. Errors: those of the cluster."""
    seen = [await _look_at(kubernetes, each, digest) for each in wanted]
    for stand in (Stand.ELSEWHERE, Stand.STUCK, Stand.GOING):
        if worse := next((each for each in seen if each.stand is stand), None):
            return worse
    details = "; ".join(each.detail for each in seen)
    return Rollout(stand=Stand.DONE, detail=details, ready=sum(each.ready for each in seen))


async def _look_at(kubernetes: Kubernetes, wanted: Wanted, digest: str) -> Rollout:
    title = f"{wanted.kind} {wanted.name}"
    found = await kubernetes.get(path_of(wanted.kind, wanted.namespace, wanted.name))
    if found is None:
        return Rollout(stand=Stand.ELSEWHERE, detail=f"{title} is not in the cluster")
    spec, status = found.get("spec") or {}, found.get("status") or {}
    replicas, ready = int(spec.get("replicas", 1)), int(status.get("readyReplicas") or 0)
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    listed = await kubernetes.get(pods_of(wanted.namespace), labelSelector=selector)
    pods = [pod for pod in (listed or {}).get("items") or [] if not _is_leaving(pod)]
    if _is_told(found, wanted, digest) and _is_settled(found, status, replicas):
        serving = [pod for pod in pods if _runs(pod, wanted, digest)]
        if len(serving) >= replicas and len(serving) == len([pod for pod in pods if _is_ready(pod)]):
            return Rollout(stand=Stand.DONE, detail=f"{title}: {replicas} of {replicas} pods run it", ready=ready)
    if not _is_told(found, wanted, digest):
        return Rollout(stand=Stand.ELSEWHERE, detail=f"{title} is told to run another image", ready=ready)
    trouble = _trouble(pods)
    detail = f"{title}: {ready} of {replicas} pods are ready" + (f" ({trouble})" if trouble else "")
    is_stuck = _is_seen(found, status) and _gave_up(status)
    return Rollout(stand=Stand.STUCK if is_stuck else Stand.GOING, detail=detail, ready=ready)


def _is_told(found: Json, wanted: Wanted, digest: str) -> bool:
    containers = ((found["spec"].get("template") or {}).get("spec") or {}).get("containers") or []
    ours = [each for each in containers if each.get("name") in wanted.containers]
    references = [read_reference(str(each.get("image"))) for each in ours]
    return bool(ours) and all(each is not None and each.digest == digest for each in references)


def _is_settled(found: Json, status: Json, replicas: int) -> bool:
    counts = [int(status.get(name) or 0) for name in ("updatedReplicas", "readyReplicas")]
    total = int(status.get("replicas") or 0)
    return _is_seen(found, status) and counts == [replicas, replicas] and total == replicas


def _is_seen(found: Json, status: Json) -> bool:
    """Whether the status speaks of what the object says now."""
    return int(status.get("observedGeneration") or 0) >= int((found.get("metadata") or {}).get("generation") or 0)


def _is_leaving(pod: Json) -> bool:
    return bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def _runs(pod: Json, wanted: Wanted, digest: str) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    ours = [each for each in statuses if each.get("name") in wanted.containers]
    return bool(ours) and all(each.get("ready") and str(each.get("imageID", "")).endswith(digest) for each in ours)


def _is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _gave_up(status: Json) -> bool:
    conditions = status.get("conditions") or []
    return any(each.get("type") == "Progressing" and each.get("status") == "False" for each in conditions)


def _trouble(pods: Sequence[Json]) -> str:
    """Which pods wait, and for what; some of them by name."""
    waiting = [f"{(pod.get('metadata') or {}).get('name')}: {reason}" for pod in pods if (reason := _waits_for(pod))]
    more = [f"{len(waiting) - PODS_NAMED} more"] if len(waiting) > PODS_NAMED else []
    return ", ".join([*waiting[:PODS_NAMED], *more])


def _waits_for(pod: Json) -> str:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    reasons = (((each.get("state") or {}).get("waiting") or {}).get("reason") for each in statuses)
    return next((str(reason)[:80] for reason in reasons if reason), "")


def _objects(document: Any) -> list[Mapping[str, Any]]:
    if not isinstance(document, Mapping):
        return []
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        return [each for each in document["items"] if isinstance(each, Mapping)]
    return [document]


def _wanted(found: Mapping[str, Any], image: str) -> Wanted | None:
    try:
        containers = found["spec"]["template"]["spec"]["containers"]
        names = tuple(str(each["name"]) for each in containers if str(each.get("image", "")).strip() == image)
        about = found["metadata"]
        if not names:
            return None
        namespace = str(about.get("namespace") or "default")
        return Wanted(kind=str(found["kind"]), name=str(about["name"]), namespace=namespace, containers=names)
    except (KeyError, TypeError, AttributeError):
        return None
