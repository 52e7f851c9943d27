"""What a decision asks GitHub: each thing once, with little patience. None means: it cannot be asked now."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import structlog

from klepaas.domain.github import Checks, Head, PullRequest
from klepaas.errors import BranchNotFound, Outside, Rejected, Unavailable
from klepaas.operations.code_host import CodeHost, Comparison, Place

log = structlog.get_logger()

T = TypeVar("T")


@dataclass
class Questions:
    """About one repository. `places` are ways to ask, the best one first; a way that is refused gives way to the next.

    Once GitHub did not answer in time it is not asked again by this decision: its sender waits for an answer."""

    host: CodeHost
    places: Sequence[Place]
    patience: timedelta
    is_away: bool = False
    _answers: dict[tuple[object, ...], Any] = field(default_factory=dict)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def may_be_answered_later(self) -> bool:
        """GitHub knows us, and does not answer now. Whether it ever answers strangers nobody knows."""
        return self.is_away and any(place.connection is not None for place in self.places)

    async def pull_requests(self, sha: str) -> Sequence[PullRequest] | None:
        return await self._ask(("pulls", sha), lambda place: self.host.pull_requests(place, sha))

    async def compare(self, base: str, head: str) -> Comparison | None:
        return await self._ask(("compare", base, head), lambda place: self.host.compare(place, base, head))

    async def checks(self, sha: str, *, without: str) -> Checks | None:
        return await self._ask(("checks", sha, without), lambda place: self.host.checks(place, sha, without=without))

    async def head(self, branch: str) -> Head | None:
        return await self._ask(("head", branch), lambda place: self.host.head(place, branch))

    def forget_heads(self) -> None:
        """What a branch was at has changed meanwhile."""
        self._answers = {question: answer for question, answer in self._answers.items() if question[0] != "head"}

    async def tag(self, name: str) -> str | None:
        """Errors: BranchNotFound when there is no such tag."""
        return await self._ask(("tag", name), lambda place: self.host.tag(place, name))

    async def _ask(self, question: tuple[object, ...], ask: Callable[[Place], Awaitable[T]]) -> T | None:
        async with self._asking:
            if question not in self._answers:
                self._answers[question] = await self._answer(ask, str(question[0]))
            return cast(T | None, self._answers[question])

    async def _answer(self, ask: Callable[[Place], Awaitable[T]], what: str) -> T | None:
        if self.is_away:
            return None
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                for place in self.places:
                    try:
                        return await ask(place)
                    except BranchNotFound:
                        raise
                    except Rejected as refused:
                        log.info("github_question_refused", what=what, reason=refused.message)
        except BranchNotFound:
            if what == "tag":
                raise
        except (Unavailable, TimeoutError) as fault:
            self.is_away = True
            log.info("github_not_asked", what=what, reason=getattr(fault, "message", "no answer in time"))
        except Outside as fault:
            log.info("github_question_refused", what=what, reason=fault.message)
        return None
