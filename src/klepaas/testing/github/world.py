"""All that a stand-in knows: accounts, repositories, Apps, installations, tokens. Changed only on its server's loop."""

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from klepaas.testing.git.repository import GitRepository
from klepaas.testing.github import app_jwt
from klepaas.testing.github.apps import EVENTS, PERMISSIONS, App, Installation
from klepaas.testing.github.callers import NOBODY, Caller, Token, new_token
from klepaas.testing.github.faults import Faults
from klepaas.testing.github.hooks import Delivery, Hook, packed
from klepaas.testing.github.postman import Postman
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.shapes import Account, Json, Links, node_id, user

FIRST_IDS = {"delivery": 2_147_483_648_000_001, "repository": 710_000_001, "installation": 47_000_001, "app": 910_001}
"""Deliveries have ids beyond 32 bits, as GitHub's do; it trips who stores them as a plain integer."""


class World:
    def __init__(self, links: Links, folder: Path) -> None:
        self.links, self.folder = links, folder
        self.faults = Faults()
        self.clock_ahead = timedelta()
        """How far GitHub's clock is ahead of this machine's; a test moves it to let tokens expire."""
        self.token_lifetime = timedelta(hours=1)
        self._counters: dict[str, Iterator[int]] = {}
        self.postman = Postman(self.faults, self.now, lambda: self.next_id("delivery"))
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[int, Repository] = {}
        self.names: dict[str, int] = {}
        """Lower-case full name → id; also the names repositories had before."""
        self.apps: dict[int, App] = {}
        self.installations: dict[int, Installation] = {}
        self.tokens: dict[str, Token] = {}
        self.manifests: dict[str, Mapping[str, Any]] = {}
        """Code → manifest of an App that is not yet made."""

    def now(self) -> datetime:
        return datetime.now(UTC) + self.clock_ahead

    def next_id(self, kind: str) -> int:
        if kind not in self._counters:
            self._counters[kind] = itertools.count(FIRST_IDS.get(kind, 1_000_001))
        return next(self._counters[kind])

    def account(self, login: str, kind: Literal["User", "Organization", "Bot"] = "Organization") -> Account:
        """The account of that name, made when it is new."""
        if login.lower() not in self.accounts:
            self.accounts[login.lower()] = Account(self.next_id("account"), login, kind)
        return self.accounts[login.lower()]

    # Repositories

    def create_repository(self, full_name: str, *, private: bool, default_branch: str) -> Repository:
        owner, _, name = full_name.partition("/")
        number = self.next_id("repository")
        git = GitRepository(self.folder / f"{number}.git")
        git.create(default_branch)
        made = Repository(
            id=number,
            name=name,
            owner=self.account(owner),
            private=private,
            default_branch=default_branch,
            git=git,
            created_at=self.now(),
            pushed_at=self.now(),
        )
        self.repositories[number] = made
        self.names[full_name.lower()] = number
        return made

    def find(self, full_name: str) -> Repository | None:
        """By its name or one it had before, in any case."""
        number = self.names.get(full_name.lower())
        return self.repositories.get(number) if number is not None else None

    def rename(self, repository: Repository, full_name: str) -> None:
        """The old name keeps leading here until another repository takes it."""
        owner, _, name = full_name.rpartition("/")
        if owner:
            repository.owner = self.account(owner)
        repository.name = name
        self.names[repository.full_name.lower()] = repository.id

    # Apps and installations

    def create_app(
        self,
        slug: str,
        *,
        owner: str = "klepaas-dev",
        name: str = "",
        webhook_secret: str = "",
        url: str = "",
        permissions: Mapping[str, str] | None = None,
        events: Sequence[str] = EVENTS,
        key: Any = None,
    ) -> App:
        number = self.next_id("app")
        hook = Hook(
            id=self.next_id("hook"),
            target="integration",
            target_id=number,
            url=url,
            secret=webhook_secret,
            events=tuple(events),
            created_at=self.now(),
        )
        made = App(
            app_id=number,
            slug=slug,
            name=name or slug,
            owner=self.account(owner),
            bot=self.account(f"{slug}[bot]", "Bot"),
            key=key or app_jwt.shared_key(),
            hook=hook,
            created_at=self.now(),
            permissions=dict(permissions or PERMISSIONS),
            events=tuple(events),
        )
        self.apps[number] = made
        return made

    def install(self, app: App, login: str, repositories: Sequence[int] | None) -> Installation:
        made = Installation(
            id=self.next_id("installation"),
            app=app,
            account=self.account(login),
            repositories=set(repositories) if repositories is not None else None,
            permissions=dict(app.permissions),
            created_at=self.now(),
        )
        self.installations[made.id] = made
        self.tell_installation(made, "created")
        return made

    def repositories_of(self, installation: Installation) -> list[Repository]:
        owned = [repo for repo in self.repositories.values() if repo.owner == installation.account]
        return [r for r in owned if installation.repositories is None or r.id in installation.repositories]

    def installation_of(self, app: App, repository: Repository) -> Installation | None:
        return next(
            (i for i in self.installations.values() if i.app is app and repository in self.repositories_of(i)), None
        )

    # Tokens

    def create_token(
        self, login: str, repositories: Sequence[int] | None, permissions: Mapping[str, str] | None
    ) -> str:
        """A personal access token, `ghp_…`."""
        value = new_token("ghp")
        only = frozenset(repositories) if repositories is not None else None
        self.tokens[value] = Token(value, self.account(login, "User"), only, permissions)
        return value

    def create_installation_token(
        self, installation: Installation, repositories: frozenset[int] | None, permissions: Mapping[str, str]
    ) -> Token:
        token = Token(
            value=new_token("ghs"),
            account=installation.app.bot,
            repositories=repositories,
            permissions=permissions,
            installation_id=installation.id,
            expires_at=self.now() + self.token_lifetime,
        )
        self.tokens[token.value] = token
        return token

    def caller_with(self, value: str) -> Caller | None:
        """Who shows this token; None when it is unknown, expired or its installation gone."""
        token = self.tokens.get(value)
        if token is None or (token.expires_at is not None and token.expires_at <= self.now()):
            return None
        if token.installation_id is None:
            return Caller("user", f"user {token.account.login}", token.account, token.repositories, token.permissions)
        installation = self.installations.get(token.installation_id)
        if installation is None:
            return None
        reachable = frozenset(repo.id for repo in self.repositories_of(installation))
        return Caller(
            kind="installation",
            budget=f"installation {installation.id}",
            account=token.account,
            repositories=reachable if token.repositories is None else reachable & token.repositories,
            permissions=token.permissions,
            app_id=installation.app.app_id,
            installation_id=installation.id,
        )

    def app_with(self, jwt: str) -> Caller:
        """The App that signed this. Errors: BadToken."""
        issuer = app_jwt.issuer(jwt)
        app = next((a for a in self.apps.values() if issuer in (str(a.app_id), a.client_id)), None)
        if app is None:
            raise app_jwt.BadToken("Integration not found")
        app_jwt.check(jwt, app.key.public_key(), self.now())
        return Caller("app", f"app {app.app_id}", app.bot, frozenset(), {}, app_id=app.app_id)

    @property
    def nobody(self) -> Caller:
        return NOBODY

    # Webhooks

    def tell(self, event: str, repository: Repository, payload: Json, *, sender: Account, action: str = "") -> None:
        """Post a webhook about a repository to every hook that wants it; all of them get the same GUID."""
        guid = str(uuid.uuid4())
        common = {"repository": payload.get("repository") or repository.json(self.links)}
        if repository.owner.kind == "Organization":
            common["organization"] = self._organization(repository.owner)
        whole = {**({"action": action} if action else {}), **payload, **common, "sender": user(sender, self.links)}
        for hook in repository.hooks.values():
            self._post(hook, guid, event, action, whole, None, repository.id)
        for app in self.apps.values():
            installed = self.installation_of(app, repository)
            if installed is not None and installed.suspended_at is None:
                about = {"installation": {"id": installed.id, "node_id": node_id("Installation", installed.id)}}
                self._post(app.hook, guid, event, action, {**whole, **about}, installed.id, repository.id)

    def tell_installation(self, installation: Installation, action: str) -> None:
        """`created`, `deleted`, `suspend` or `unsuspend`."""
        payload = {
            "action": action,
            "installation": installation.json(self.links),
            "repositories": [_brief(repo) for repo in self.repositories_of(installation)],
            "requester": None,
            "sender": user(installation.account, self.links),
        }
        self._post(installation.app.hook, str(uuid.uuid4()), "installation", action, payload, installation.id, None)

    def tell_selection(
        self, installation: Installation, added: Sequence[Repository], removed: Sequence[Repository]
    ) -> None:
        action = "added" if added else "removed"
        payload = {
            "action": action,
            "installation": installation.json(self.links),
            "repository_selection": "all" if installation.repositories is None else "selected",
            "repositories_added": [_brief(repo) for repo in added],
            "repositories_removed": [_brief(repo) for repo in removed],
            "requester": None,
            "sender": user(installation.account, self.links),
        }
        guid = str(uuid.uuid4())
        hook = installation.app.hook
        self._post(hook, guid, "installation_repositories", action, payload, installation.id, None)

    def ping(self, hook: Hook, repository: Repository | None = None) -> None:
        """GitHub's first words to a new hook."""
        about = hook.json(repository.api(self.links) if repository else self.links.api)
        if hook.target == "integration":
            about = {**about, "type": "App", "app_id": hook.target_id}
        payload: Json = {"zen": "Design for failure.", "hook_id": hook.id, "hook": about}
        if repository is not None:
            payload |= {"repository": repository.json(self.links), "sender": user(repository.owner, self.links)}
        self._post(hook, str(uuid.uuid4()), "ping", "", payload, None, repository.id if repository else None)

    def _post(
        self,
        hook: Hook,
        guid: str,
        event: str,
        action: str,
        payload: Json,
        installation_id: int | None,
        repository_id: int | None,
    ) -> None:
        if hook.wants(event):
            self.postman.post(
                Delivery(
                    guid=guid,
                    event=event,
                    action=action or None,
                    hook=hook,
                    packed=packed(payload),
                    installation_id=installation_id,
                    repository_id=repository_id,
                )
            )

    def _organization(self, account: Account) -> Json:
        api = f"{self.links.api}/orgs/{account.login}"
        return {
            "login": account.login,
            "id": account.id,
            "node_id": node_id("Organization", account.id),
            "url": api,
            **{f"{name}_url": f"{api}/{name}" for name in ("repos", "events", "hooks", "issues")},
            "members_url": f"{api}/members{{/member}}",
            "public_members_url": f"{api}/public_members{{/member}}",
            "avatar_url": f"{self.links.web}/avatars/u/{account.id}?v=4",
            "description": None,
        }


def _brief(repository: Repository) -> Json:
    return {
        "id": repository.id,
        "node_id": node_id("Repository", repository.id),
        "name": repository.name,
        "full_name": repository.full_name,
        "private": repository.private,
    }
