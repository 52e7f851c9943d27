"""GitHub, as `klepaas.operations.code_host` asks for it. Nothing is opened before the first question."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from klepaas.domain.connection import Connection, ConnectionKind, Credential
from klepaas.domain.github import (
    Checks,
    DeploymentState,
    Head,
    Lineage,
    PullRequest,
    RepositoryName,
    SentDelivery,
    StatusState,
)
from klepaas.domain.github_app import GitHubApp, Installation
from klepaas.errors import AuthenticationFailed, BranchNotFound, CommitNotFound, Rejected, RepositoryNotFound
from klepaas.github import answers
from klepaas.github.access import (
    CHECKS,
    COMMENTS,
    CONTENTS,
    DEPLOYMENTS,
    METADATA,
    PULL_REQUESTS,
    STATUSES,
    Access,
    Permissions,
    shown_token,
)
from klepaas.github.installation_tokens import ENOUGH_FOR_GIT_S, Wanted
from klepaas.github.refusal import not_understood
from klepaas.github.rest import Answer, RestApi, Shown
from klepaas.operations.code_host import Comparison, Place

PAGE = 100
MAX_PAGES = 10
"""Of one listing: a thousand entries are looked through, not all there ever were."""
MAX_DESCRIPTION = 140
GIT_USER = "x-access-token"
"""The user name by which GitHub knows that the password is a token."""


class GitHub:
    def __init__(
        self,
        api_url: str,
        *,
        app: Callable[[], Awaitable[GitHubApp | None]],
        open_credential: Callable[[str], Awaitable[Credential]],
        outbound_hosts: Collection[str] = (),
    ) -> None:
        self._access = Access(api_url, app=app, open_credential=open_credential, outbound_hosts=outbound_hosts)
        self._logins: dict[str, str] = {}

    async def close(self) -> None:
        await self._access.close()

    async def repository(self, place: Place) -> RepositoryName:
        answer = await self._get(place, METADATA, "")
        installation_id = place.connection.installation_id if place.connection is not None else None
        with _understood():
            return answers.repository(answer.data, installation_id)

    async def head(self, place: Place, branch: str, *, etag: str | None = None) -> Head | None:
        path = f"/branches/{quote(branch, safe='')}"
        try:
            answer = await self._get(place, CONTENTS, path, etag=etag, is_polling=etag is not None)
        except RepositoryNotFound as missing:
            if not str(missing.evidence.get("words", "")).lower().startswith("branch"):
                raise
            raise BranchNotFound(f"{_name(place)} has no branch {branch}.") from None
        if answer.status == 304:
            return None
        with _understood():
            if answer.data["name"] != branch:  # GitHub leads from a renamed branch to its new name
                raise BranchNotFound(
                    f"{_name(place)} has no branch {branch}.", hint=f"It was renamed to {answer.data['name']}."
                )
            return answers.head(answer.data, answer.etag)

    async def tag(self, place: Place, name: str) -> str:
        try:
            answer = await self._get(place, CONTENTS, f"/git/ref/tags/{quote(name, safe='')}")
        except RepositoryNotFound:
            await self.repository(place)
            raise BranchNotFound(f"{_name(place)} has no tag {name}.") from None
        with _understood():
            kind, sha = answer.data["object"]["type"], str(answer.data["object"]["sha"])
            while kind == "tag":
                inner = await self._get(place, CONTENTS, f"/git/tags/{sha}")
                kind, sha = inner.data["object"]["type"], str(inner.data["object"]["sha"])
        if kind != "commit":
            raise Rejected(f"The tag {name} of {_name(place)} names no commit.")
        return sha

    async def pull_requests(self, place: Place, sha: str) -> Sequence[PullRequest]:
        found = await self._pages(place, PULL_REQUESTS, f"/commits/{sha}/pulls")
        with _understood():
            return [answers.pull_request(each) for each in found]

    async def compare(self, place: Place, base: str, head: str) -> Comparison:
        try:
            # The files all come with the first page, and its commits are not read.
            answer = await self._get(place, CONTENTS, f"/compare/{base}...{head}", params={"per_page": 1, "page": 1})
        except RepositoryNotFound as missing:
            if "common ancestor" in str(missing.evidence.get("words", "")).lower():
                return Comparison(lineage=Lineage.DIVERGED, paths=None)
            await self.repository(place)
            raise CommitNotFound(f"GitHub does not know {base[:12]} or {head[:12]} in {_name(place)}.") from None
        with _understood():
            return answers.comparison(answer.data)

    async def checks(self, place: Place, sha: str, *, without: str) -> Checks:
        runs = await self._pages(place, CHECKS, f"/commits/{sha}/check-runs", key="check_runs")
        statuses = await self._pages(place, CHECKS, f"/commits/{sha}/status", key="statuses")
        with _understood():
            return answers.checks(runs, statuses, without=without)

    async def set_status(
        self, place: Place, sha: str, *, context: str, state: StatusState, description: str, url: str | None
    ) -> None:
        body = {"state": state, "context": context, "description": _short(description), "target_url": url}
        await self._post(place, STATUSES, f"/statuses/{sha}", _said(body))

    async def deployments(self, place: Place, *, sha: str, environment: str) -> Mapping[str, int]:
        params = {"sha": sha, "environment": environment}
        found = await self._pages(place, DEPLOYMENTS, "/deployments", params=params)
        with _understood():
            return answers.deployment_keys(found)

    async def create_deployment(
        self, place: Place, *, sha: str, environment: str, key: str, description: str, production: bool
    ) -> int:
        body = {
            "ref": sha,
            "environment": environment,
            "description": _short(description),
            "payload": {answers.PAYLOAD_KEY: key},
            "auto_merge": False,
            "required_contexts": [],  # klepaas decided already; GitHub is told, not asked
            "production_environment": production,
        }
        answer = await self._post(place, DEPLOYMENTS, "/deployments", body)
        with _understood():
            return int(answer.data["id"])

    async def set_deployment_status(
        self,
        place: Place,
        number: int,
        *,
        state: DeploymentState,
        description: str,
        log_url: str | None,
        environment_url: str | None,
    ) -> None:
        body = {
            "state": state,
            "description": _short(description),
            "log_url": log_url,
            "environment_url": environment_url,
            "auto_inactive": False,  # which ones do not run any more is told by us, in production as well
        }
        await self._post(place, DEPLOYMENTS, f"/deployments/{number}/statuses", _said(body))

    async def comment(self, place: Place, pull_request: int, *, marker: str, text: str) -> None:
        ours = await self._own_comment(place, pull_request, marker)
        body = {"body": text}
        if ours is None:
            await self._post(place, COMMENTS, f"/issues/{pull_request}/comments", body)
        elif ours["body"] != text:
            await self._post(place, COMMENTS, f"/issues/comments/{int(ours['id'])}", body, method="PATCH")

    async def sent_deliveries(self, *, after: int | None = None) -> Sequence[SentDelivery]:
        shown, api = await self._access.as_app(), self._access.api(None)
        found: list[SentDelivery] = []
        page = "/app/hook/deliveries?per_page=100"
        for _ in range(MAX_PAGES):
            answer = await api.get(page, shown=shown, is_polling=True)
            with _understood():
                fresh = [answers.sent_delivery(each) for each in answer.data]
            kept = [each for each in fresh if after is None or each.id > after]
            found += kept
            if answer.next_page is None or len(kept) < len(fresh):
                break
            page = answer.next_page
        return found

    async def redeliver(self, delivery: int) -> None:
        path = f"/app/hook/deliveries/{delivery}/attempts"
        await self._access.api(None).post(path, {}, shown=await self._access.as_app())

    async def git_credential(self, connection: Connection, place: Place) -> Credential:
        if connection.kind is not ConnectionKind.GITHUB_APP:
            credential = await self._access.open(connection.id)
            return Credential(username=GIT_USER, password=credential.password, host=connection.host)
        wanted = Wanted.of(connection.installation_id or "", _name(place), CONTENTS)
        token = await self._access.installation_token(connection, wanted, lasts_s=ENOUGH_FOR_GIT_S)
        return Credential(username=GIT_USER, password=token, host=connection.host)

    async def identify(self, connection: Connection, credential: Credential | None = None) -> str:
        if connection.kind is ConnectionKind.GITHUB_APP:
            path = f"/app/installations/{connection.installation_id}"
            answer = await self._access.api(None).get(path, shown=await self._access.as_app())
            with _understood():
                found = answers.installation(answer.data)
            if found.suspended:
                raise AuthenticationFailed(f"The installation of the App on {found.account} is suspended.")
            return found.account
        shown = shown_token(connection, credential or await self._access.open(connection.id))
        answer = await self._access.api(connection).get("/user", shown=shown)
        with _understood():
            return str(answer.data["login"])

    async def installations(self) -> Sequence[Installation]:
        shown = await self._access.as_app()
        found = await _all_pages(self._access.api(None), shown, "/app/installations", None, {})
        with _understood():
            return [answers.installation(each) for each in found]

    async def create_app(self, code: str) -> GitHubApp:
        path = f"/app-manifests/{quote(code, safe='')}/conversions"
        answer = await self._access.api(None).post(path, {}, shown=Shown(who="the new App's code", account="nobody"))
        with _understood():
            return answers.app(answer.data)

    async def _own_comment(self, place: Place, pull_request: int, marker: str) -> Any:
        """Ours among those with the marker: anybody can write one, and only ours is ours to change."""
        found = await self._pages(place, COMMENTS, f"/issues/{pull_request}/comments")
        with _understood():
            marked = [each for each in found if marker in (each["body"] or "")]
            if not marked:
                return None
            author = await self._author(place)
            return next((each for each in marked if each["user"] and each["user"]["login"] == author), None)

    async def _author(self, place: Place) -> str:
        """Under which name we write there."""
        connection = place.connection
        if connection is None:
            return ""
        if connection.id not in self._logins:
            is_app = connection.kind is ConnectionKind.GITHUB_APP
            login = f"{await self._access.slug()}[bot]" if is_app else await self.identify(connection)
            self._logins[connection.id] = login
        return self._logins[connection.id]

    async def _get(
        self,
        place: Place,
        permissions: Permissions,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        etag: str | None = None,
        is_polling: bool = False,
    ) -> Answer:
        async def ask(api: RestApi, shown: Shown) -> Answer:
            return await api.get(
                f"{_path(place)}{path}",
                shown=shown,
                repository=_name(place),
                params=params,
                etag=etag,
                is_polling=is_polling,
            )

        return await self._access.about(place, permissions, ask)

    async def _post(
        self, place: Place, permissions: Permissions, path: str, body: Mapping[str, Any], *, method: str = "POST"
    ) -> Answer:
        async def tell(api: RestApi, shown: Shown) -> Answer:
            return await api.post(f"{_path(place)}{path}", body, shown=shown, repository=_name(place), method=method)

        return await self._access.about(place, permissions, tell)

    async def _pages(
        self,
        place: Place,
        permissions: Permissions,
        path: str,
        *,
        key: str | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> list[Any]:
        async def ask(api: RestApi, shown: Shown) -> list[Any]:
            return await _all_pages(api, shown, f"{_path(place)}{path}", key, params or {}, repository=_name(place))

        return await self._access.about(place, permissions, ask)


async def _all_pages(
    api: RestApi,
    shown: Shown,
    path: str,
    key: str | None,
    params: Mapping[str, str | int],
    *,
    repository: str | None = None,
) -> list[Any]:
    """The entries of a listing, which stand under `key` or are the whole answer."""
    found: list[Any] = []
    page = path
    query: Mapping[str, str | int] | None = {**params, "per_page": PAGE}
    for _ in range(MAX_PAGES):
        answer = await api.get(page, shown=shown, repository=repository, params=query)
        with _understood():
            found += answer.data[key] if key is not None else answer.data
        if answer.next_page is None:
            break
        page, query = answer.next_page, None
    return found


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise not_understood() from None


def _name(place: Place) -> str:
    return f"{place.owner}/{place.name}"


def _path(place: Place) -> str:
    return f"/repos/{quote(place.owner, safe='')}/{quote(place.name, safe='')}"


def _short(text: str) -> str:
    """GitHub refuses a longer one."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_DESCRIPTION else f"{line[: MAX_DESCRIPTION - 1]}…"


def _said(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
