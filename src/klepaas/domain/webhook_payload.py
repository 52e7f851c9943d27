"""What the body of a webhook says, as far as deployments care.

A field that has the wrong type counts as absent: only a body that is no JSON object at all is refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from pydantic_core import from_json

from klepaas.domain.github import ZERO_SHA, PublishedRelease, Push, RepositoryName
from klepaas.errors import Invalid

_SHA = re.compile(r"[0-9a-fA-F]{40}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """Nothing a deployment could come of, whatever projects there are. `reason` are words clients may test for."""

    reason: str


Meaning = Push | PublishedRelease | Ignored


def read(event: str, content_type: str, body: bytes) -> Meaning:
    """Take a payload apart. Errors: Invalid for what is no JSON object; nothing else, whatever the body holds."""
    if event not in {"push", "release"}:
        return Ignored(reason=f"unsupported event {event}")
    payload = _object(_json_of(content_type, body))
    repository = _repository(payload)
    if event == "release" and (action := _text(payload.get("action"))) != "published":
        return Ignored(reason=f"unsupported release action {action[:80]}".rstrip())
    if repository is None:
        return Ignored(reason="no repository full_name")
    return _push(payload, repository) if event == "push" else _release(payload, repository)


def _json_of(content_type: str, body: bytes) -> bytes:
    """GitHub sends JSON, or a form whose field `payload` holds it."""
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return body
    for pair in body.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"payload":
            return unquote_to_bytes(value.replace(b"+", b" "))
    return b""


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        # Refuses NaN, lone surrogates, bytes that are not UTF-8, and numbers and depths beyond reason.
        payload = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise Invalid("Invalid JSON payload") from error
    if not isinstance(payload, dict):
        raise Invalid("Invalid JSON payload")
    return payload


def _push(payload: Mapping[str, Any], repository: RepositoryName) -> Push:
    before, after = _sha(payload.get("before")), _sha(payload.get("after"))
    forced = payload.get("forced") is True
    return Push(
        repository=repository,
        ref=_text(payload.get("ref")),
        before=before,
        after=after,
        deleted=payload.get("deleted") is True or after == ZERO_SHA,
        forced=forced,
        message=_text(_part(payload, "head_commit").get("message")),
        pusher=_text(_part(payload, "pusher").get("name")),
        # A new or a rewritten branch differs by more than the commits that are listed.
        commits=None if forced or before == ZERO_SHA else payload.get("commits"),
    )


def _release(payload: Mapping[str, Any], repository: RepositoryName) -> PublishedRelease:
    release = _part(payload, "release")
    return PublishedRelease(
        repository=repository,
        tag=_text(release.get("tag_name")),
        # In doubt it is one that is not meant for everybody yet.
        draft=release.get("draft") not in (None, False),
        prerelease=release.get("prerelease") not in (None, False),
        target_commitish=_text(release.get("target_commitish")),
    )


def _repository(payload: Mapping[str, Any]) -> RepositoryName | None:
    named = _part(payload, "repository")
    owner, name = _text(_part(named, "owner").get("login")), _text(named.get("name"))
    if not (owner and name):
        owner, _, name = _text(named.get("full_name")).partition("/")
    if not (_NAME.fullmatch(owner) and _NAME.fullmatch(name)):
        return None
    installation = _id(_part(payload, "installation").get("id"))
    return RepositoryName(
        owner=owner,
        name=name,
        repository_id=_id(named.get("id")),
        installation_id=None if installation is None else str(installation),
        is_private=named.get("private") is True,
    )


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = of.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: Any) -> str:
    """PostgreSQL takes no zero bytes; a text with one would be lost otherwise."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else ""


def _sha(value: Any) -> str:
    return value.lower() if isinstance(value, str) and _SHA.fullmatch(value) else ZERO_SHA


def _id(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_ID else None
