"""Whatever a file looks like, editing it changes the values and nothing else; seen by another reader of YAML."""

import io
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from klepaas.errors import ManifestUnusable
from klepaas.targets.ncp.manifest import Wanted, manifest_for
from tests.targets_ncp.test_manifest import FILES, NEW, OLD, filled, wanted

BLANK = st.text(" ", max_size=3)
COMMENT = st.one_of(
    st.just(""),
    st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=30).map(lambda text: f" # {text}"),
)
QUOTE = st.sampled_from(["", "'", '"'])
END = st.sampled_from(["\n", "\r\n"])


@st.composite
def layouts(draw: st.DrawFn) -> str:
    """A Deployment as somebody might have laid it out, with its values still open."""
    step = " " * draw(st.integers(1, 6))
    dash = draw(st.sampled_from(["- ", "-   "]))
    at = draw(st.sampled_from(["", step]))
    quote, end = draw(QUOTE), draw(END)

    def line(depth: int, text: str) -> str:
        gaps = "".join(f"{draw(BLANK)}{draw(COMMENT).strip()}{end}" for _ in range(draw(st.integers(0, 1))))
        return f"{gaps}{step * depth}{text}{draw(BLANK)}{draw(COMMENT)}{end}"

    container = [f"name:{' ' * draw(st.integers(1, 4))}acme-shop", f"image: {quote}@IMAGE@{quote}", "tty: true"]
    container = draw(st.permutations(container))
    inner = step * 3 + at
    spec = [
        line(1, "replicas: @N@"),
        line(1, "template:")
        + line(2, "spec:")
        + line(3, "containers:")
        + f"{inner}{dash}{container[0]}{end}"
        + "".join(f"{inner}{' ' * len(dash)}{one}{draw(COMMENT)}{end}" for one in container[1:]),
        line(1, "selector: {matchLabels: {a: b}}"),
    ]
    parts = [
        line(0, "kind: Deployment"),
        line(0, "metadata:") + line(1, "name: acme-shop"),
        line(0, "spec:") + "".join(draw(st.permutations(spec))),
    ]
    other = f"---{draw(COMMENT)}{end}kind: Service{end}spec: {{ports: [80, 81,]}}{end}"
    text = "".join(draw(st.permutations(parts)))
    return draw(st.sampled_from([text, f"{other}---{end}{text}", f"{text}{other}", f"---{end}{text}...{end}"]))


@settings(max_examples=40, deadline=None)
@given(layout=layouts(), replicas=st.integers(0, 50))
def test_every_layout_keeps_its_bytes(layout: str, replicas: int) -> None:
    before, after = filled(layout, OLD, 77), filled(layout, NEW, replicas)

    assert manifest_for(before, wanted(replicas=replicas)).content == after


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(FILES)),
    at=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 8),
    put=st.text(st.sampled_from("&*!|>'\"{}[],:#?-<\t\r\n %@ax1é\u2028"), max_size=4),
)
def test_a_damaged_file_is_refused_or_changed_in_its_values_only(name: str, at: float, cut: int, put: str) -> None:
    text = filled(FILES[name], OLD, 3).decode()
    position = int(at * len(text))
    damaged = f"{text[:position]}{put}{text[position + cut :]}"
    try:
        edited = manifest_for(damaged.encode(), Wanted(app="acme-shop", image=NEW, replicas=5))
    except ManifestUnusable:
        return
    before, after = read(damaged), read(edited.content.decode())
    if before is None:
        return  # The other reader is stricter, e.g. about the same key twice.
    assert after is not None
    assert set(changed(before, after)) <= {"image", "replicas"}


def read(text: str) -> list[Any] | None:
    try:
        return list(YAML(typ="safe", pure=True).load_all(io.StringIO(text, newline="")))
    except (YAMLError, ValueError, TypeError):
        return None


def changed(one: Any, other: Any, key: str = "") -> list[str]:
    """The keys whose values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [found for each in {**one, **other} for found in changed(one.get(each), other.get(each), str(each))]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [found for left, right in zip(one, other, strict=True) for found in changed(left, right, key)]
    return [] if one == other else [key]
