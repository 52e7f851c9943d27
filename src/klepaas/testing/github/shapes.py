"""The pieces of JSON that many answers share: times, node ids, accounts, repositories.

Source: GitHub's OpenAPI description, schemas `simple-user`, `full-repository` and `minimal-repository`."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True)
class Links:
    """Where things of this stand-in are: `web` (also git) and `api` without a slash at their ends."""

    web: str
    api: str


@dataclass(frozen=True)
class Account:
    """`kind` as GitHub says it."""

    id: int
    login: str
    kind: Literal["User", "Organization", "Bot"]

    @property
    def email(self) -> str:
        return f"{self.id}+{self.login}@users.noreply.github.com"


def when(moment: datetime | None) -> str | None:
    """A time as GitHub writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def node_id(kind: str, number: object) -> str:
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def user(account: Account, links: Links) -> Json:
    api, web = f"{links.api}/users/{account.login}", f"{links.web}/{account.login.removesuffix('[bot]')}"
    return {
        "login": account.login,
        "id": account.id,
        "node_id": node_id(account.kind, account.id),
        "avatar_url": f"{links.web}/avatars/u/{account.id}?v=4",
        "gravatar_id": "",
        "url": api,
        "html_url": web,
        "followers_url": f"{api}/followers",
        "following_url": f"{api}/following{{/other_user}}",
        "gists_url": f"{api}/gists{{/gist_id}}",
        "starred_url": f"{api}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{api}/subscriptions",
        "organizations_url": f"{api}/orgs",
        "repos_url": f"{api}/repos",
        "events_url": f"{api}/events{{/privacy}}",
        "received_events_url": f"{api}/received_events",
        "type": account.kind,
        "user_view_type": "public",
        "site_admin": False,
    }


_REPOSITORY_LINKS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


def repository(
    *,
    number: int,
    name: str,
    owner: Account,
    private: bool,
    default_branch: str,
    created_at: datetime,
    pushed_at: datetime,
    permissions: Mapping[str, bool] | None,
    links: Links,
) -> Json:
    """`permissions` are the caller's; None leaves them away, as in payloads."""
    full_name = f"{owner.login}/{name}"
    api, web = f"{links.api}/repos/{full_name}", f"{links.web}/{full_name}"
    host = links.web.partition("://")[2]
    return {
        "id": number,
        "node_id": node_id("Repository", number),
        "name": name,
        "full_name": full_name,
        "private": private,
        "visibility": "private" if private else "public",
        "owner": user(owner, links),
        "html_url": web,
        "description": None,
        "fork": False,
        "url": api,
        **{key: f"{api}{rest}" for key, rest in _REPOSITORY_LINKS.items()},
        "git_url": f"git://{host}/{full_name}.git",
        "ssh_url": f"git@{host.partition(':')[0]}:{full_name}.git",
        "clone_url": f"{web}.git",
        "svn_url": web,
        "mirror_url": None,
        "homepage": None,
        "language": None,
        "license": None,
        "topics": [],
        "default_branch": default_branch,
        "created_at": when(created_at),
        "updated_at": when(pushed_at),
        "pushed_at": when(pushed_at),
        **dict.fromkeys(("size", "forks", "forks_count", "stargazers_count", "watchers", "watchers_count"), 0),
        **dict.fromkeys(("open_issues", "open_issues_count", "subscribers_count", "network_count"), 0),
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_downloads", "allow_forking"), True),
        **dict.fromkeys(("allow_merge_commit", "allow_squash_merge", "allow_rebase_merge"), True),
        **dict.fromkeys(("has_pages", "has_discussions", "archived", "disabled", "is_template"), False),
        **dict.fromkeys(("allow_auto_merge", "delete_branch_on_merge", "web_commit_signoff_required"), False),
        **({"permissions": dict(permissions)} if permissions is not None else {}),
    }
