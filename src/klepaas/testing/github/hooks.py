"""Where webhooks go: the App's one, or a repository's own ones; and every attempt to send one.

Source: OpenAPI schemas `hook`, `hook-delivery-item`, `hook-delivery`; GitHub's page on webhook headers."""

import hashlib
import hmac
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from klepaas.testing.github.shapes import Json, when


@dataclass
class Hook:
    """`target_id` is the App's or the repository's id. Without a `url` nothing is sent and nothing recorded."""

    id: int
    target: Literal["integration", "repository"]
    target_id: int
    url: str
    secret: str = field(repr=False)
    events: Sequence[str] = ("push",)
    content_type: str = "json"
    active: bool = True
    created_at: datetime | None = None
    last_status: int | None = None

    def wants(self, event: str) -> bool:
        """An App is told of its installations, and every hook of its own beginning, without asking for it."""
        always = ("ping", "installation", "installation_repositories") if self.target == "integration" else ("ping",)
        return bool(self.url) and self.active and (event in self.events or "*" in self.events or event in always)

    def json(self, repository_api: str) -> Json:
        api = f"{repository_api}/hooks/{self.id}"
        return {
            "type": "Repository",
            "id": self.id,
            "name": "web",
            "active": self.active,
            "events": list(self.events),
            "config": self.config_json(),
            "updated_at": when(self.created_at),
            "created_at": when(self.created_at),
            "url": api,
            "test_url": f"{api}/test",
            "ping_url": f"{api}/pings",
            "deliveries_url": f"{api}/deliveries",
            "last_response": {
                "code": self.last_status,
                "status": "unused" if self.last_status is None else "active",
                "message": None,
            },
        }

    def config_json(self) -> Json:
        secret = {"secret": "********"} if self.secret else {}
        return {"url": self.url, "content_type": self.content_type, "insecure_ssl": "0", **secret}


@dataclass
class Delivery:
    """One attempt. `status_code` 0 and `status` other than OK when there was no answer; `id` 0 while it is not sent."""

    guid: str
    event: str
    action: str | None
    hook: Hook = field(repr=False)
    packed: bytes = field(repr=False)
    """The payload as JSON, compressed: a test may send ten thousand."""
    installation_id: int | None
    repository_id: int | None
    id: int = 0
    redelivery: bool = False
    delivered_at: datetime | None = None
    duration_s: float = 0.0
    status: str = ""
    status_code: int = 0
    request_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    response_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    response: str = field(default="", repr=False)

    @property
    def payload(self) -> Json:
        found: Json = json.loads(self._text())
        return found

    def again(self) -> "Delivery":
        """The same, to be sent once more."""
        about = (self.guid, self.event, self.action, self.hook, self.packed)
        return Delivery(*about, self.installation_id, self.repository_id, redelivery=True)

    def body(self) -> bytes:
        """What is sent, byte for byte."""
        text = self._text()
        return urlencode({"payload": text.decode()}).encode() if self.hook.content_type == "form" else text

    def _text(self) -> bytes:
        return zlib.decompress(self.packed)

    def headers(self, body: bytes) -> dict[str, str]:
        """What it is sent with; signed when the hook has a secret."""
        form = self.hook.content_type == "form"
        signed = {
            "X-Hub-Signature": f"sha1={_hmac(self.hook.secret, body, hashlib.sha1)}",
            "X-Hub-Signature-256": f"sha256={_hmac(self.hook.secret, body, hashlib.sha256)}",
        }
        return {
            "Accept": "*/*",
            "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
            "User-Agent": "GitHub-Hookshot/5tand1n",
            "X-GitHub-Delivery": self.guid,
            "X-GitHub-Event": self.event,
            "X-GitHub-Hook-ID": str(self.hook.id),
            "X-GitHub-Hook-Installation-Target-ID": str(self.hook.target_id),
            "X-GitHub-Hook-Installation-Target-Type": self.hook.target,
            **(signed if self.hook.secret else {}),
        }

    def json(self, *, whole: bool) -> Json:
        """`whole` adds what was sent and answered, and where."""
        item = {
            "id": self.id,
            "guid": self.guid,
            "delivered_at": when(self.delivered_at),
            "redelivery": self.redelivery,
            "duration": round(self.duration_s, 2),
            "status": self.status,
            "status_code": self.status_code,
            "event": self.event,
            "action": self.action,
            "installation_id": self.installation_id,
            "repository_id": self.repository_id,
            "throttled_at": None,
        }
        if not whole:
            return item
        answer = {"headers": dict(self.response_headers), "payload": self.response}
        request = {"headers": dict(self.request_headers), "payload": self.payload}
        return {**item, "url": self.hook.url, "request": request, "response": answer}


def packed(payload: Json) -> bytes:
    return zlib.compress(json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode(), 1)


def _hmac(secret: str, body: bytes, how: Any) -> str:
    return hmac.new(secret.encode(), body, how).hexdigest()
