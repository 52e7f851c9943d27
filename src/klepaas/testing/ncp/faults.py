"""What can go wrong at Naver Cloud, on demand: set in Python, or as JSON by `POST /_control`."""

import fnmatch
import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

Door = Literal["sourcecommit", "sourcebuild", "sourcedeploy", "sourcepipeline", "nks", "git", "registry", "kubernetes"]

RunKind = Literal["build", "deploy", "pipeline"]


class Kind(StrEnum):
    ERROR = "error"
    """The gateway's error with `status` (500, 503, 504 or another), before anything is done."""
    THROTTLE = "throttle"
    """429 with `code` 410 (default), 400 or 420, and `retry-after` when `retry_after_s` is set."""
    DENY = "deny"
    """401 with code 210: the key is good and lacks the right. The registry and the cluster say 403."""
    NOT_JSON = "not_json"
    """200 with a page of HTML, as of a proxy in between."""
    HANG = "hang"
    """No answer until the fault is cleared or the server ends."""
    SLOW = "slow"
    """The answer comes `delay_ms` later than it would."""
    CUT = "cut"
    """The connection is reset without an answer, before anything is done."""
    LOSE_ANSWER = "lose_answer"
    """The request is carried out; then the connection is reset instead of an answer."""


class Fault(BaseModel):
    """One thing that goes wrong, for the requests it matches, as often as `times` says (None: until cleared)."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    times: Annotated[int, Field(ge=0)] | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    """So many matching requests pass first."""
    fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the matching requests, drawn by the seed."""
    door: Door | None = None
    """None: all."""
    methods: Sequence[str] = ()
    """Empty: all."""
    path: str = "*"
    """A pattern for the path, e.g. `*/project/*/history` or `/v2/*/manifests/*`."""
    status: int = 0
    code: str = ""
    retry_after_s: int | None = None
    delay_ms: Annotated[int, Field(ge=0)] = 0

    def fits(self, door: str, method: str, path: str) -> bool:
        if self.door not in (None, door) or (self.methods and method not in self.methods):
            return False
        return fnmatch.fnmatchcase(path, self.path)


class Ending(StrEnum):
    FAIL = "fail"
    """It fails and says so: a build without an image, a deployment whose pods crash."""
    STUCK = "stuck"
    """It neither goes on nor ends (a build ends with its time limit, as a real one)."""
    SILENT = "silent"
    """It does its work, and its status never says that it ended."""
    SAYS_SUCCESS = "says_success"
    """It says `success` and did nothing."""
    SAYS_FAIL = "says_fail"
    """It says `fail` and did its work."""
    HIDDEN = "hidden"
    """It does its work, and no history ever shows it."""


class RunFault(BaseModel):
    """How the next runs end, for `times` runs (None: until cleared) of matching projects."""

    model_config = ConfigDict(extra="forbid")

    of: RunKind
    ending: Ending
    times: Annotated[int, Field(ge=0)] | None = 1
    project: str = "*"
    """A pattern for the project's name."""
    word: str = ""
    """The status shown at the end instead of the usual one, e.g. `error` or one nobody knows."""
    phase: str = "build"
    """The `failedPhase` of a build."""


class Lags(BaseModel):
    """How far what is told lags behind what is true, in milliseconds."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    objects: Annotated[int, Field(ge=0)] = 0
    """A new repository, project, stage or scenario is missing from lists and details."""
    runs: Annotated[int, Field(ge=0)] = 0
    """A run just started is missing from histories."""
    images: Annotated[int, Field(ge=0)] = 0
    """A tag just pushed is not yet in the registry."""
    git: Annotated[int, Field(ge=0)] = 0
    """A new repository is not yet found by git."""


class Quirks(BaseModel):
    """Where sources contradict each other about the real service, one of the ways it may be."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    oldest_first: bool = False
    """Order of history lists."""
    history_in_a_list: bool = False
    """The detail of a pipeline run has `history: [{…}]`, as the SDK's types say."""
    cluster_key: Literal["either", "clusterNo", "clusterUuid"] = "either"
    """By which key a stage may name its cluster."""
    unusable_project: bool = True
    """A deploy project created with keys the service does not know gets an id and never shows up."""


class Faults(BaseModel):
    """All that goes wrong now. `clear()` ends everything; a run keeps the ending it began with."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    down: bool = False
    """Every request is cut off."""
    requests: list[Fault] = Field(default_factory=list)
    runs: list[RunFault] = Field(default_factory=list)
    lags: Lags = Field(default_factory=Lags)
    quirks: Quirks = Field(default_factory=Quirks)
    clock_skew_s: float = 0.0
    """How far the gateway's clock is ahead of this machine's; its answers' `Date` tells."""
    seed: int = 0
    _random: random.Random | None = PrivateAttr(default=None)

    def use_seed(self, seed: int) -> None:
        """Draw from the beginning of this seed's numbers."""
        self.seed, self._random = seed, None

    def add(self, fault: Fault) -> Fault:
        self.requests.append(fault)
        return fault

    def fail(
        self,
        times: int | None = None,
        *,
        status: int = 503,
        door: Door | None = None,
        path: str = "*",
        methods: Sequence[str] = (),
        fraction: float = 1.0,
    ) -> Fault:
        found = Fault(
            kind=Kind.ERROR, times=times, status=status, door=door, path=path, methods=methods, fraction=fraction
        )
        return self.add(found)

    def throttle(
        self,
        times: int | None = None,
        *,
        code: str = "410",
        retry_after_s: int | None = None,
        door: Door | None = None,
        path: str = "*",
    ) -> Fault:
        found = Fault(kind=Kind.THROTTLE, times=times, code=code, retry_after_s=retry_after_s, door=door, path=path)
        return self.add(found)

    def deny(self, *, door: Door | None = None, path: str = "*", methods: Sequence[str] = ()) -> Fault:
        return self.add(Fault(kind=Kind.DENY, door=door, path=path, methods=methods))

    def hang(self, times: int | None = None, *, door: Door | None = None, path: str = "*") -> Fault:
        return self.add(Fault(kind=Kind.HANG, times=times, door=door, path=path))

    def cut(self, times: int | None = None, *, door: Door | None = None, path: str = "*") -> Fault:
        return self.add(Fault(kind=Kind.CUT, times=times, door=door, path=path))

    def slow(self, delay_ms: int, *, door: Door | None = None, path: str = "*") -> Fault:
        return self.add(Fault(kind=Kind.SLOW, delay_ms=delay_ms, door=door, path=path))

    def lose_answer(
        self,
        times: int | None = 1,
        *,
        door: Door | None = None,
        path: str = "*",
        methods: Sequence[str] = ("POST", "PATCH", "DELETE"),
        skip: int = 0,
    ) -> Fault:
        found = Fault(kind=Kind.LOSE_ANSWER, times=times, door=door, path=path, methods=methods, skip=skip)
        return self.add(found)

    def end_runs(
        self, of: RunKind, ending: Ending | str, times: int | None = 1, *, project: str = "*", word: str = ""
    ) -> RunFault:
        found = RunFault(of=of, ending=Ending(ending), times=times, project=project, word=word)
        self.runs.append(found)
        return found

    def clear(self) -> None:
        self.become(Faults(seed=self.seed))

    def become(self, other: "Faults") -> None:
        """Take over what `other` says."""
        self.down, self.requests, self.runs = other.down, other.requests, other.runs
        self.lags, self.quirks, self.clock_skew_s = other.lags, other.quirks, other.clock_skew_s
        self.use_seed(other.seed)

    def next_for(self, door: str, method: str, path: str) -> Fault | None:
        """The fault this request meets, counted; None when it meets none."""
        if self.down:
            return Fault(kind=Kind.CUT)
        for fault in list(self.requests):
            if fault.times == 0 or not fault.fits(door, method, path):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.fraction < 1 and self._draw() >= fault.fraction:
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None

    def ending_of(self, run: RunKind, project: str) -> RunFault | None:
        """How this run will end, counted; None: by what it finds."""
        for fault in self.runs:
            if fault.of == run and fault.times != 0 and fnmatch.fnmatchcase(project, fault.project):
                if fault.times is not None:
                    fault.times -= 1
                return fault.model_copy()
        return None

    def _draw(self) -> float:
        if self._random is None:
            self._random = random.Random(self.seed)
        return self._random.random()
