"""A deployment's life: which states there are and which may follow which.

A few states drive logic; finer detail (the stage, why it waits) is a field for people."""

from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    UNKNOWN = "unknown"
    """A deadline passed and the outside cannot be asked. Not an end: a watcher settles it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back_automatically"

    @property
    def is_terminal(self) -> bool:
        return not NEXT[self]


NEXT: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.SUPERSEDED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ROLLED_BACK, Status.UNKNOWN}),
    Status.UNKNOWN: frozenset({Status.SUCCEEDED, Status.FAILED, Status.ROLLED_BACK}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.SUPERSEDED: frozenset(),
    Status.ROLLED_BACK: frozenset(),
}


IN_HAND = (Status.RUNNING, Status.UNKNOWN)
"""Somebody works on it, or has to: no other deployment of the app may start."""


class Stage(StrEnum):
    """The parts of a deployment, in order. A target may skip or rename one, never invent its success."""

    FETCH = "fetch"
    BUILD = "build"
    PUBLISH = "publish"
    RELEASE = "release"
    VERIFY = "verify"
    PROMOTE = "promote"
    RETIRE = "retire"
