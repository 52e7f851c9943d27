"""The klepaas a command speaks to: the one of the login, asked through the typed client."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import httpx

from klepaas.client import Client
from klepaas.errors import Unavailable
from klepaas.interfaces.cli import credentials
from klepaas.interfaces.cli.credentials import Login

T = TypeVar("T")

PATIENCE = timedelta(minutes=2)
"""How long a server may stay away while its deployment is waited for; a restart takes a few seconds."""
RESTS_S = (0.3, 1.0, 2.0)
"""Before a request is sent again under the same key, its answer having been lost."""


def ask(call: Callable[[Client], Awaitable[T]], login: Login | None = None) -> T:
    """Run one conversation with the server to its end.

    Errors: KlepaasError, NotAuthenticated when there is no login; KeyboardInterrupt when interrupted."""

    async def conversation() -> T:
        chosen = login if login is not None else _stored()
        async with Client(chosen.url, chosen.token, patience=PATIENCE) as client:
            return await call(client)

    return asyncio.run(conversation())


def _stored() -> Login:
    from klepaas.settings import ClientSettings

    return credentials.choose(ClientSettings())


async def insist(request: Callable[[], Awaitable[T]]) -> T:
    """Send a request that is one and the same however often it arrives: again when its answer was lost.

    A server that was not reached at all is not asked again: nothing was lost."""
    for rest_s in RESTS_S:
        try:
            return await request()
        except Unavailable as error:
            if not _may_have_arrived(error):
                raise
        await asyncio.sleep(rest_s)
    return await request()


def _may_have_arrived(error: Unavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, httpx.TransportError) and not isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout)
