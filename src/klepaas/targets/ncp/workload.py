"""What of a manifest runs containers, and which of them are the app's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from klepaas.errors import ManifestUnusable
from klepaas.targets.ncp.image_reference import ImageReference, read_reference
from klepaas.targets.ncp.yaml_tree import Found, Node, Path, find, scalar, walk

# Source: Kubernetes API reference, "Workload resources"; Rollout is Argo's.
_POD = {
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Rollout"),
        ("spec", "template", "spec"),
    ),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "Pod": ("spec",),
}
_SCALED = {"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Rollout"}
_ONCE = {"Job", "CronJob"}
_SCALERS = {"HorizontalPodAutoscaler", "ScaledObject"}


@dataclass(frozen=True, eq=False)
class Container:
    """`image` is None for one that names none."""

    name: str
    image: Found | None
    path: Path
    """Of the image, from the list of documents."""
    is_init: bool

    @property
    def reference(self) -> ImageReference | None:
        value = self.image.value.resolved if self.image is not None else None
        return read_reference(value.value.strip()) if value is not None and value.kind == "scalar" else None


@dataclass(frozen=True, eq=False)
class Workload:
    kind: str
    name: str
    path: Path
    spec: Node
    containers: tuple[Container, ...]

    @property
    def is_scaled(self) -> bool:
        return self.kind in _SCALED

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}"


def objects(roots: Sequence[Node], name: str) -> Iterator[tuple[Path, Node]]:
    """The Kubernetes objects of all documents; a List is its items."""
    for at, root in enumerate(roots):
        if root.kind != "mapping":
            continue
        items = walk(root, ("items",), name)
        if str(scalar(root, "kind", name) or "").endswith("List") and items is not None and items.kind == "sequence":
            yield from (((at, "items", position), item) for position, item in enumerate(items.items))
        else:
            yield (at,), root


def workloads(roots: Sequence[Node], name: str) -> list[Workload]:
    found = []
    for path, node in objects(roots, name):
        kind = scalar(node, "kind", name) or ""
        spec = walk(node, ("spec",), name)
        if kind in _POD and spec is not None and spec.kind == "mapping":
            title = scalar(walk(node, ("metadata",), name), "name", name) or ""
            containers = tuple(_containers(node, path, _POD[kind], name))
            found.append(Workload(kind, title, (*path, "spec"), spec, containers))
    return found


def scaled_by(roots: Sequence[Node], workload: Workload, name: str) -> str | None:
    """What decides about the replicas of a workload in the same file, if something does."""
    for _, node in objects(roots, name):
        kind = scalar(node, "kind", name)
        ref = walk(node, ("spec", "scaleTargetRef"), name)
        if kind in _SCALERS and ref is not None and scalar(ref, "name", name) == workload.name:
            target = scalar(ref, "kind", name) or "Deployment"
            if target == workload.kind:
                return f"{kind} {scalar(walk(node, ('metadata',), name), 'name', name) or ''}".strip()
    return None


def of_the_app(found: Sequence[Workload], wanted: ImageReference, app: str, name: str) -> list[Container]:
    """The containers that run the app's image, init containers and jobs among them.

    Those that have it already; else those with its name from another registry; else the app's only container, with
    all that share its image. Errors: ManifestUnusable when several could be meant, or none."""
    everything = [container for workload in found for container in workload.containers]
    lasting = [container for workload in found if workload.kind not in _ONCE for container in workload.containers]
    same = [one for one in everything if one.reference and one.reference.repository == wanted.repository]
    alike = [one for one in everything if one.reference and one.reference.last == wanted.last]
    for ours in (same, alike):
        if any(one in lasting for one in ours):
            return ours
    main = _main(found, wanted, app, name)
    held = main.reference
    return [
        one
        for one in everything
        if one is main or (held is not None and one.reference and one.reference.repository == held.repository)
    ]


def _main(found: Sequence[Workload], wanted: ImageReference, app: str, name: str) -> Container:
    lasting = [each for each in found if each.kind not in _ONCE]
    if not lasting:
        raise ManifestUnusable(
            f"{name} holds nothing that could run the app.",
            hint="Give it a Deployment, or remove the file: a missing one is made.",
        )
    called = [each for each in lasting if each.name == app]
    chosen = lasting if len(lasting) == 1 else called
    candidates = [one for each in chosen for one in each.containers if not one.is_init]
    if len(candidates) > 1:
        candidates = [one for one in candidates if one.name in {app, wanted.last}]
    if len(candidates) == 1:
        return candidates[0]
    names = ", ".join(f"{each.title}/{one.name}" for each in lasting for one in each.containers if not one.is_init)
    raise ManifestUnusable(
        f"Which container of {name} runs the app is not clear: {names[:300] or 'there is none'}.",
        hint=f"Call the container {app!r}, or let its image be {wanted.repository!r} with any tag.",
    )


def _containers(node: Node, path: Path, pod: Path, name: str) -> Iterator[Container]:
    spec = walk(node, [str(part) for part in pod], name)
    for key in ("initContainers", "containers"):
        held = walk(spec, (key,), name) if spec is not None and spec.kind == "mapping" else None
        for at, item in enumerate(held.items if held is not None else ()):
            if item.resolved.kind == "mapping":
                yield Container(
                    name=scalar(item, "name", name) or f"number {at + 1}",
                    image=find(item, "image", name),
                    path=(*path, *pod, key, at, "image"),
                    is_init=key == "initContainers",
                )
