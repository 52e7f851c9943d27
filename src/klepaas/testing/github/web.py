"""The few pages a browser needs: making an App from a manifest, installing it, and a look at a repository."""

import html
import json
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from klepaas.testing.github.repository import Repository
from klepaas.testing.github.world import World


class Web:
    def __init__(self, world: World) -> None:
        self._world = world

    async def respond(self, request: Request) -> Response:
        path = request.url.path.strip("/").split("/")
        match path:
            case ["settings", "apps", "new"]:
                return await self._new_app(request, "klepaas-dev")
            case ["organizations", owner, "settings", "apps", "new"]:
                return await self._new_app(request, owner)
            case ["apps", slug, "installations", "new"]:
                return self._install(request, slug)
            case [owner, name, *_] if (found := self._world.find(f"{owner}/{name}")) is not None:
                return HTMLResponse(_page(found.full_name, _repository(found)))
            case _:
                return HTMLResponse(_page("Not found", "There is no such page."), 404)

    async def _new_app(self, request: Request, owner: str) -> Response:
        """With a manifest in the form: as if its reader had said yes at once."""
        fields = parse_qs((await request.body()).decode()) if request.method == "POST" else {}
        try:
            manifest = json.loads(fields["manifest"][0])
            redirect = manifest["redirect_url"]
        except (KeyError, ValueError, TypeError):
            return HTMLResponse(_page("Register new GitHub App", "A form with a manifest is expected here."), 422)
        code = secrets.token_hex(20)
        self._world.manifests[code] = {**manifest, "owner": owner}
        state = request.query_params.get("state") or fields.get("state", [""])[0]
        return RedirectResponse(_with(redirect, {"code": code, **({"state": state} if state else {})}), 302)

    def _install(self, request: Request, slug: str) -> Response:
        """As if its reader had chosen all repositories of the owner of the App, or of `?account=`."""
        app = next((app for app in self._world.apps.values() if app.slug == slug), None)
        if app is None:
            return HTMLResponse(_page("Not found", "There is no such App."), 404)
        installed = self._world.install(app, request.query_params.get("account", app.owner.login), None)
        if not app.setup_url:
            return HTMLResponse(_page(f"{app.name} is installed", f"Installation {installed.id}"))
        asked = {name: request.query_params[name] for name in ("state",) if name in request.query_params}
        answer = {"installation_id": str(installed.id), "setup_action": "install", **asked}
        return RedirectResponse(_with(app.setup_url, answer), 302)


def _with(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def _repository(repository: Repository) -> str:
    pulls = [f"#{p.number} {p.title}: {'merged' if p.merged_at else p.state}" for p in repository.pulls.values()]
    deployments = [
        f"{d.environment} {d.sha[:7]}: {' → '.join(d.states)}" for d in reversed(repository.deployments.values())
    ]
    statuses = [f"{s.sha[:7]} {s.context}: {s.state}, {s.description or ''}" for s in reversed(repository.statuses)]
    comments = [f"#{c.number} {c.author.login}: {c.body}" for c in repository.comments.values()]
    lists = {"Pull requests": pulls, "Deployments": deployments, "Statuses": statuses, "Comments": comments}
    return "".join(f"<h2>{name}</h2><ul>{_items(items)}</ul>" for name, items in lists.items())


def _items(items: list[str]) -> str:
    return "".join(f"<li>{html.escape(item)}</li>" for item in items)


def _page(title: str, body: str) -> str:
    safe = html.escape(title)
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{safe}</title><h1>{safe}</h1>{body}</html>"
