"""The end of the manifest flow: a code, given out by the page `/settings/apps/new`, becomes an App."""

import secrets

from starlette.responses import Response

from klepaas.testing.github import app_jwt
from klepaas.testing.github.routing import Asked, Route, answer, not_found


async def convert(asked: Asked) -> Response:
    """Each code works once."""
    manifest = asked.world.manifests.pop(asked.parts["code"], None)
    if manifest is None:
        raise not_found()
    hook = manifest.get("hook_attributes") or {}
    name = str(manifest.get("name") or "app")
    app = asked.world.create_app(
        "-".join(name.lower().split()),
        owner=str(manifest["owner"]),
        name=name,
        webhook_secret=secrets.token_hex(20),
        url=str(hook.get("url", "")) if hook.get("active", True) else "",
        permissions={"metadata": "read", **(manifest.get("default_permissions") or {})},
        events=tuple(manifest.get("default_events") or ()),
        key=app_jwt.new_key(),
    )
    app.external_url, app.setup_url = str(manifest.get("url", "")), str(manifest.get("setup_url") or "")
    if app.hook.url:
        asked.world.ping(app.hook)
    secret_parts = {
        "client_secret": secrets.token_hex(20),
        "webhook_secret": app.webhook_secret if app.hook.url else None,
        "pem": app.private_key_pem,
    }
    return answer({**app.json(asked.world.links), **secret_parts}, 201)


ROUTES: list[Route] = [("POST", "/app-manifests/{code}/conversions", convert)]
