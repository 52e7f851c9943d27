"""YAML with the place of everything in its text, so that one value can be changed and every other byte stays.

A writer of YAML would have to guess how a file was laid out; here nothing is written but the value. What a change
means is seen by reading the new text again and comparing all of it with what was meant."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from klepaas.errors import ManifestUnusable

MAX_BYTES = 256 * 1024
"""Reading takes about 12 s of CPU a megabyte; manifests written by hand have a few kilobytes."""
MAX_NODES = 50_000
"""With every alias written out, as whoever reads the file will."""
MAX_DEPTH = 60

Path = tuple[str | int, ...]
Plain = Any
"""Maps, lists and scalars (tag, whether it is plain, value); aliases and merges are written out."""


@dataclass(eq=False)
class Node:
    """`start` and `end` are positions in the text, with anchor and tag; the end of a block is only near its end."""

    kind: Literal["scalar", "mapping", "sequence", "alias"]
    start: int
    end: int
    value: str = ""
    """Of a scalar; of an alias the name it points to."""
    style: str | None = None
    """Of a scalar its quote or block sign, None when it is plain."""
    tag: str | None = None
    is_flow: bool = False
    entries: list[tuple["Node", "Node"]] = field(default_factory=list)
    items: list["Node"] = field(default_factory=list)
    target: "Node | None" = None
    size: int = 1
    height: int = 1

    @property
    def resolved(self) -> "Node":
        return self.target if self.target is not None else self


@dataclass(frozen=True)
class Found:
    """A value in a mapping. `is_borrowed`: it comes, or may come, from a merge (`<<`), not from the mapping itself."""

    value: Node
    is_borrowed: bool


@dataclass(frozen=True)
class Replacement:
    start: int
    end: int
    text: str


def text_of(content: bytes, name: str) -> str:
    """Errors: ManifestUnusable."""
    if len(content) > MAX_BYTES:
        raise ManifestUnusable(f"{name} is larger than {MAX_BYTES // 1024} KiB.", hint="Divide it into several files.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestUnusable(f"{name} is not in UTF-8 (byte {error.start}).", hint="Save it in UTF-8.") from None


def documents(text: str, name: str) -> list[Node]:
    """The roots of its documents. Errors: ManifestUnusable, with the line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        events = YAML(typ="safe", pure=True).parse(text)
        return list(_Reader(events, text, name).roots())
    except MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise _unreadable(text, name, line, str(error.problem or "")) from None
    except (YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise _unreadable(text, name, None, str(error).splitlines()[0] if str(error) else "") from None


def find(node: Node, key: str, name: str) -> Found | None:
    """Errors: ManifestUnusable when the key is there twice: programs disagree about which one counts."""
    node = node.resolved
    own = [(at, value) for at, (each, value) in enumerate(node.entries) if each.kind == "scalar" and each.value == key]
    if len(own) > 1:
        raise ManifestUnusable(f"{name} names {key!r} twice in one place.", hint="Remove one of the two.")
    merges = [(at, value) for at, (each, value) in enumerate(node.entries) if _is_merge(each)]
    lent = [(at, found) for at, each in merges for found in [_lent(each, key)] if found is not None]
    if own:
        # A merge behind the key overrules it for some programs, kubectl among them.
        return Found(own[0][1], is_borrowed=any(at > own[0][0] for at, _ in lent))
    return Found(lent[0][1], is_borrowed=True) if lent else None


def walk(node: Node | None, path: Sequence[str], name: str) -> Node | None:
    for key in path:
        found = find(node, key, name) if node is not None else None
        node = found.value.resolved if found is not None else None
    return node


def scalar(node: Node | None, key: str, name: str) -> str | None:
    value = walk(node, (key,), name)
    return value.value if value is not None and value.kind == "scalar" else None


def plain(node: Node, _seen: dict[int, Plain] | None = None) -> Plain:
    """What the text means. Shares what aliases share, so it takes no more room than the text."""
    seen: dict[int, Plain] = {} if _seen is None else _seen
    node = node.resolved
    if id(node) not in seen:
        if node.kind == "scalar":
            seen[id(node)] = (node.tag or "", node.style is None, node.value)
        elif node.kind == "sequence":
            seen[id(node)] = [plain(each, seen) for each in node.items]
        else:
            lent = [plain(one, seen) for key, value in node.entries if _is_merge(key) for one in _merged(value)]
            seen[id(node)] = {k: v for each in reversed(lent) if isinstance(each, dict) for k, v in each.items()} | {
                _key(key, seen): plain(value, seen) for key, value in node.entries if not _is_merge(key)
            }
    return seen[id(node)]


def with_value(data: Plain, path: Path, value: Plain) -> Plain:
    """A copy with another value at `path`, which may be a new key."""
    if not path:
        return value
    if isinstance(data, list):
        return [with_value(each, path[1:], value) if at == path[0] else each for at, each in enumerate(data)]
    return {**data, path[0]: with_value(data.get(path[0]), path[1:], value)}


def differences(one: Plain, other: Plain, path: Path = ()) -> Iterator[Path]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from differences(one.get(key), other.get(key), (*path, key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, (*path, at))
    elif one != other:
        yield path


def replacement(text: str, node: Node, value: str, name: str) -> Replacement:
    """For a scalar or an alias, in the quotes it has. `value` needs no escapes. Errors: ManifestUnusable."""
    if node.kind == "alias":
        return Replacement(node.start, node.end, value)
    raw = text[node.start : node.end]
    old = node.value if node.style in {None, "'", '"'} else node.value.strip()
    at = raw.rfind(f"{node.style}{old}{node.style}") + 1 if node.style in {"'", '"'} else raw.rfind(old)
    if node.style in {"'", '"'} and at == 0:
        # Escapes inside, or line breaks: everything between the quotes is replaced.
        first = next((i for i, c in enumerate(raw) if c == node.style and (i == 0 or raw[i - 1].isspace())), -1)
        return Replacement(node.start + first + 1, node.end - 1, value) if first >= 0 else _never(text, node, name)
    if at < 0 or not old:
        return _never(text, node, name)
    return Replacement(node.start + at, node.start + at + len(old), value)


def insertion(text: str, mapping: Node, key: str, value: str, name: str) -> Replacement:
    """A new first entry of a mapping, laid out as the one that is first now. Errors: ManifestUnusable."""
    if not mapping.entries:
        return _never(text, mapping, name)
    first = mapping.entries[0][0]
    if mapping.is_flow:
        quote = first.style if first.style in {"'", '"'} else ""
        return Replacement(first.start, first.start, f"{quote}{key}{quote}: {value}, ")
    begin = max(text.rfind("\n", 0, first.start), text.rfind("\r", 0, first.start)) + 1
    indent = text[begin : first.start]
    if indent.strip(" ") or begin == 0:
        return _never(text, mapping, name)
    end = "\r\n" if text[begin - 2 : begin] == "\r\n" else text[begin - 1]
    return Replacement(first.start, first.start, f"{key}: {value}{end}{indent}")


def replaced(text: str, replacements: Sequence[Replacement]) -> str:
    for each in sorted(set(replacements), key=lambda one: one.start, reverse=True):
        text = f"{text[: each.start]}{each.text}{text[each.end :]}"
    return text


def line_of(text: str, node: Node) -> int:
    before = text[: node.start].replace("\r\n", "\n").replace("\r", "\n")
    return before.count("\n") + 1


class _Reader:
    """Builds the nodes out of what the parser tells in passing."""

    def __init__(self, events: Any, text: str, name: str) -> None:
        self._events, self._text, self._name = iter(events), text, name
        self._anchors: dict[str, Node] = {}

    def roots(self) -> Iterator[Node]:
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                self._anchors = {}
                yield self._node(next(self._events), 0)

    def _node(self, event: Any, depth: int) -> Node:
        kind = type(event).__name__
        start, end = event.start_mark.index, event.end_mark.index
        if kind == "AliasEvent":
            target = self._anchors.get(event.anchor)
            if target is None:
                raise self._refused(event, f"*{event.anchor} points to nothing before it")
            return Node("alias", start, end, value=event.anchor, target=target, size=target.size, height=target.height)
        if depth > MAX_DEPTH:
            raise self._refused(event, "it is nested too deeply")
        tag = None if event.tag is None else str(event.tag)
        if kind == "ScalarEvent":
            node = Node("scalar", start, end, value=event.value, style=event.style or None, tag=tag)
        elif kind == "MappingStartEvent":
            node = Node("mapping", start, end, tag=tag, is_flow=bool(event.flow_style))
            for key in iter(lambda: next(self._events), None):
                if type(key).__name__ == "MappingEndEvent":
                    break
                node.entries.append((self._node(key, depth + 1), self._node(next(self._events), depth + 1)))
            self._count(event, node, [each for entry in node.entries for each in entry])
        else:
            node = Node("sequence", start, end, tag=tag, is_flow=bool(event.flow_style))
            for item in iter(lambda: next(self._events), None):
                if type(item).__name__ == "SequenceEndEvent":
                    break
                node.items.append(self._node(item, depth + 1))
            self._count(event, node, node.items)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _count(self, event: Any, node: Node, parts: Sequence[Node]) -> None:
        node.size = 1 + sum(each.size for each in parts)
        node.height = 1 + max((each.height for each in parts), default=0)
        if node.size > MAX_NODES or node.height > 2 * MAX_DEPTH:
            raise self._refused(event, "written out, its aliases are far too many values")

    def _refused(self, event: Any, why: str) -> ManifestUnusable:
        return _unreadable(self._text, self._name, event.start_mark.line + 1, why)


def _unreadable(text: str, name: str, line: int | None, why: str) -> ManifestUnusable:
    where = f" in line {line}" if line is not None else ""
    said = " ".join("".join(c if c.isprintable() else " " for c in why).split())[:160]
    if "{{" in text:
        hint = "It looks like a template, e.g. of Helm: what is deployed has to be a plain manifest."
    elif "'\\t'" in said:
        hint = "YAML takes no tabs in front of a value; use spaces."
    else:
        hint = "Correct it; `kubectl apply --dry-run=client -f` shows whether it is right."
    return ManifestUnusable(f"{name} is no YAML that can be edited{where}: {said}.", hint=hint)


def _never(text: str, node: Node, name: str) -> Replacement:
    raise ManifestUnusable(
        f"Line {line_of(text, node)} of {name} is written in a way that cannot be changed in place.",
        hint="Write the value on the line of its key.",
    )


def _is_merge(key: Node) -> bool:
    return key.kind == "scalar" and key.value == "<<" and key.style is None


def _merged(value: Node) -> Sequence[Node]:
    value = value.resolved
    return value.items if value.kind == "sequence" else [value]


def _lent(value: Node, key: str) -> Node | None:
    """What a merge brings for a key; the first of several counts."""
    for source in _merged(value):
        for each, lent in source.resolved.entries:
            if each.kind == "scalar" and each.value == key:
                return lent
            if _is_merge(each) and (further := _lent(lent, key)) is not None:
                return further
    return None


def _key(node: Node, seen: dict[int, Plain]) -> str:
    node = node.resolved
    return node.value if node.kind == "scalar" else repr(plain(node, seen))


def keys(node: Node) -> Mapping[str, Node]:
    return {key.value: value for key, value in node.resolved.entries if key.kind == "scalar"}
