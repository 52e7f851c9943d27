"""A user's own `k8s/deployment.yaml` comes back byte for byte except for the changed values, or is refused with the
reason (must-show 5 of the Naver Cloud target); S-03."""

import io
from typing import Any

import pytest
from ruamel.yaml import YAML

from klepaas.errors import Invalid, ManifestUnusable
from klepaas.targets.ncp.manifest import Manifest, Wanted, manifest_for

HOST = "acme.kr.ncr.ntruss.com"
OLD = f"{HOST}/acme-shop:{'1' * 40}"
NEW = f"{HOST}/acme-shop:{'2' * 40}"
DIGEST = f"{HOST}/acme-shop@sha256:{'3' * 64}"


def wanted(image: str = NEW, replicas: int | None = 5, **more: Any) -> Wanted:
    return Wanted(app="acme-shop", image=image, replicas=replicas, **more)


def filled(template: str, image: str, replicas: int) -> bytes:
    return template.replace("@IMAGE@", image).replace("@N@", str(replicas)).encode()


def loaded(content: bytes) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(io.StringIO(content.decode().removeprefix("\ufeff"))))


PLAIN = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: acme-shop
spec:
  replicas: @N@
  selector: {matchLabels: {app: acme-shop}}
  template:
    metadata: {labels: {app: acme-shop}}
    spec:
      containers:
      - name: acme-shop
        image: @IMAGE@
"""

FILES = {
    "plain": PLAIN,
    "crlf": PLAIN.replace("\n", "\r\n"),
    "cr only": PLAIN.replace("\n", "\r"),
    "byte order mark": f"\ufeff{PLAIN}",
    "no line end at the end": PLAIN.rstrip("\n"),
    "blank lines and blanks at line ends": PLAIN.replace("spec:\n", "spec:   \n\n\n   \n") + "\n\n   \n",
    "comments everywhere": f"""\
# Copyright (c) 상점
# image: {OLD}
apiVersion: apps/v1   # the version
kind: Deployment
metadata:
  name: acme-shop # 우리 가게 🛒
  annotations:
    note: "image: {OLD}"   # not this one
spec:
  # how many: 3
  replicas: @N@    # three is enough
  template:
    spec:
      containers:
      # the shop itself
      - name: acme-shop

        image: @IMAGE@ # {OLD}
        # after it
# the end
""",
    "quotes": PLAIN.replace("@IMAGE@", "'@IMAGE@'").replace("name: acme-shop", 'name: "acme-shop"'),
    "double quotes and other order": """\
kind: "Deployment"
spec:
    template:
        spec:
            containers:
                -   image: "@IMAGE@"
                    name: acme-shop
                    args: ["--flag", 'it''s', "\\u00e9\\t"]
    replicas: @N@
metadata: {"name": "acme-shop"}
apiVersion: apps/v1
""",
    "flow style": "{kind: Deployment, metadata: {name: acme-shop}, spec: {replicas: @N@, template: {spec: "
    "{containers: [{name: acme-shop, image: @IMAGE@}, {name: log, image: 'fluent-bit:3'}]}}}}\n",
    "JSON": '{"kind": "Deployment",\n "metadata": {"name": "acme-shop"},\n "spec": {"replicas": @N@, "template":\n'
    '  {"spec": {"containers": [{"name": "acme-shop", "image": "@IMAGE@"}]}}}}',
    "keys in quotes": PLAIN.replace("image:", '"image" :').replace("replicas:", "'replicas':"),
    "long lines": PLAIN.replace(
        "name: acme-shop\nspec",
        f"name: acme-shop\n  annotations:\n    long: {'word ' * 400}\n    b: >-\n      {'w ' * 300}\nspec",
    ),
    "several documents": f"""\
# first of all
%YAML 1.1
---
# the settings
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data:
  app.yaml: |
    kind: Deployment
    spec:
      replicas: 1
      image: {OLD}
...
# between
---   # and now the app
{PLAIN}---

---
apiVersion: v1
kind: Service
metadata:
    name: acme-shop
spec:
    ports: [ {{port: 80,targetPort: 8080}} , ]
---
""",
    "a list": """\
apiVersion: v1
kind: List
items:
- kind: Service
  metadata: {name: acme-shop}
- kind: Deployment
  metadata: {name: acme-shop}
  spec: {replicas: @N@, template: {spec: {containers: [{image: @IMAGE@, name: acme-shop}]}}}
""",
    "labels with an anchor": PLAIN.replace(
        "{matchLabels: {app: acme-shop}}", "{matchLabels: &l {app: acme-shop}}"
    ).replace("{labels: {app: acme-shop}}", "{labels: *l}"),
    "an image with an anchor of its own": PLAIN.replace("@IMAGE@", "&image @IMAGE@"),
    "an anchor that the other container of the app uses": PLAIN.replace("@IMAGE@", "&image '@IMAGE@'")
    + "      - name: worker\n        image: *image\n",
    "a tag": PLAIN.replace("@IMAGE@", "!!str @IMAGE@"),
    "a block": PLAIN.replace("@IMAGE@", ">-\n          @IMAGE@"),
    "a literal block": PLAIN.replace("@IMAGE@", "|\n          @IMAGE@\n\n"),
    "a merge before the key": """\
x-base: &base {image: busybox, imagePullPolicy: Always}
kind: Deployment
metadata: {name: acme-shop}
spec:
  replicas: @N@
  template:
    spec:
      containers:
      - <<: *base
        name: acme-shop
        image: @IMAGE@
""",
    "complex keys and sets": PLAIN + "x-odd:\n  ? [a, b]\n  : c\n  ? d\n  : - e\n    -\n      - f\n",
    "a side car, an init container and a job of the app": PLAIN.replace(
        "      containers:\n",
        "      initContainers:\n      - {name: wait, image: busybox}\n      - name: migrate\n        image: '@IMAGE@'\n"
        "      containers:\n      - name: proxy\n        image: envoyproxy/envoy:v1.30 # stays\n",
    )
    + "---\nkind: Job\nmetadata: {name: seed}\nspec: {template: {spec: {containers: [{name: s, image: @IMAGE@}]}}}\n",
    "a cron job": PLAIN
    + "---\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          containers:\n"
    "            - image: @IMAGE@\n",
    "a StatefulSet": PLAIN.replace("Deployment", "StatefulSet"),
    "another workload": PLAIN
    + "---\nkind: Deployment\nmetadata: {name: redis}\nspec: {replicas: 1, template: {spec: {containers: "
    "[{name: redis, image: 'redis:7'}]}}}\n",
    "two workloads of the app": PLAIN
    + "---\nkind: Deployment\nmetadata: {name: worker}\nspec: {replicas: 2, template: {spec: {containers: "
    "[{name: w, image: @IMAGE@}]}}}\n",
    "characters that are line breaks to some": PLAIN.replace("metadata:\n", 'x: "a\u2028b\u0085c"\nmetadata:\n', 1),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("image", [NEW, DIGEST], ids=["tag", "digest"])
def test_only_the_values_change(name: str, image: str) -> None:
    before, after = filled(FILES[name], OLD, 3), filled(FILES[name], image, 5)
    edited = manifest_for(before, wanted(image))

    assert edited.content == after
    assert (edited.old_image, edited.new_image) == (OLD, image)
    assert (edited.old_replicas, edited.new_replicas) == (3, 5)
    assert edited.notes == ()
    assert not edited.was_made


@pytest.mark.parametrize("name", FILES)
def test_what_is_there_already_is_not_touched(name: str) -> None:
    before = filled(FILES[name], NEW, 5)
    edited = manifest_for(before, wanted())

    assert edited.content == before
    assert edited.changes == ()


@pytest.mark.parametrize("name", FILES)
def test_a_change_and_its_undoing_are_nothing(name: str) -> None:
    before = filled(FILES[name], OLD, 3)
    there = manifest_for(before, wanted(DIGEST))

    assert manifest_for(there.content, wanted(OLD, 3)).content == before


def test_the_changes_are_told_with_their_lines() -> None:
    edited = manifest_for(filled(PLAIN, OLD, 3), wanted())

    assert edited.changes == ("line 6: replicas 3 → 5", f"line 13: image {OLD} → {NEW}")
    assert (edited.old_image_tag, edited.new_image_tag) == ("1" * 40, "2" * 40)


@pytest.mark.parametrize(
    ("image", "tag"), [("app", "unknown"), ("localhost:5000/app", "unknown"), (DIGEST, f"sha256:{'3' * 64}")]
)
def test_the_tag_of_an_image_is_not_its_port(image: str, tag: str) -> None:
    assert manifest_for(filled(PLAIN, image, 3), wanted()).old_image_tag == tag


# Replicas that belong to the project.


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_missing_replicas_are_added(end: str) -> None:
    before = PLAIN.replace("  replicas: @N@\n", "").replace("spec:\n  sel", "spec: # how\n\n  # first\n  sel")
    after = before.replace("  selector", "  replicas: 5\n  selector")
    edited = manifest_for(filled(before.replace("\n", end), OLD, 0), wanted())

    assert edited.content == filled(after.replace("\n", end), NEW, 0)
    assert (edited.old_replicas, edited.new_replicas) == (1, 5)


@pytest.mark.parametrize("quote", ["", '"'])
def test_missing_replicas_are_added_in_flow_style(quote: str) -> None:
    text = '{"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"image": "@IMAGE@"}]}}}}'
    before = text.replace('"', quote).replace("@IMAGE@", "@IMAGE@ ") if not quote else text
    after = before.replace(f"{{{quote}template", f"{{{quote}replicas{quote}: 5, {quote}template")

    assert manifest_for(filled(before, OLD, 0), wanted()).content == filled(after, NEW, 0)


def test_one_replica_need_not_be_written() -> None:
    before = filled(PLAIN.replace("  replicas: @N@\n", ""), NEW, 0)

    assert manifest_for(before, wanted(replicas=1)).content == before


def test_replicas_are_left_alone_when_nothing_is_wanted() -> None:
    edited = manifest_for(filled(PLAIN, OLD, 3), wanted(replicas=None))

    assert edited.content == filled(PLAIN, NEW, 3)
    assert (edited.old_replicas, edited.new_replicas) == (3, 3)


def test_an_app_can_be_put_to_rest() -> None:
    assert manifest_for(filled(PLAIN, OLD, 3), wanted(replicas=0)).content == filled(PLAIN, NEW, 0)


def test_an_autoscaler_keeps_its_word() -> None:
    target = "{scaleTargetRef: {kind: Deployment, name: acme-shop}}"
    scaler = f"---\nkind: HorizontalPodAutoscaler\nmetadata: {{name: h}}\nspec: {target}\n"
    edited = manifest_for(filled(PLAIN + scaler, OLD, 3), wanted())

    assert edited.content == filled(PLAIN + scaler, NEW, 3)
    assert edited.notes == ("Replicas were left alone: HorizontalPodAutoscaler h decides about them.",)
    assert edited.new_replicas == 3


def test_a_daemon_set_has_no_replicas() -> None:
    text = PLAIN.replace("Deployment", "DaemonSet").replace("  replicas: @N@\n", "")
    edited = manifest_for(filled(text, OLD, 0), wanted())

    assert edited.content == filled(text, NEW, 0)
    assert len(edited.notes) == 1


# Whose image it is.


@pytest.mark.parametrize("image", ["my-shop:latest", "nginx", "${IMAGE}", "IMAGE_PLACEHOLDER", "ghcr.io/x/y:1"])
def test_the_only_container_is_the_apps_whatever_it_runs_now(image: str) -> None:
    assert manifest_for(filled(PLAIN, image, 3), wanted()).content == filled(PLAIN, NEW, 5)


def test_another_registry_does_not_hide_the_app() -> None:
    text = PLAIN + "      - name: acme-shop-proxy\n        image: nginx\n"

    assert manifest_for(filled(text, "old.example/acme-shop:1", 3), wanted()).content == filled(text, NEW, 5)


def test_of_several_containers_the_one_called_like_the_app_is_meant() -> None:
    text = PLAIN + "      - name: proxy\n        image: nginx\n"

    assert manifest_for(filled(text, "hello:1", 3), wanted()).content == filled(text, NEW, 5)


def test_an_alias_of_something_else_becomes_the_image_itself() -> None:
    text = "x-image: &image nginx:1\n" + PLAIN.replace("@IMAGE@", "*image  # here")
    after = text.replace("*image", NEW)

    assert manifest_for(filled(text, "", 3), wanted()).content == filled(after, "", 5)


REFUSED = {
    "two containers": (
        PLAIN.replace("name: acme-shop\n        ", "name: a\n        ") + "      - {name: b, image: x}\n",
        "not clear",
    ),
    "two workloads": (
        PLAIN.replace("name: acme-shop\nspec", "name: a\nspec")
        + "---\n"
        + PLAIN.replace("name: acme-shop\nspec", "name: b\nspec"),
        "not clear",
    ),
    "no workload": ("kind: Service\n", "nothing that could run"),
    "only a job": (PLAIN.replace("Deployment", "Job"), "nothing that could run"),
    "nothing": ("", "nothing that could run"),
    "only comments": ("# later\n---\n", "nothing that could run"),
    "a patch without an image": (PLAIN.replace("        image: @IMAGE@\n", ""), "names no image"),
    "an image that is null": (PLAIN.replace("image: @IMAGE@", "image:"), "names no image"),
    "an image that is a map": (PLAIN.replace("@IMAGE@", "{a: b}"), "names no image"),
    "a merged image": (
        PLAIN.replace("        image: @IMAGE@\n", "        <<: {image: @IMAGE@}\n"),
        "comes from elsewhere",
    ),
    "an image that a later merge overrules": (PLAIN + "        <<: {image: other}\n", "comes from elsewhere"),
    "merged replicas": (PLAIN.replace("  replicas: @N@\n", "  <<: {replicas: @N@}\n"), "comes from elsewhere"),
    "an anchor used elsewhere": (PLAIN.replace("@IMAGE@", "&i @IMAGE@") + "x-version: *i\n", "would change more"),
    "replicas used elsewhere": (PLAIN.replace("@N@", "&n @N@") + "x-min: *n\n", "would change more"),
    "a container used twice": (
        PLAIN.replace("- name: acme-shop\n", "- &c\n        name: acme-shop\n") + "x-copy: *c\n",
        "would change more",
    ),
    "an image over two lines": (PLAIN.replace("@IMAGE@", "acme\n          shop"), "cannot be changed in place"),
    "replicas in quotes": (PLAIN.replace("@N@", "'@N@'"), "no number"),
    "replicas that are a word": (PLAIN.replace("@N@", "many"), "no number"),
    "tabs": (PLAIN.replace("  replicas", "\treplicas"), "line 6"),
    "two images": (PLAIN + "        image: other\n", "twice"),
    "a template": (PLAIN.replace("@IMAGE@", "{{ .Values.image }}:{{ .tag }}"), "no YAML that can be edited"),
    "a kustomization": ("kind: Kustomization\nresources: [a.yaml]\n", "itself a kustomization"),
    "an unknown alias": (PLAIN.replace("@IMAGE@", "*nowhere"), "points to nothing"),
    "an alias of itself": ("a: &a [*a]\n" + PLAIN, "points to nothing"),
    "a control character": (PLAIN + "x: \x07\n", "no YAML that can be edited"),
    "an open quote": (PLAIN + "x: 'y\n", "no YAML that can be edited"),
    "aliases of aliases": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9)),
        "far too many",
    ),
    "brackets without end": ("[" * 400, "too deeply"),
    "a chain of aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(500)) + PLAIN,
        "far too many",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_edited_is_refused_with_the_reason(name: str) -> None:
    text, reason = REFUSED[name]
    with pytest.raises(ManifestUnusable, match=reason) as caught:
        manifest_for(filled(text, OLD if name not in {"two containers", "two workloads"} else "hello:1", 3), wanted())

    assert caught.value.hint
    assert "k8s/deployment.yaml" in caught.value.message


def test_two_workloads_of_the_app_need_a_name() -> None:
    text = (
        PLAIN.replace("name: acme-shop\nspec", "name: web\nspec")
        + "---\n"
        + PLAIN.replace("acme-shop\nspec", "worker\nspec")
    )
    with pytest.raises(ManifestUnusable, match="Deployment web, Deployment worker"):
        manifest_for(filled(text, OLD, 3), wanted())

    assert manifest_for(filled(text, OLD, 3), wanted(replicas=None)).content == filled(text, NEW, 3)


@pytest.mark.parametrize("content", [PLAIN.encode("utf-16"), PLAIN.encode() + b"\xff", b"\x00", b"#" * 300_000])
def test_what_is_no_text_of_a_sensible_size_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestUnusable):
        manifest_for(content, wanted())


# Folders of Kustomize: SourceDeploy does not run it.


def test_a_kustomization_that_only_lists_does_not_hinder() -> None:
    lists = {"k8s/kustomization.yaml": b"kind: Kustomization\nresources:\n- deployment.yaml\n"}

    assert manifest_for(filled(PLAIN, OLD, 3), wanted(), kustomizations=lists).content == filled(PLAIN, NEW, 5)


def test_a_kustomization_that_changes_things_is_refused() -> None:
    changes = {"k8s/kustomization.yml": b"resources: [deployment.yaml]\nimages: []\nnamePrefix: x-\n"}
    with pytest.raises(ManifestUnusable, match=r"k8s/kustomization.yml .*\(images, namePrefix\)"):
        manifest_for(filled(PLAIN, OLD, 3), wanted(), kustomizations=changes)


def test_a_folder_of_kustomize_without_the_file_is_refused() -> None:
    with pytest.raises(ManifestUnusable, match="k8s/base/kustomization"):
        manifest_for(None, wanted(), kustomizations={"k8s/base/kustomization.yaml": b""})


def test_an_overlay_beside_a_plain_file_does_not_hinder() -> None:
    beside = {"k8s/overlays/dev/kustomization.yaml": b"namePrefix: dev-\n"}

    assert manifest_for(filled(PLAIN, OLD, 3), wanted(), kustomizations=beside).content == filled(PLAIN, NEW, 5)


# One that is made.


def made(**more: Any) -> tuple[Manifest, list[Any]]:
    manifest = manifest_for(None, wanted(**more))
    return manifest, loaded(manifest.content)


def test_a_made_manifest_is_that_of_the_contract() -> None:
    manifest, [deployment, service] = made(replicas=None)
    [container] = deployment["spec"]["template"]["spec"]["containers"]

    assert (manifest.was_made, manifest.old_image_tag, manifest.old_replicas, manifest.new_replicas) == (
        True,
        None,
        None,
        1,
    )
    assert deployment["metadata"] == {"name": "acme-shop", "labels": {"app": "acme-shop"}}
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "ncp-cr"}]
    assert container["image"] == NEW
    assert container["ports"] == [{"containerPort": 8080}]
    assert container["env"] == [{"name": "PORT", "value": "8080"}]
    assert container["resources"] == {
        "requests": {"memory": "128Mi", "cpu": "100m"},
        "limits": {"memory": "256Mi", "cpu": "200m"},
    }
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8080}
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": 8080}]
    assert service["spec"]["selector"] == {"app": "acme-shop"}


def test_a_made_manifest_probes_the_health_path_at_the_apps_port() -> None:
    _, [deployment, service] = made(port=3000, health_path="/healthz?full=1")
    [container] = deployment["spec"]["template"]["spec"]["containers"]

    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz?full=1", "port": 3000}
    assert container["env"] == [{"name": "PORT", "value": "3000"}]
    assert service["spec"]["ports"][0]["targetPort"] == 3000


@pytest.mark.parametrize("has_tls", [True, False])
def test_a_made_manifest_serves_its_hosts(has_tls: bool) -> None:
    _, [_, _, ingress] = made(hosts=("shop.example.org", "www.example.org"), has_tls=has_tls, ingress_class="nginx")

    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["shop.example.org", "www.example.org"]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"].get("tls") == (
        [{"hosts": ["shop.example.org", "www.example.org"], "secretName": "acme-shop-tls"}] if has_tls else None
    )


def test_a_made_manifest_can_be_edited_and_back() -> None:
    first, _ = made(hosts=("shop.example.org",), health_path="/")
    second = manifest_for(first.content, wanted(DIGEST, 0))

    assert len(second.changes) == 2
    assert manifest_for(second.content, wanted()).content == first.content


@pytest.mark.parametrize(
    "odd",
    [
        {"app": "a\nb"},
        {"image": "a: b"},
        {"image": "a\nb"},
        {"image": "--privileged"},
        {"image": ""},
        {"image": "a@sha256:1"},
        {"hosts": ("a b",)},
        {"health_path": "/\n"},
        {"health_path": "x"},
        {"pull_secret": "{}"},
        {"ingress_class": "a: b"},
        {"port": 0},
        {"replicas": -1},
    ],
)
@pytest.mark.parametrize("found", [None, filled(PLAIN, OLD, 3)], ids=["made", "edited"])
def test_nothing_can_add_a_line_to_a_manifest(odd: dict[str, Any], found: bytes | None) -> None:
    """S-02."""
    with pytest.raises(Invalid):
        manifest_for(found, Wanted(**{"app": "acme-shop", "image": NEW, "replicas": 1, **odd}))
