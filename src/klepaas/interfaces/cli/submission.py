"""Send a request for a deployment or rollback, then wait for the one it led to."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from klepaas.client import Client
from klepaas.interfaces.cli import outcome
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.screen import Screen
from klepaas.interfaces.cli.server import insist
from klepaas.interfaces.cli.waiting import Attendance, Wishes

Send = Callable[[str], Awaitable[dict[str, Any]]]
"""Sends the request under a key."""


async def submit(client: Client, screen: Screen, send: Send, *, key: str | None, wishes: Wishes | None) -> ExitCode:
    """`wishes` None: do not wait. The request has a key in any case, so that a lost answer is asked for again."""
    name = key or str(uuid.uuid4())
    try:
        accepted = await insist(lambda: send(name))
    except asyncio.CancelledError:
        screen.say(f"Interrupted before klepaas answered. To send the same request again, never twice: --key {name}")
        raise
    deployment = accepted["deployment"]
    _announce(screen, accepted)
    if wishes is None:
        screen.json(deployment)
        screen.line(deployment["id"])
        screen.say(f"Follow it: klepaas status {deployment['id']} --watch")
        return ExitCode.LIVE
    return await Attendance(client, deployment, screen).until_over(wishes)


def _announce(screen: Screen, accepted: dict[str, Any]) -> None:
    deployment = accepted["deployment"]
    screen.say(outcome.heading(deployment), style="bold")
    if not accepted.get("is_new", True):
        screen.say("The same request was accepted before; this is its deployment.")
    for older in accepted.get("superseded") or ():
        screen.say(f"It replaces {older}, which was still waiting.")
    if note := deployment.get("note"):
        screen.say(note)
