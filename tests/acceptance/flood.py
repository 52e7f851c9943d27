"""Webhooks by the thousand: kept as whole requests, sent over a few connections that survive klepaas's deaths."""

import asyncio
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONNECTIONS = 16


@dataclass(frozen=True)
class Webhook:
    guid: str
    event: str
    body: bytes = field(repr=False)
    signature: str = field(repr=False)

    @classmethod
    def of(cls, payload: Mapping[str, Any], secret: str, *, event: str = "push", guid: str = "") -> "Webhook":
        """Signed as GitHub would sign it; without a `guid` it gets one of its own."""
        body = json.dumps(payload, separators=(",", ":")).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return cls(guid or str(uuid.uuid4()), event, body, f"sha256={signature}")

    def request(self, path: str, host: str) -> bytes:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self.body)}\r\nX-GitHub-Event: {self.event}\r\nX-GitHub-Delivery: {self.guid}\r\n"
            f"X-Hub-Signature-256: {self.signature}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass
class Flood:
    """`url` is where klepaas takes webhooks now; nothing is sent while it is empty. Like GitHub it sends each once:
    what a death of klepaas cuts off is lost."""

    path: str
    url: str = ""
    taken: set[str] = field(default_factory=set)
    """The ids of those that were answered 200."""
    answered: int = 0
    cut_off: int = 0
    refused: list[int] = field(default_factory=list)
    """Any other status."""

    @property
    def sent(self) -> int:
        return self.answered + self.cut_off

    async def send(self, webhooks: Sequence[Webhook]) -> None:
        """Return when each was answered or cut off."""
        waiting = list(reversed(webhooks))
        async with asyncio.TaskGroup() as senders:
            for _ in range(CONNECTIONS):
                senders.create_task(self._empty(waiting))

    async def _empty(self, waiting: list[Webhook]) -> None:
        while waiting:
            url = await self._open()
            host = urlsplit(url).netloc
            try:
                reader, writer = await asyncio.open_connection(*host.rsplit(":", 1))
            except OSError:
                await asyncio.sleep(0.05)
                continue
            try:
                while waiting and self.url == url:
                    await self._exchange(waiting.pop(), reader, writer, host)
            except (OSError, EOFError):
                self.cut_off += 1
            finally:
                writer.close()

    async def _open(self) -> str:
        while not self.url:
            await asyncio.sleep(0.02)
        return self.url

    async def _exchange(
        self, webhook: Webhook, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
    ) -> None:
        writer.write(webhook.request(self.path, host))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
        status = int(head.split()[1])
        self.answered += 1
        if status == 200:
            self.taken.add(webhook.guid)
        else:
            self.refused.append(status)
