"""What a verb's exit code says, and the two tables that lead to it: from an error, and from a deployment's end."""

from collections.abc import Mapping
from enum import IntEnum

from klepaas.errors import (
    BranchNotFound,
    CommitNotFound,
    Conflict,
    ImageMissing,
    Invalid,
    KlepaasError,
    NotAllowed,
    NotFound,
    Refused,
    Rejected,
    RepositoryNotFound,
    Unavailable,
)


class ExitCode(IntEnum):
    LIVE = 0
    """The asked version is live and healthy; or what was asked for is done."""
    FAILED = 1
    """It failed; the previous version still serves."""
    USAGE = 2
    """The command was used wrongly; nothing was touched."""
    ROLLED_BACK = 3
    """It had traffic, failed, and the previous version was brought back automatically."""
    NOT_FOUND = 4
    """Not found, no candidate, image missing: nothing was touched."""
    NOT_ALLOWED = 5
    CONFLICT = 6
    """Superseded, locked or in conflict."""
    UNKNOWN = 7
    """Somebody cannot be reached, so the outcome is not known; klepaas finds out and records it."""
    TIMED_OUT = 124
    """Waiting took too long; the deployment goes on."""
    DETACHED = 130
    """The user stopped waiting; the deployment goes on."""


BY_ERROR: Mapping[type[KlepaasError], ExitCode] = {
    NotFound: ExitCode.NOT_FOUND,
    RepositoryNotFound: ExitCode.NOT_FOUND,
    BranchNotFound: ExitCode.NOT_FOUND,
    CommitNotFound: ExitCode.NOT_FOUND,
    ImageMissing: ExitCode.NOT_FOUND,
    NotAllowed: ExitCode.NOT_ALLOWED,
    Conflict: ExitCode.CONFLICT,
    Invalid: ExitCode.USAGE,
    Refused: ExitCode.USAGE,
    Unavailable: ExitCode.UNKNOWN,
    Rejected: ExitCode.FAILED,
    KlepaasError: ExitCode.UNKNOWN,
}
"""An error class stands for those below it in the tree of `errors.py` that are not named here."""

BY_STATUS: Mapping[str, ExitCode] = {
    "succeeded": ExitCode.LIVE,
    "failed": ExitCode.FAILED,
    "cancelled": ExitCode.FAILED,
    "rolled_back_automatically": ExitCode.ROLLED_BACK,
    "superseded": ExitCode.CONFLICT,
    "unknown": ExitCode.UNKNOWN,
}
"""How a deployment stands when waiting for it is over."""

BY_HEALTH: Mapping[str, ExitCode] = {"healthy": ExitCode.LIVE, "unknown": ExitCode.UNKNOWN}
"""How a live release was last seen; anything else is ExitCode.FAILED."""


def of_error(error: KlepaasError) -> ExitCode:
    return next(BY_ERROR[kind] for kind in type(error).__mro__ if kind in BY_ERROR)
