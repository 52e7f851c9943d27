"""The last line of a demo that leaves nothing running: how it went."""

import time
from collections.abc import Awaitable, Callable

from klepaas.errors import KlepaasError
from klepaas.interfaces.cli import complaint, exit_codes
from klepaas.interfaces.cli.exit_codes import ExitCode
from klepaas.interfaces.cli.screen import Screen


class DidNotGetLive(Exception):
    """A deployment of the demo, which has said itself why."""

    def __init__(self, code: ExitCode) -> None:
        self.code = code


async def told(screen: Screen, go: Callable[[], Awaitable[str]]) -> int:
    """Go a way to its end; its last line is in the words it came back with. Returns the exit code."""
    began = time.monotonic()
    try:
        words = await go()
    except KlepaasError as error:
        complaint.complain(screen, error)
        screen.line(f"demo: failed: {error.message}")
        return exit_codes.of_error(error) or ExitCode.FAILED
    except DidNotGetLive as fault:
        screen.line("demo: failed: a deployment did not get live.")
        return fault.code
    screen.line(f"demo: ok: {words} ({time.monotonic() - began:.1f} s)")
    return ExitCode.LIVE
