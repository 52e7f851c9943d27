"""What GitHub answers, as nouns of ours. A KeyError, TypeError or ValueError means that it was something else."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from klepaas.domain.github import Checks, Head, Lineage, PullRequest, RepositoryName, SentDelivery
from klepaas.domain.github_app import GitHubApp, Installation
from klepaas.operations.code_host import Comparison

MAX_FILES = 300
"""GitHub names no more files than these in a comparison."""
PAYLOAD_KEY = "klepaas"
"""Under which our key stands in the payload of a deployment."""
_BAD = {"failure", "cancelled", "timed_out", "action_required", "startup_failure", "stale"}
"""Conclusions of a check that block. Source: GitHub docs, "Get a check run"."""


def repository(data: Any, installation_id: str | None) -> RepositoryName:
    return RepositoryName(
        owner=str(data["owner"]["login"]),
        name=str(data["name"]),
        repository_id=int(data["id"]),
        installation_id=installation_id,
        is_private=data.get("private") is True,
    )


def head(data: Any, etag: str | None) -> Head:
    """Of `GET …/branches/{branch}`."""
    return Head(sha=str(data["commit"]["sha"]), message=str(data["commit"]["commit"]["message"]), etag=etag)


def pull_request(data: Any) -> PullRequest:
    return PullRequest(
        number=int(data["number"]),
        title=str(data["title"] or ""),
        merged_at=_time(data["merged_at"]),
        base_branch=str(data["base"]["ref"]),
        merge_commit_sha=data.get("merge_commit_sha"),
    )


def comparison(data: Any) -> Comparison:
    """Its files are those that changed since the common ancestor: all that differ only when one is ahead."""
    lineage = Lineage(data["status"])
    if lineage in {Lineage.BEHIND, Lineage.DIVERGED}:
        return Comparison(lineage=lineage, paths=None)
    files = data.get("files") or []
    if len(files) >= MAX_FILES:
        return Comparison(lineage=lineage, paths=None)
    names = [str(each[key]) for each in files for key in ("filename", "previous_filename") if each.get(key)]
    return Comparison(lineage=lineage, paths=tuple(dict.fromkeys(names)))


def checks(runs: Sequence[Any], statuses: Sequence[Any], *, without: str) -> Checks:
    """All of them together; ours, whose context begins with `without`, left out."""
    said = [_check_run(each) for each in runs]
    said += [_status(each["state"]) for each in statuses if not each["context"].startswith(without)]
    if Checks.FAILED in said:
        return Checks.FAILED
    return Checks.PENDING if Checks.PENDING in said else Checks.PASSED


def deployment_keys(found: Sequence[Any]) -> Mapping[str, int]:
    """Our key → GitHub's id; deployments of others are left out. The oldest wins where one key was used twice."""
    keys: dict[str, int] = {}
    for each in sorted(found, key=lambda one: int(one["id"])):
        payload = each.get("payload")
        if isinstance(payload, str):
            try:
                payload = json.loads(payload)
            except ValueError:
                continue
        if isinstance(payload, dict) and isinstance(payload.get(PAYLOAD_KEY), str):
            keys.setdefault(payload[PAYLOAD_KEY], int(each["id"]))
    return keys


def sent_delivery(data: Any) -> SentDelivery:
    installation = data.get("installation_id")
    return SentDelivery(
        id=int(data["id"]),
        guid=str(data["guid"]),
        event=str(data["event"]),
        delivered_at=_time(data["delivered_at"]) or datetime.fromtimestamp(0, UTC),
        status_code=int(data["status_code"]),
        redelivery=bool(data["redelivery"]),
        installation_id=None if installation is None else str(installation),
        repository_id=data.get("repository_id"),
    )


def installation(data: Any) -> Installation:
    return Installation(
        id=str(data["id"]),
        account=str(data["account"]["login"]),
        repositories=str(data.get("repository_selection") or ""),
        suspended=data.get("suspended_at") is not None,
    )


def app(data: Any) -> GitHubApp:
    """Of the conversion of a manifest."""
    return GitHubApp(
        app_id=str(int(data["id"])),
        private_key=str(data["pem"]),
        webhook_secret=data["webhook_secret"] or None,
        slug=str(data["slug"]),
        html_url=str(data["html_url"]),
    )


def _check_run(data: Any) -> Checks:
    if data["status"] != "completed":
        return Checks.PENDING
    return Checks.FAILED if data["conclusion"] in _BAD else Checks.PASSED


def _status(state: str) -> Checks:
    return {"success": Checks.PASSED, "pending": Checks.PENDING}.get(state, Checks.FAILED)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
