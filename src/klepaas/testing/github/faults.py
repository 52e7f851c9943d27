"""What can go wrong at GitHub, on demand: set in Python, or as JSON by `POST /_control` for a stand-in in a child."""

import fnmatch
import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr


class Kind(StrEnum):
    ERROR = "error"
    """An answer with `status` and GitHub's page of an outage, before anything is done."""
    SECONDARY_LIMIT = "secondary_limit"
    """`status` 403 or 429 with `retry-after`, as for too many requests at once."""
    PRIMARY_LIMIT = "primary_limit"
    """403 with `x-ratelimit-remaining: 0` and a reset `retry_after_s` from now."""
    HANG = "hang"
    """No answer until the fault is cleared or the server ends."""
    CUT = "cut"
    """The connection is reset without an answer, before anything is done."""
    LOSE_ANSWER = "lose_answer"
    """The request is carried out; then the connection is reset instead of an answer."""


class Fault(BaseModel):
    """One thing that goes wrong, for the requests it matches, as often as `times` says (None: until cleared)."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    times: Annotated[int, Field(ge=0)] | None = None
    fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the matching requests, drawn by the seed."""
    methods: Sequence[str] = ()
    """Empty: all."""
    path: str = "*"
    """A pattern for the path without `/api/v3`, e.g. `/repos/*/statuses/*` or `*.git/git-upload-pack`."""
    status: int = 0
    """0: 502 for an error, 403 for a secondary limit."""
    retry_after_s: int | None = 60
    """None leaves the header away, as GitHub sometimes does."""

    def fits(self, method: str, path: str) -> bool:
        return (not self.methods or method in self.methods) and fnmatch.fnmatchcase(path, self.path)


class WebhookFaults(BaseModel):
    """What becomes of webhooks; each is a probability between 0 and 1, drawn by the seed."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    lost: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Never sent, and not in GitHub's list of deliveries either."""
    failed: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Never sent, and in the list as one that failed to connect."""
    duplicated: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Sent twice with the same GUID."""
    reordered: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Sent after one to `reorder_within` later ones."""
    reorder_within: Annotated[int, Field(ge=1)] = 5
    delayed: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Sent `delay_s` later; others overtake it."""
    delay_s: Annotated[float, Field(ge=0)] = 1.0
    at_once: Annotated[int, Field(ge=1)] = 1
    """How many are sent at the same time; 1 keeps their order."""


class Faults(BaseModel):
    """All that goes wrong now. `clear()` ends everything."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    down: bool = False
    """Every request (API, git, web) is cut off, and webhooks wait until it is up again."""
    requests: list[Fault] = Field(default_factory=list)
    webhooks: WebhookFaults = Field(default_factory=WebhookFaults)
    seed: int = 0
    _random: random.Random | None = PrivateAttr(default=None)

    @property
    def random(self) -> random.Random:
        if self._random is None:
            self._random = random.Random(self.seed)
        return self._random

    def use_seed(self, seed: int) -> None:
        """Draw from the beginning of this seed's numbers."""
        self.seed, self._random = seed, None

    def add(self, fault: Fault) -> Fault:
        self.requests.append(fault)
        return fault

    def fail(self, times: int | None = None, *, status: int = 502, fraction: float = 1.0, path: str = "*") -> Fault:
        return self.add(Fault(kind=Kind.ERROR, times=times, status=status, fraction=fraction, path=path))

    def limit(
        self, times: int | None = None, *, status: int = 403, retry_after_s: int | None = 60, path: str = "*"
    ) -> Fault:
        """The secondary limit."""
        found = Fault(kind=Kind.SECONDARY_LIMIT, times=times, status=status, retry_after_s=retry_after_s, path=path)
        return self.add(found)

    def exhaust(self, times: int | None = None, *, reset_after_s: int = 60, path: str = "*") -> Fault:
        """The primary limit."""
        return self.add(Fault(kind=Kind.PRIMARY_LIMIT, times=times, retry_after_s=reset_after_s, path=path))

    def hang(self, times: int | None = None, *, path: str = "*") -> Fault:
        return self.add(Fault(kind=Kind.HANG, times=times, path=path))

    def cut(self, times: int | None = None, *, path: str = "*", fraction: float = 1.0) -> Fault:
        return self.add(Fault(kind=Kind.CUT, times=times, path=path, fraction=fraction))

    def lose_answer(self, times: int | None = None, *, path: str = "*", methods: Sequence[str] = ()) -> Fault:
        return self.add(Fault(kind=Kind.LOSE_ANSWER, times=times, path=path, methods=methods))

    def clear(self) -> None:
        self.down = False
        self.requests = []
        self.webhooks = WebhookFaults()

    def become(self, other: "Faults") -> None:
        """Take over what `other` says."""
        self.down, self.requests, self.webhooks = other.down, other.requests, other.webhooks
        self.use_seed(other.seed)

    def next_for(self, method: str, path: str) -> Fault | None:
        """The fault this request meets, counted; None when it meets none."""
        if self.down:
            return Fault(kind=Kind.CUT)
        for fault in list(self.requests):
            if fault.times == 0 or not fault.fits(method, path):
                continue
            if fault.fraction < 1 and self.random.random() >= fault.fraction:
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None
