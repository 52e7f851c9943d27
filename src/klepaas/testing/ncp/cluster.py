"""The Kubernetes cluster: the objects that were applied, and the pods a rollout leaves behind."""

import copy
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from klepaas.testing.ncp.images import digest_of

Json = dict[str, Any]

Resolve = Callable[[str], Awaitable[str | None]]
"""Image reference → digest; None when it cannot be pulled."""

Key = tuple[str, str, str]
"""Kind, namespace (empty for what has none), name."""

APPS, CORE, NETWORKING = "apps/v1", "v1", "networking.k8s.io/v1"

KINDS: Mapping[str, tuple[str, str]] = {
    "Deployment": (APPS, "deployments"),
    "ReplicaSet": (APPS, "replicasets"),
    "StatefulSet": (APPS, "statefulsets"),
    "DaemonSet": (APPS, "daemonsets"),
    "Pod": (CORE, "pods"),
    "Service": (CORE, "services"),
    "ConfigMap": (CORE, "configmaps"),
    "Secret": (CORE, "secrets"),
    "ServiceAccount": (CORE, "serviceaccounts"),
    "PersistentVolumeClaim": (CORE, "persistentvolumeclaims"),
    "Namespace": (CORE, "namespaces"),
    "Ingress": (NETWORKING, "ingresses"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
    "CronJob": ("batch/v1", "cronjobs"),
    "Job": ("batch/v1", "jobs"),
}
"""Kind → API version and the plural in paths."""


OF = "klepaas.testing/of"
"""On a pod: its Deployment."""


class Unfit(Exception):
    """What the API server says about an object it does not take."""


class Cluster:
    def __init__(self, uuid_: str, name: str, number: int, region: str = "KR") -> None:
        self.uuid, self.name, self.number, self.region = uuid_, name, number, region
        """`number` is what SourceDeploy calls it by."""
        self.objects: dict[Key, Json] = {}
        self.pull_secret = ""
        """When set, pods whose images come from the registry need a pull secret of this name."""
        self._version = 1000
        for name_ in ("default", "kube-system"):
            self.apply({"apiVersion": CORE, "kind": "Namespace", "metadata": {"name": name_}})

    # What a test asks

    def deployment(self, name: str, namespace: str = "default") -> Json:
        """The Deployment as the cluster has it. Errors: LookupError."""
        found = self.objects.get(("Deployment", namespace, name))
        if found is None:
            raise LookupError(f"there is no Deployment {name} in {namespace}")
        return found

    def image_of(self, name: str, namespace: str = "default") -> str:
        """The image reference its (first) container is told to run."""
        containers = self.deployment(name, namespace)["spec"]["template"]["spec"]["containers"]
        return str(containers[0]["image"])

    def digests_of(self, name: str, namespace: str = "default") -> set[str]:
        """The digests its ready pods run."""
        statuses = [
            status for pod in self.pods(namespace) if _is_of(pod, name) for status in pod["status"]["containerStatuses"]
        ]
        return {status["imageID"].rpartition("@")[2] for status in statuses if status["ready"]}

    def pods(self, namespace: str = "default") -> list[Json]:
        return [found for (kind, space, _), found in self.objects.items() if kind == "Pod" and space == namespace]

    # What the API server does

    def apply(self, wanted: Mapping[str, Any]) -> Json:
        """Create an object or replace what it specifies. Errors: Unfit."""
        key = key_of(wanted)
        old, now = self.objects.get(key), _when(datetime.now(UTC))
        made: Json = copy.deepcopy(dict(wanted))
        self._version += 1
        facts: Json = old["metadata"] if old else {"uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 0}
        made["metadata"] = {
            **({"namespace": key[1]} if key[1] else {}),
            **made["metadata"],
            "uid": facts["uid"],
            "creationTimestamp": facts["creationTimestamp"],
            "generation": facts["generation"] + (not old or old.get("spec") != made.get("spec")),
            "resourceVersion": str(self._version),
        }
        if old and "status" in old:
            made["status"] = old["status"]
        self.objects[key] = made
        return made

    def remove(self, key: Key) -> Json:
        """Errors: KeyError."""
        found = self.objects.pop(key)
        kind, space, name = key
        if kind == "Deployment":
            self._remove_pods(space, name)
        return found

    async def roll_out(self, key: Key, resolve: Resolve, *, crash: bool = False) -> str:
        """Have a Deployment's pods as it says now; empty when they are ready, else why they are not."""
        found = self.objects[key]
        template, replicas = found["spec"]["template"], int(found["spec"].get("replicas", 1))
        trouble, digests = "", {}
        for container in template["spec"]["containers"]:
            digests[container["image"]] = await self._pull(container["image"], template["spec"], key[1], resolve)
        if None in digests.values():
            trouble = "ImagePullBackOff"
        elif crash:
            trouble = "CrashLoopBackOff"
        if trouble and self.digests_of(key[2], key[1]):
            # The old pods go on, as a rolling update leaves them.
            self._add_pods(found, template, 1, digests, trouble, keep=True)
        else:
            self._add_pods(found, template, replicas, digests, trouble, keep=False)
        _tell_status(found, replicas, trouble)
        return trouble

    def break_pod(self, deployment: str, reason: str = "CrashLoopBackOff", namespace: str = "default") -> str:
        """Have one of its ready pods fail from now on, as on a node that is ill. Returns the pod's name."""
        pods = [pod for pod in self.pods(namespace) if _is_of(pod, deployment)]
        broken = next(pod for pod in pods if pod["status"]["phase"] == "Running")
        for status in broken["status"]["containerStatuses"]:
            status |= {"ready": False, "state": {"waiting": {"reason": reason}}}
        broken["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        counts = self.deployment(deployment, namespace)["status"]
        for name, change in (("readyReplicas", -1), ("availableReplicas", -1), ("unavailableReplicas", 1)):
            counts[name] += change
        return str(broken["metadata"]["name"])

    async def _pull(self, image: str, spec: Json, namespace: str, resolve: Resolve) -> str | None:
        if self.pull_secret and not self._has_secret(spec, namespace):
            return None
        return await resolve(image)

    def _has_secret(self, spec: Json, namespace: str) -> bool:
        named = [secret.get("name") for secret in spec.get("imagePullSecrets") or []]
        return self.pull_secret in named and ("Secret", namespace, self.pull_secret) in self.objects

    def _add_pods(
        self, owner: Json, template: Json, count: int, digests: Mapping[str, str | None], trouble: str, *, keep: bool
    ) -> None:
        name, space = owner["metadata"]["name"], owner["metadata"]["namespace"]
        if not keep:
            self._remove_pods(space, name)
        told = hashlib.sha256(repr(template).encode()).hexdigest()[:10]
        labels = {**(template.get("metadata") or {}).get("labels", {}), "pod-template-hash": told}
        noted = {OF: name}
        owned = [{"apiVersion": APPS, "kind": "ReplicaSet", "name": f"{name}-{told}", "controller": True}]
        replica_set = {"name": f"{name}-{told}", "namespace": space, "labels": labels, "annotations": noted}
        replica_set["ownerReferences"] = [{"apiVersion": APPS, "kind": "Deployment", "name": name, "controller": True}]
        spec = {"replicas": count, "selector": {"matchLabels": labels}, "template": template}
        self.apply({"apiVersion": APPS, "kind": "ReplicaSet", "metadata": replica_set, "spec": spec})
        for number in range(count):
            pod = {**replica_set, "name": f"{name}-{told}-{number:05d}", "ownerReferences": owned}
            made = self.apply({"apiVersion": CORE, "kind": "Pod", "metadata": pod, "spec": template["spec"]})
            made["status"] = _pod_status(template["spec"]["containers"], digests, trouble)

    def _remove_pods(self, namespace: str, owner: str) -> None:
        for key, found in list(self.objects.items()):
            if key[0] in ("Pod", "ReplicaSet") and key[1] == namespace and _is_of(found, owner):
                del self.objects[key]


def _is_of(found: Json, deployment: str) -> bool:
    return bool((found["metadata"].get("annotations") or {}).get(OF) == deployment)


def key_of(wanted: Mapping[str, Any]) -> Key:
    """Errors: Unfit when it is no object this cluster knows."""
    kind, about = str(wanted.get("kind")), wanted.get("metadata")
    if kind not in KINDS or not isinstance(about, Mapping) or not isinstance(about.get("name"), str):
        raise Unfit(f"no matches for kind {kind!r} with a name")
    if wanted.get("apiVersion") != KINDS[kind][0]:
        raise Unfit(f"no matches for kind {kind!r} in version {wanted.get('apiVersion')!r}")
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        _check_workload(wanted)
    namespace = "" if kind == "Namespace" else str(about.get("namespace") or "default")
    return kind, namespace, about["name"]


def _check_workload(wanted: Mapping[str, Any]) -> None:
    spec = wanted.get("spec") or {}
    try:
        labels = spec["template"]["metadata"]["labels"]
        images = [container["image"] for container in spec["template"]["spec"]["containers"]]
        selected = spec["selector"]["matchLabels"].items() <= labels.items()
    except (KeyError, TypeError, AttributeError) as error:
        raise Unfit(f"{wanted.get('kind')} is invalid: {error} is required") from None
    if not images or not all(isinstance(image, str) and image for image in images) or not selected:
        raise Unfit(f"{wanted.get('kind')} is invalid: its selector does not match, or an image is missing")


def _pod_status(containers: list[Json], digests: Mapping[str, str | None], trouble: str) -> Json:
    statuses = []
    for container in containers:
        image, digest = container["image"], digests.get(container["image"])
        base = image.partition("@")[0]
        base = base.rpartition(":")[0] if ":" in base.rpartition("/")[2] else base
        state = {"waiting": {"reason": trouble}} if trouble else {"running": {"startedAt": _when(datetime.now(UTC))}}
        statuses.append(
            {
                "name": container.get("name", ""),
                "image": image,
                "imageID": f"{base}@{digest}" if digest else "",
                "ready": not trouble,
                "restartCount": 3 if trouble == "CrashLoopBackOff" else 0,
                "state": state,
            }
        )
    ready = {"type": "Ready", "status": "False" if trouble else "True"}
    return {"phase": "Pending" if trouble else "Running", "conditions": [ready], "containerStatuses": statuses}


def _tell_status(deployment: Json, replicas: int, trouble: str) -> None:
    before = int((deployment.get("status") or {}).get("readyReplicas", 0))
    ready = before if trouble else replicas
    going = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    if trouble:
        going |= {"status": "False", "reason": "ProgressDeadlineExceeded"}
    deployment["status"] = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": ready + 1 if trouble else replicas,
        "updatedReplicas": 1 if trouble else replicas,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": 1 if trouble else 0,
        "conditions": [{"type": "Available", "status": "True" if ready or not replicas else "False"}, going],
    }


def resolver(registry_host: str, digest: Callable[[str, str], Awaitable[str | None]]) -> Resolve:
    """Images of this registry are looked up; those of others are taken to be there."""

    async def resolve(image: str) -> str | None:
        host, _, rest = image.partition("/")
        if host != registry_host:
            return digest_of(image.encode())
        name, at, reference = rest.partition("@")
        if not at:
            name, _, reference = rest.rpartition(":") if ":" in rest else (rest, "", "latest")
        else:
            name = name.partition(":")[0]
        return await digest(name, reference)

    return resolve


def _when(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
