"""Bodies that no GitHub sends: what a fault, a proxy or somebody with bad intentions may make of a push."""

import copy
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

from tests.deliveries.payloads import push, release

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
FIELDS = (
    *("ref", "before", "after", "created", "deleted", "forced", "commits", "head_commit", "repository", "pusher"),
    *("installation", "repository.id", "repository.name", "repository.full_name", "repository.owner"),
    *("repository.owner.login", "head_commit.message", "head_commit.id", "pusher.name", "installation.id"),
    *("commits.0", "commits.0.added", "commits.0.modified.0"),
)
RELEASE_FIELDS = (
    *("action", "release", "release.tag_name", "release.draft", "release.prerelease", "release.target_commitish"),
    "repository.owner",
)
VALUES: dict[str, Any] = {
    "null": None,
    "number": 7,
    "negative": -1,
    "giant": 10**400,
    "fraction": 1.5,
    "true": True,
    "text": "x",
    "empty": "",
    "long": "x" * 100_000,
    "zero byte": "a\0b",
    "path": "../../etc/passwd",
    "list": [],
    "nested list": [[[]]],
    "object": {"a": {}},
}


def bodies() -> Iterator[tuple[str, str, str, bytes]]:
    """(name, event, content type, body): more than 200, each another one."""
    for field in FIELDS:
        for name, value in VALUES.items():
            yield f"{field} is {name}", "push", JSON, json.dumps(_with(push(), field, value)).encode()
        yield f"{field} is missing", "push", JSON, json.dumps(_with(push(), field, ...)).encode()
    for field in RELEASE_FIELDS:
        for name, value in VALUES.items():
            yield f"release: {field} is {name}", "release", JSON, json.dumps(_with(release(), field, value)).encode()
    for name, body in raw().items():
        for event in ("push", "release", "ping"):
            yield f"{event}: {name}", event, JSON, body
            yield f"{event}: {name} in a form", event, FORM, b"payload=" + quote_plus(body).encode()
    for name, body in forms().items():
        yield f"form: {name}", "push", FORM, body
    for kind in (
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "\xff",
        "a;b",
    ):
        yield f"content type {kind!r}", "push", kind, json.dumps(push()).encode()


def raw() -> dict[str, bytes]:
    whole = json.dumps(push()).encode()
    return {
        "empty": b"",
        "blank": b"  \n",
        "a zero byte": b"\0",
        "null": b"null",
        "a list": b"[]",
        "a number": b"1",
        "a text": b'"push"',
        "cut off": whole[:-1],
        "cut in the middle": whole[: len(whole) // 2],
        "twice": whole * 2,
        "with a tail": whole + b"x",
        "a byte order mark": b"\xef\xbb\xbf" + whole,
        "UTF-16": json.dumps(push()).encode("utf-16"),
        "not UTF-8": whole.replace(b"Mend", b"\xff\xfe"),
        "overlong UTF-8": whole.replace(b"Mend", b"\xc0\xaf"),
        "a lone surrogate": whole.replace(b"Mend", b"\\ud800"),
        "a wrong pair of surrogates": whole.replace(b"Mend", b"\\udc00\\ud800"),
        "NaN": b'{"ref":NaN}',
        "Infinity": b'{"after":-Infinity}',
        "a number beyond all floats": b'{"ref":1e999999}',
        "a number of a million digits": b'{"ref":' + b"9" * 1_000_000 + b"}",
        "duplicate keys": b'{"ref":"refs/heads/main","ref":7,"repository":{},"repository":[]}',
        "single quotes": b"{'ref': 'refs/heads/main'}",
        "a comment": b'{/* hi */"ref":"x"}',
        "a trailing comma": b'{"ref":"x",}',
        "100,000 open lists": b"[" * 100_000,
        "100,000 open objects": b'{"a":' * 100_000,
        "50,000 nested lists": b'{"ref":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        "a control character": b'{"ref":"a\nb"}',
        "a bad escape": b'{"ref":"\\x41"}',
        "an HTML page": b"<html>502 Bad Gateway</html>",
        "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    }


def forms() -> dict[str, bytes]:
    good = quote_plus(json.dumps(push())).encode()
    return {
        "no payload": b"a=b",
        "nothing": b"",
        "an empty payload": b"payload=",
        "no equals sign": b"payload",
        "two payloads": b"payload=%7B%7D&payload=" + good,
        "a bad escape": b"payload=%zz%7",
        "JSON instead": json.dumps(push()).encode(),
        "10,000 fields": b"&".join(b"a=b" for _ in range(10_000)),
    }


def _with(payload: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(payload)
    *way, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    place: Any = changed
    for part in way:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed
