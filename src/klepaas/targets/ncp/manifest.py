"""`k8s/deployment.yaml` of an app: made when there is none, else changed where image and replicas stand, only there.

Takes as long as its length: call it in a thread."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from klepaas.errors import Invalid, ManifestUnusable
from klepaas.targets.ncp.image_reference import parse_reference, read_reference
from klepaas.targets.ncp.manifest_made import Wanted, made
from klepaas.targets.ncp.workload import Container, Workload, of_the_app, scaled_by, workloads
from klepaas.targets.ncp.yaml_tree import (
    Node,
    Path,
    Plain,
    Replacement,
    differences,
    documents,
    find,
    insertion,
    keys,
    line_of,
    plain,
    replaced,
    replacement,
    scalar,
    text_of,
    with_value,
)

MANIFEST_PATH = "k8s/deployment.yaml"
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""File names that make a folder one of Kustomize."""
_HARMLESS = {"apiVersion", "kind", "metadata", "resources"}
"""Of a kustomization: the rest changes what its files say, and SourceDeploy applies files as they are."""
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_OBJECT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500}")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`content` is the file as it is to be. Replicas are None where nothing has any."""

    content: bytes
    was_made: bool
    old_image: str | None
    new_image: str
    old_replicas: int | None
    new_replicas: int | None
    changes: tuple[str, ...]
    """In words, with lines; none when the file says it already."""
    notes: tuple[str, ...]
    """What was left as it is although something else was wanted, and why."""

    @property
    def old_image_tag(self) -> str | None:
        return _tag(self.old_image)

    @property
    def new_image_tag(self) -> str | None:
        return _tag(self.new_image)


def manifest_for(found: bytes | None, wanted: Wanted, *, kustomizations: Mapping[str, bytes] | None = None) -> Manifest:
    """`found` is the file in the repository, None when there is none. `kustomizations` are the files called as in
    KUSTOMIZATIONS below `k8s/`: path → content.

    Errors: ManifestUnusable with the reason, when the file cannot be changed so that only that changes; Invalid for
    what is wanted."""
    _check(wanted)
    _check_kustomize(found, kustomizations or {})
    if found is None:
        return Manifest(
            content=made(wanted).encode(),
            was_made=True,
            old_image=None,
            new_image=wanted.image,
            old_replicas=None,
            new_replicas=1 if wanted.replicas is None else wanted.replicas,
            changes=(f"made {MANIFEST_PATH}",),
            notes=(),
        )
    return _Edit(text_of(found, MANIFEST_PATH), wanted).manifest()


class _Edit:
    """Of one file, once."""

    def __init__(self, text: str, wanted: Wanted) -> None:
        self._text, self._wanted = text, wanted
        self._roots = documents(text, MANIFEST_PATH)
        self._meant: Plain = [plain(root) for root in self._roots]
        self._replacements: list[Replacement] = []
        self._changes: list[tuple[int, str]] = []
        self._notes: list[str] = []

    def manifest(self) -> Manifest:
        found = self._workloads()
        ours = of_the_app(found, parse_reference(self._wanted.image), self._wanted.app, MANIFEST_PATH)
        images = {id(one.image.value) for one in ours if one.image is not None}
        for container in ours:
            self._set_image(container, images)
        first = next((one for one in ours if not one.is_init), ours[0])
        old = first.image.value.resolved.value.strip() if first.image is not None else None
        scaled = self._scaled(found, ours)
        old_replicas, new_replicas = self._set_replicas(scaled) if scaled is not None else (None, None)
        return Manifest(
            content=self._checked().encode(),
            was_made=False,
            old_image=old,
            new_image=self._wanted.image,
            old_replicas=old_replicas,
            new_replicas=new_replicas,
            changes=tuple(words for _, words in sorted(self._changes)),
            notes=tuple(self._notes),
        )

    def _workloads(self) -> list[Workload]:
        if any(scalar(root, "kind", MANIFEST_PATH) == "Kustomization" for root in self._roots if root.entries):
            raise _kustomize(f"{MANIFEST_PATH} is itself a kustomization")
        return workloads(self._roots, MANIFEST_PATH)

    def _set_image(self, container: Container, images: set[int]) -> None:
        image = container.image
        if image is None or image.value.resolved.kind != "scalar" or not image.value.resolved.value.strip():
            raise ManifestUnusable(
                f"The container {container.name} in {MANIFEST_PATH} names no image of its own.",
                hint="A patch, or a part of one, cannot be deployed: write the whole Deployment.",
            )
        if image.is_borrowed:
            raise _borrowed("image", f"container {container.name}")
        self._set(container.path, image.value, self._wanted.image, "image", follows=id(image.value.target) in images)

    def _scaled(self, found: Sequence[Workload], ours: Sequence[Container]) -> Workload | None:
        """The one whose replicas are the project's."""
        running = [each for each in found if any(one in ours and not one.is_init for one in each.containers)]
        scaled = [each for each in running if each.is_scaled]
        if len(scaled) > 1:
            scaled = [each for each in scaled if each.name == self._wanted.app] or scaled
        if len(scaled) > 1 and self._wanted.replicas is not None:
            names = ", ".join(each.title for each in scaled)
            raise ManifestUnusable(
                f"Several workloads in {MANIFEST_PATH} run the app's image: {names[:300]}. Whose replicas the "
                "project's are is not clear.",
                hint=f"Call the one that takes requests {self._wanted.app!r}.",
            )
        if not scaled and self._wanted.replicas is not None:
            self._notes.append("Replicas were left alone: nothing that runs the app has any.")
        return scaled[0] if len(scaled) == 1 else None

    def _set_replicas(self, workload: Workload) -> tuple[int | None, int | None]:
        """Those of before, and those of now."""
        path, wanted = (*workload.path, "replicas"), self._wanted.replicas
        found = find(workload.spec, "replicas", MANIFEST_PATH)
        value = found.value.resolved if found is not None else None
        old = 1 if value is None else _number(self._text, value)  # One is what Kubernetes takes for none.
        scaler = scaled_by(self._roots, workload, MANIFEST_PATH)
        if scaler is not None and wanted is not None and wanted != old:
            self._notes.append(f"Replicas were left alone: {scaler} decides about them.")
        if wanted is None or wanted == old or scaler is not None:
            return old, old
        if found is None:
            self._meant = with_value(self._meant, path, ("", True, str(wanted)))
            self._replacements.append(insertion(self._text, workload.spec, "replicas", str(wanted), MANIFEST_PATH))
            line = line_of(self._text, workload.spec.entries[0][0])
            self._changes.append((line, f"line {line}: replicas {wanted} added"))
        elif found.is_borrowed:
            raise _borrowed("replicas", workload.title)
        else:
            self._set(path, found.value, str(wanted), "replicas")
        return old, wanted

    def _set(self, path: Path, node: Node, new: str, what: str, *, follows: bool = False) -> None:
        """`follows`: it is an alias of a value that is changed as well."""
        value = node.resolved
        old, stripped = value.value, value.value.strip()
        if stripped == new:
            return
        is_plain = value.style is None or (node.kind == "alias" and not follows)
        # A value written in place of an alias is a plain one; any other keeps its quotes, its tag and its line breaks.
        meant = (
            ("", True, new)
            if node.kind == "alias" and not follows
            else (value.tag or "", is_plain, old.replace(stripped, new))
        )
        self._meant = with_value(self._meant, path, meant)
        line = line_of(self._text, node)
        self._changes.append((line, f"line {line}: {what} {stripped[:300]} → {new}"))
        if not follows:
            self._replacements.append(replacement(self._text, node, new, MANIFEST_PATH))

    def _checked(self) -> str:
        """The new text, once it is proven to say what was meant and nothing else."""
        text = replaced(self._text, self._replacements)
        said = [plain(root) for root in documents(text, MANIFEST_PATH)]
        wrong = list(islice(differences(self._meant, said), 5))
        if wrong or len(said) != len(self._roots):
            places = ", ".join(".".join(str(part) for part in path[1:]) for path in wrong)
            raise ManifestUnusable(
                f"Changing image and replicas in {MANIFEST_PATH} would change more than that: {places[:300]}.",
                hint="A value with an anchor (&) is used in several places; write it out where it is different.",
            )
        return text


def _number(text: str, value: Node) -> int:
    if value.kind != "scalar" or value.style is not None or not re.fullmatch(r"[0-9]{1,6}", value.value):
        raise ManifestUnusable(
            f"The replicas in line {line_of(text, value)} of {MANIFEST_PATH} are no number.",
            hint="Give a number, or remove the line.",
        )
    return int(value.value)


def _check(wanted: Wanted) -> None:
    """Everything that is written into a file, so that nothing can add a line to it. Errors: Invalid."""
    parse_reference(wanted.image)
    names = [(wanted.app, _NAME), (wanted.pull_secret, _OBJECT), *((host, _OBJECT) for host in wanted.hosts)]
    if wanted.ingress_class is not None:
        names.append((wanted.ingress_class, _OBJECT))
    if wanted.health_path is not None:
        names.append((wanted.health_path, _PATH))
    for text, rule in names:
        if not rule.fullmatch(text):
            raise Invalid(f"{text[:80]!r} cannot stand in a manifest.")
    if not 1 <= wanted.port <= 65535 or not 0 <= (wanted.replicas or 0) <= 100_000:
        raise Invalid("Port or replicas are out of their range.")


def _check_kustomize(found: bytes | None, kustomizations: Mapping[str, bytes]) -> None:
    if found is None and kustomizations:
        raise _kustomize(f"{min(kustomizations)} makes k8s a folder of Kustomize, and it has no deployment.yaml")
    for path, content in kustomizations.items():
        if path.rpartition("/")[0] != "k8s":
            continue
        for root in documents(text_of(content, path), path):
            if changing := sorted(set(keys(root)) - _HARMLESS):
                raise _kustomize(f"{path} changes what deployment.yaml says ({', '.join(changing)[:200]})")


def _kustomize(why: str) -> ManifestUnusable:
    return ManifestUnusable(
        f"{why}, but SourceDeploy applies files as they are.",
        hint=f"Keep what `kustomize build` prints as {MANIFEST_PATH}, and the folder under another name.",
    )


def _borrowed(what: str, where: str) -> ManifestUnusable:
    return ManifestUnusable(
        f"The {what} of {where} in {MANIFEST_PATH} comes from elsewhere in the file (`<<`).",
        hint=f"Write `{what}:` there itself, behind the `<<`.",
    )


def _tag(image: str | None) -> str | None:
    """None when there was no image; `unknown` for one without a tag, as older clients know it."""
    if image is None:
        return None
    reference = read_reference(image)
    if reference is None:
        return "unknown"
    return reference.tag or reference.digest or "unknown"
