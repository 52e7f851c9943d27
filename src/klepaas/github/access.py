"""Which GitHub a connection is for, and what is shown there for it: a token, one minted for it, or nothing."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any, TypeVar

from klepaas.domain.connection import Connection, ConnectionKind, Credential
from klepaas.domain.github_app import GitHubApp
from klepaas.errors import AuthenticationFailed, Rejected
from klepaas.github.app_jwt import AppJwt
from klepaas.github.budget import sent_at
from klepaas.github.installation_tokens import ENOUGH_S, InstallationTokens, Minted, Wanted
from klepaas.github.refusal import not_understood, shown_by
from klepaas.github.rest import RestApi, Shown
from klepaas.operations.code_host import Place
from klepaas.outbound import GuardedTransport

T = TypeVar("T")

CONTENTS = {"contents": "read"}
METADATA = {"metadata": "read"}
PULL_REQUESTS = {"pull_requests": "read"}
CHECKS = {"checks": "read", "statuses": "read"}
STATUSES = {"statuses": "write"}
DEPLOYMENTS = {"deployments": "write"}
COMMENTS = {"pull_requests": "write"}
"""What an installation's token may do: no more than the one request needs."""

Permissions = Mapping[str, str]
Call = Callable[[RestApi, Shown], Awaitable[T]]


class Access:
    def __init__(
        self,
        api_url: str,
        *,
        app: Callable[[], Awaitable[GitHubApp | None]],
        open_credential: Callable[[str], Awaitable[Credential]],
        outbound_hosts: Collection[str] = (),
    ) -> None:
        """`api_url` is the operator's own GitHub and may be anywhere; the addresses of others are checked."""
        self.api_url = api_url.rstrip("/")
        self._app, self.open, self._outbound_hosts = app, open_credential, outbound_hosts
        self._jwt = AppJwt()
        self._apis: dict[str, RestApi] = {}
        self._tokens = InstallationTokens(self._mint)
        self._ids: dict[tuple[str, str], int] = {}

    async def close(self) -> None:
        await self._tokens.close()
        for api in self._apis.values():
            await api.close()

    def api(self, connection: Connection | None) -> RestApi:
        """The REST API of the GitHub that the connection is for."""
        url = (connection.api_url if connection is not None else None) or self.api_url
        if url not in self._apis:
            is_ours = url == self.api_url
            transport = None if is_ours else GuardedTransport(self._outbound_hosts)
            self._apis[url] = RestApi(url, transport=transport, follows_redirects=is_ours)
        return self._apis[url]

    async def about(self, place: Place, permissions: Permissions, call: Call[T]) -> T:
        """Ask about a repository with its connection's credential. A token GitHub forgot early is minted once more."""
        connection = place.connection
        if connection is None or connection.kind is ConnectionKind.GIT_BASIC:
            return await call(self.api(None), Shown(who=shown_by(None), account="nobody"))
        if connection.kind is ConnectionKind.GITHUB_TOKEN:
            return await call(self.api(connection), shown_token(connection, await self.open(connection.id)))
        return await self.with_installation(connection, f"{place.owner}/{place.name}", permissions, call)

    async def with_installation(
        self, connection: Connection, repository: str | None, permissions: Permissions, call: Call[T]
    ) -> T:
        wanted = Wanted.of(_installation(connection), repository, permissions)
        for is_last in (False, True):
            token = await self.installation_token(connection, wanted)
            try:
                return await call(self.api(None), _shown_installation(connection, token))
            except AuthenticationFailed:
                self._tokens.drop(wanted, token)
                if is_last:
                    raise
        raise AssertionError("the last try returns or raises")

    async def installation_token(self, connection: Connection, wanted: Wanted, *, lasts_s: float = ENOUGH_S) -> str:
        if connection.api_url not in {None, self.api_url}:
            raise AuthenticationFailed(
                f"The connection {connection.name} belongs to the App of another GitHub.",
                hint="Remove it and add it again.",
            )
        return await self._tokens.get(wanted, lasts_s=lasts_s)

    async def as_app(self) -> Shown:
        """The App itself. Errors: Rejected when this klepaas has none."""
        app = await self._app()
        if app is None:
            raise Rejected("This klepaas has no GitHub App.", hint="Make one: klepaas github connect")
        return Shown(who=f"the GitHub App {app.slug or app.app_id}", account="app", secret=await self._jwt.of(app))

    async def slug(self) -> str:
        """The App's name in addresses, asked for when only the settings name it."""
        app = await self._app()
        if app is not None and app.slug:
            return app.slug
        told = await self.api(None).get("/app", shown=await self.as_app())
        return str(told.data["slug"]) if isinstance(told.data, dict) and "slug" in told.data else ""

    async def _mint(self, wanted: Wanted) -> Minted:
        owner_and_name = wanted.repository
        if owner_and_name is None:
            return await self._ask_for_token(wanted, {})
        number = self._ids.get((wanted.installation_id, owner_and_name))
        if number is not None:
            return await self._ask_for_token(wanted, {"repository_ids": [number]})
        try:
            return await self._ask_for_token(wanted, {"repositories": [owner_and_name.partition("/")[2]]})
        except Rejected as rejected:
            if rejected.evidence.get("status") != 422:
                raise
        # No such name in the installation: the repository may have been renamed, which its old address tells.
        number = await self._renamed(wanted.installation_id, owner_and_name)
        self._ids[(wanted.installation_id, owner_and_name)] = number
        return await self._ask_for_token(wanted, {"repository_ids": [number]})

    async def _renamed(self, installation_id: str, repository: str) -> int:
        token = await self._tokens.get(Wanted.of(installation_id, None, METADATA))
        shown = Shown(who="the installation of its connection", account=f"installation {installation_id}", secret=token)
        told = await self.api(None).get(f"/repos/{repository}", shown=shown, repository=repository)
        try:
            return int(told.data["id"])
        except (KeyError, TypeError, ValueError):
            raise not_understood() from None

    async def _ask_for_token(self, wanted: Wanted, more: Mapping[str, Any]) -> Minted:
        answer = await self.api(None).post(
            f"/app/installations/{wanted.installation_id}/access_tokens",
            {"permissions": dict(wanted.permissions), **more},
            shown=await self.as_app(),
        )
        try:
            ends_at = datetime.fromisoformat(answer.data["expires_at"]).astimezone(UTC).timestamp()
            return Minted(token=answer.data["token"], ends_at=monotonic() + ends_at - sent_at(answer.headers))
        except (KeyError, TypeError, ValueError):
            raise not_understood() from None


def shown_token(connection: Connection, credential: Credential) -> Shown:
    return Shown(who=shown_by(connection), account=connection.id, secret=credential.password)


def _shown_installation(connection: Connection, token: str) -> Shown:
    # GitHub counts per installation, whichever of its tokens is shown.
    return Shown(who=shown_by(connection), account=f"installation {connection.installation_id}", secret=token)


def _installation(connection: Connection) -> str:
    if connection.installation_id is None:
        raise AuthenticationFailed(
            f"The connection {connection.name} names no installation of the GitHub App.", hint="Add it again."
        )
    return connection.installation_id
