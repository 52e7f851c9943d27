"""Tokens by which the App acts for one installation: minted when needed, kept until shortly before their end.

Source: GitHub docs, "Create an installation access token for an app"; one lives for an hour."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

ENOUGH_S = 120.0
"""A token that ends sooner is not used for a request any more."""
ENOUGH_FOR_GIT_S = 900.0
"""Nor for git, which may fetch for long and asks several times."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the token must open and no more. `repository` is in lower case; None: only what is about no repository."""

    installation_id: str
    repository: str | None
    permissions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, installation_id: str, repository: str | None, permissions: Mapping[str, str]) -> "Wanted":
        name = repository.lower() if repository is not None else None
        return cls(installation_id=installation_id, repository=name, permissions=tuple(sorted(permissions.items())))


@dataclass(frozen=True, kw_only=True)
class Minted:
    """`ends_at` is a time of `time.monotonic`."""

    token: str = field(repr=False)
    ends_at: float


class InstallationTokens:
    def __init__(self, mint: Callable[[Wanted], Awaitable[Minted]]) -> None:
        self._mint = mint
        self._kept: dict[Wanted, Minted] = {}
        self._coming: dict[Wanted, asyncio.Task[Minted]] = {}

    async def get(self, wanted: Wanted, *, lasts_s: float = ENOUGH_S) -> str:
        """A token that lasts for so long; many who ask at once get the same one. Errors: those of minting."""
        kept = self._kept.get(wanted)
        if kept is not None and kept.ends_at - time.monotonic() >= lasts_s:
            return kept.token
        coming = self._coming.get(wanted)
        if coming is None:
            coming = self._coming[wanted] = asyncio.create_task(self._minted(wanted))
            coming.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Shielded: the one who asked first may be cancelled, the others still wait for it.
        return (await asyncio.shield(coming)).token

    def drop(self, wanted: Wanted, token: str) -> None:
        """GitHub does not take it any more."""
        kept = self._kept.get(wanted)
        if kept is not None and kept.token == token:
            del self._kept[wanted]

    async def close(self) -> None:
        for task in list(self._coming.values()):
            task.cancel()
        await asyncio.gather(*self._coming.values(), return_exceptions=True)

    async def _minted(self, wanted: Wanted) -> Minted:
        try:
            minted = await self._mint(wanted)
            now = time.monotonic()
            self._kept = {each: kept for each, kept in self._kept.items() if kept.ends_at - now >= ENOUGH_S}
            self._kept[wanted] = minted
            return minted
        finally:
            self._coming.pop(wanted, None)
