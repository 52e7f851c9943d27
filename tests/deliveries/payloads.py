"""Webhook payloads in GitHub's shapes, made rather than copied: every event it documents, with the objects its pages
say it carries. Source: GitHub's documentation, "Webhook events and payloads"."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

ZERO = "0" * 40
GITHUB, REST = "https://github.com", "https://api.github.com"

EVENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "branch_protection_configuration": (("disabled", "enabled"), ("repository",)),
    "branch_protection_rule": (("created", "deleted", "edited"), ("rule", "repository")),
    "check_run": (("completed", "created", "requested_action", "rerequested"), ("check_run", "repository")),
    "check_suite": (("completed", "requested", "rerequested"), ("check_suite", "repository")),
    "code_scanning_alert": (
        ("appeared_in_branch", "closed_by_user", "created", "fixed", "reopened", "reopened_by_user"),
        ("alert", "commit_oid", "ref", "repository"),
    ),
    "commit_comment": (("created",), ("comment", "repository")),
    "create": ((), ("ref", "ref_type", "master_branch", "description", "pusher_type", "repository")),
    "custom_property": (("created", "deleted", "promote_to_enterprise", "updated"), ("definition", "organization")),
    "custom_property_values": (("updated",), ("new_property_values", "old_property_values", "repository")),
    "delete": ((), ("ref", "ref_type", "pusher_type", "repository")),
    "dependabot_alert": (
        ("auto_dismissed", "auto_reopened", "created", "dismissed", "fixed", "reintroduced", "reopened"),
        ("alert", "repository"),
    ),
    "deploy_key": (("created", "deleted"), ("key", "repository")),
    "deployment": (("created",), ("deployment", "workflow", "workflow_run", "repository")),
    "deployment_protection_rule": (("requested",), ("environment", "event", "deployment", "repository")),
    "deployment_review": (("approved", "rejected", "requested"), ("workflow_run", "since", "repository")),
    "deployment_status": (("created",), ("deployment", "deployment_status", "repository")),
    "discussion": (
        (
            *("answered", "category_changed", "closed", "created", "deleted", "edited", "labeled", "locked"),
            *("pinned", "reopened", "transferred", "unanswered", "unlabeled", "unlocked", "unpinned"),
        ),
        ("discussion", "repository"),
    ),
    "discussion_comment": (("created", "deleted", "edited"), ("comment", "discussion", "repository")),
    "fork": ((), ("forkee", "repository")),
    "github_app_authorization": (("revoked",), ()),
    "gollum": ((), ("pages", "repository")),
    "installation": (
        ("created", "deleted", "new_permissions_accepted", "suspend", "unsuspend"),
        ("repositories", "requester"),
    ),
    "installation_repositories": (
        ("added", "removed"),
        ("repository_selection", "repositories_added", "repositories_removed"),
    ),
    "installation_target": (("renamed",), ("account", "changes", "target_type")),
    "issue_comment": (("created", "deleted", "edited"), ("comment", "issue", "repository")),
    "issue_dependencies": (("blocked_by_added", "blocked_by_removed"), ("blocked_issue", "repository")),
    "issues": (
        (
            *("assigned", "closed", "deleted", "demilestoned", "edited", "labeled", "locked", "milestoned", "opened"),
            *("pinned", "reopened", "transferred", "typed", "unassigned", "unlabeled", "unlocked", "unpinned"),
        ),
        ("issue", "repository"),
    ),
    "label": (("created", "deleted", "edited"), ("label", "repository")),
    "marketplace_purchase": (("cancelled", "changed", "purchased"), ("effective_date", "marketplace_purchase")),
    "member": (("added", "edited", "removed"), ("member", "repository")),
    "membership": (("added", "removed"), ("member", "scope", "team", "organization")),
    "merge_group": (("checks_requested", "destroyed"), ("merge_group", "repository")),
    "meta": (("deleted",), ("hook", "hook_id", "repository")),
    "milestone": (("closed", "created", "deleted", "edited", "opened"), ("milestone", "repository")),
    "org_block": (("blocked", "unblocked"), ("blocked_user", "organization")),
    "organization": (
        ("deleted", "member_added", "member_invited", "member_removed", "renamed"),
        ("membership", "organization"),
    ),
    "package": (("published", "updated"), ("package", "repository")),
    "page_build": ((), ("build", "id", "repository")),
    "personal_access_token_request": (
        ("approved", "cancelled", "created", "denied"),
        ("personal_access_token_request", "organization"),
    ),
    "ping": ((), ("hook", "hook_id", "zen", "repository")),
    "project": (("closed", "created", "deleted", "edited", "reopened"), ("project", "repository")),
    "project_card": (("converted", "created", "deleted", "edited", "moved"), ("project_card", "repository")),
    "project_column": (("created", "deleted", "edited", "moved"), ("project_column", "repository")),
    "projects_v2": (("closed", "created", "deleted", "edited", "reopened"), ("projects_v2", "organization")),
    "projects_v2_item": (
        ("archived", "converted", "created", "deleted", "edited", "reordered", "restored"),
        ("projects_v2_item", "organization"),
    ),
    "projects_v2_status_update": (("created", "deleted", "edited"), ("projects_v2_status_update", "organization")),
    "public": ((), ("repository",)),
    "pull_request": (
        (
            *("assigned", "auto_merge_disabled", "auto_merge_enabled", "closed", "converted_to_draft", "demilestoned"),
            *("dequeued", "edited", "enqueued", "labeled", "locked", "milestoned", "opened", "ready_for_review"),
            *("reopened", "review_request_removed", "review_requested", "synchronize", "unassigned", "unlabeled"),
            "unlocked",
        ),
        ("number", "pull_request", "repository"),
    ),
    "pull_request_review": (("dismissed", "edited", "submitted"), ("pull_request", "review", "repository")),
    "pull_request_review_comment": (("created", "deleted", "edited"), ("comment", "pull_request", "repository")),
    "pull_request_review_thread": (("resolved", "unresolved"), ("pull_request", "thread", "repository")),
    "registry_package": (("published", "updated"), ("registry_package", "repository")),
    "repository": (
        (
            "archived",
            "created",
            "deleted",
            "edited",
            "privatized",
            "publicized",
            "renamed",
            "transferred",
            "unarchived",
        ),
        ("repository",),
    ),
    "repository_advisory": (("published", "reported"), ("repository_advisory", "repository")),
    "repository_dispatch": (("sample.collected",), ("branch", "client_payload", "repository")),
    "repository_import": ((), ("status", "repository")),
    "repository_ruleset": (("created", "deleted", "edited"), ("repository_ruleset", "repository")),
    "repository_vulnerability_alert": (("create", "dismiss", "reopen", "resolve"), ("alert", "repository")),
    "secret_scanning_alert": (
        ("created", "publicly_leaked", "reopened", "resolved", "validated"),
        ("alert", "repository"),
    ),
    "secret_scanning_alert_location": (("created",), ("alert", "location", "repository")),
    "secret_scanning_scan": (("completed",), ("type", "source", "repository")),
    "security_advisory": (("published", "updated", "withdrawn"), ("security_advisory",)),
    "security_and_analysis": ((), ("changes", "repository")),
    "sponsorship": (
        ("cancelled", "created", "edited", "pending_cancellation", "pending_tier_change", "tier_changed"),
        ("sponsorship",),
    ),
    "star": (("created", "deleted"), ("starred_at", "repository")),
    "status": (
        (),
        ("sha", "name", "target_url", "context", "description", "state", "commit", "branches", "repository"),
    ),
    "sub_issues": (("parent_issue_added", "sub_issue_added"), ("parent_issue", "sub_issue", "repository")),
    "team": (("added_to_repository", "created", "deleted", "edited", "removed_from_repository"), ("team",)),
    "team_add": ((), ("team", "repository")),
    "watch": (("started",), ("repository",)),
    "workflow_dispatch": ((), ("inputs", "ref", "workflow", "repository")),
    "workflow_job": (("completed", "in_progress", "queued", "waiting"), ("workflow_job", "repository")),
    "workflow_run": (("completed", "in_progress", "requested"), ("workflow_run", "workflow", "repository")),
}
"""Every event GitHub documents besides `push` and `release`: its actions, and the objects it carries."""

RELEASE_ACTIONS = ("created", "deleted", "edited", "prereleased", "published", "released", "unpublished")


def every_payload() -> Iterator[tuple[str, dict[str, Any]]]:
    """(event, payload) for every action of every event."""
    for event, (actions, parts) in EVENTS.items():
        for action in actions or (None,):
            carried = {part: _part(part) for part in parts}
            yield event, {**({"action": action} if action else {}), **carried, **_around()}
    for action in RELEASE_ACTIONS:
        yield "release", release(action=action)
    yield "push", push()
    yield "push", push(ref="refs/tags/v1", after=ZERO, deleted=True, head_commit=None, commits=[])


def push(repository: str = "acme/shop", **changes: Any) -> dict[str, Any]:
    """A push of one commit; about 8 KB, most of it the addresses GitHub sends along."""
    before, after = changes.pop("before", "a" * 40), changes.pop("after", "b" * 40)
    message = changes.pop("message", "Merge pull request #7 from acme/fix\n\nMend the till")
    commit = {
        "id": after,
        "tree_id": "c" * 40,
        "distinct": True,
        "message": message,
        "timestamp": "2026-03-01T12:00:00+09:00",
        "url": f"{GITHUB}/{repository}/commit/{after}",
        "author": {"name": "Kim", "email": "kim@example.org", "username": "kim"},
        "committer": {"name": "GitHub", "email": "noreply@github.com", "username": "web-flow"},
        "added": [],
        "removed": [],
        "modified": ["src/till.py"],
    }
    return {
        "ref": "refs/heads/main",
        "before": before,
        "after": after,
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"{GITHUB}/{repository}/compare/{before[:12]}...{after[:12]}",
        "commits": [commit],
        "head_commit": commit,
        "repository": a_repository(repository),
        "pusher": {"name": "kim", "email": "kim@example.org"},
        **_around(),
        **changes,
    }


def release(repository: str = "acme/shop", *, action: str = "published", **changes: Any) -> dict[str, Any]:
    told = {
        "id": 17372790,
        "html_url": f"{GITHUB}/{repository}/releases/tag/v1.2.0",
        "tag_name": "v1.2.0",
        "target_commitish": "main",
        "name": "",
        "draft": False,
        "prerelease": False,
        "published_at": "2026-03-01T12:00:00Z",
        "author": a_user("kim"),
        "assets": [],
        "body": "",
        **changes,
    }
    return {"action": action, "release": told, "repository": a_repository(repository), **_around()}


def a_repository(full_name: str, *, number: int = 186853002) -> dict[str, Any]:
    owner, _, name = full_name.partition("/")
    api = f"{REST}/repos/{full_name}"
    lists = (
        *(
            "forks",
            "keys",
            "collaborators",
            "teams",
            "hooks",
            "issue_events",
            "events",
            "assignees",
            "branches",
            "tags",
        ),
        *("blobs", "git_tags", "git_refs", "trees", "statuses", "languages", "stargazers", "contributors"),
        *("subscribers", "subscription", "commits", "git_commits", "comments", "issue_comment", "contents", "compare"),
        *("merges", "archive", "downloads", "issues", "pulls", "milestones", "notifications", "labels", "releases"),
        "deployments",
    )
    return {
        "id": number,
        "node_id": "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=",
        "name": name,
        "full_name": full_name,
        "private": False,
        "owner": {"name": owner, "email": None, **a_user(owner)},
        "html_url": f"{GITHUB}/{full_name}",
        "description": "Sells things",
        "fork": False,
        "url": api,
        **{f"{each}_url": f"{api}/{each}{{/number}}" for each in lists},
        "created_at": 1557933565,
        "updated_at": "2026-03-01T11:59:00Z",
        "pushed_at": 1772362800,
        "git_url": f"git://github.com/{full_name}.git",
        "ssh_url": f"git@github.com:{full_name}.git",
        "clone_url": f"{GITHUB}/{full_name}.git",
        "default_branch": "main",
        "master_branch": "main",
        "visibility": "public",
        "size": 1024,
        "language": "Python",
        "topics": [],
    }


def a_user(login: str, *, number: int = 21031067) -> dict[str, Any]:
    api = f"{REST}/users/{login}"
    lists = ("followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events")
    return {
        "login": login,
        "id": number,
        "node_id": "MDQ6VXNlcjIxMDMxMDY3",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number}?v=4",
        "gravatar_id": "",
        "url": api,
        "html_url": f"{GITHUB}/{login}",
        **{f"{each}_url": f"{api}/{each}{{/other}}" for each in lists},
        "type": "User",
        "site_admin": False,
    }


def signed(body: bytes, secret: str, *, algorithm: str = "sha256") -> str:
    return f"{algorithm}={hmac.new(secret.encode(), body, getattr(hashlib, algorithm)).hexdigest()}"


def to_bytes(payload: Any) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


def _around() -> dict[str, Any]:
    return {
        "sender": a_user("kim"),
        "installation": {"id": 42, "node_id": "MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9uMQ=="},
        "organization": {"login": "acme", "id": 38302899, "url": f"{REST}/orgs/acme", "description": ""},
    }


def _part(name: str) -> Any:
    """Something of about the right shape: what is ignored is ignored whatever it holds."""
    if name == "repository":
        return a_repository("acme/shop")
    if name in {"number", "id", "hook_id"}:
        return 7
    if name in {"ref", "sha", "name", "status", "state", "zen", "event", "type", "source", "branch", "description"}:
        return "main"
    if name.startswith("repositories") or name in {"pages", "branches"} or name.endswith("_values"):
        return [{"id": 1, "name": "shop", "full_name": "acme/shop", "private": True}]
    return {"id": 1, "node_id": "x", "url": REST, "user": a_user("kim"), "head_sha": "b" * 40, "title": name}
