"""The intake of webhooks: what GitHub tells is stored, then decided once, whatever happens in between."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from klepaas.domain import webhook_payload
from klepaas.domain.github import PublishedRelease, Push, Received
from klepaas.domain.verdict import Verdict
from klepaas.domain.webhook_payload import Ignored, Meaning
from klepaas.errors import Invalid
from klepaas.operations import pushes, webhook_answers
from klepaas.operations.context import Context
from klepaas.operations.ports.deliveries import StoredDelivery
from klepaas.operations.pushes import Refusal

log = structlog.get_logger()

DECIDED_AT_ONCE = 64
"""Most of the time they wait for GitHub's answers, not for us."""
STORED_TOGETHER = 20
"""Decisions; with more of them a delivery is stored first, as its sender waits for that."""
HELD_AT_MOST = 2000
"""Deliveries in the hands of this process; any more wait in the inbox."""

Refuse = Callable[[Context, Push | PublishedRelease], Awaitable[Refusal | None]]
"""What would be decided, where the rules alone say that nothing is to be deployed and nobody has to be asked; else
None."""

Decide = Callable[[Context, Push | PublishedRelease, str], Awaitable[Sequence[Verdict]]]
"""Deploy what is to be deployed, and say what was decided for each project; the last is the id of the delivery.
Asked again about the same head, it starts nothing again."""


async def decide(context: Context, told: Push | PublishedRelease, delivery_id: str) -> Sequence[Verdict]:
    """`Decide` by the rules of the projects."""
    if isinstance(told, Push):
        return await pushes.decide_push(context, told, delivery_id=delivery_id)
    return await pushes.decide_release(context, told, delivery_id=delivery_id)


async def refuse(context: Context, told: Push | PublishedRelease) -> Refusal | None:
    """`Refuse` by the rules of the projects."""
    return await pushes.refused_by_rule(context, told) if isinstance(told, Push) else None


@dataclass(eq=False)
class Visit:
    """One delivery in the hands of this process, until what was decided is on disk."""

    delivery_id: str
    meaning: Meaning
    stored: asyncio.Future[None]
    answer: asyncio.Future[Mapping[str, Any] | None]
    """None when it could not be decided now; the error when it could not be stored."""
    work: asyncio.Task[None] | None = None


class Intake:
    """The process's one place where deliveries come in."""

    def __init__(self, context: Context, decide: Decide, *, budget: timedelta, refuse: Refuse | None = None) -> None:
        """`budget`: how long a sender waits for the decision before it is told that the delivery was accepted.

        `refuse` saves a write: most deliveries mean nothing for anybody, and are stored with what they mean."""
        self._context, self._decide, self._budget_s = context, decide, budget.total_seconds()
        self._refuse = refuse
        self._visits: dict[str, Visit] = {}
        self._room = asyncio.Semaphore(DECIDED_AT_ONCE)

    async def receive(self, received: Received) -> Mapping[str, Any]:
        """Store a delivery whose signature was checked, and say what it led to.

        The same id again is answered with what the first one led to. Errors: Invalid for a payload that cannot be
        read (nothing is stored); Unavailable, DiskFull when it could not be stored."""
        visit = self._visits.get(received.id)
        if visit is None:
            meaning = _meaning(received)
            refused = await self._refused(received, meaning)
            if refused is not None:
                return refused
            visit = self._visits.get(received.id) or self._begin_with(received, meaning)
        await asyncio.wait({visit.answer}, timeout=self._budget_s)
        if visit.answer.done():
            answer = visit.answer.result()
        else:
            await asyncio.shield(visit.stored)
            answer = None
        return webhook_answers.accepted(visit.delivery_id) if answer is None else answer

    async def receive_replay(self, received: Received) -> None:
        """The same, for somebody who then looks into the inbox: as long as patience lasts, until it is there."""
        visit = self._begin_with(received, _meaning(received))
        assert visit.work is not None, "it has begun"
        await asyncio.shield(visit.stored)
        await asyncio.wait({visit.work}, timeout=self._budget_s)

    async def take_up(self, delivery: StoredDelivery) -> bool:
        """Decide a delivery that was stored and left behind. Whether it is decided now."""
        body = await self._context.deliveries.body(delivery.id)
        if body is None:
            return True
        visit = self._visits.get(delivery.id)
        if visit is None:
            visit = self._begin(delivery.id, _stored_meaning(delivery, body))
            visit.stored.set_result(None)
            self._go_on(visit, self._settle(visit))
        assert visit.work is not None, "it has begun"
        await asyncio.wait({visit.work})
        return visit.answer.exception() is None and visit.answer.result() is not None

    async def _refused(self, received: Received, meaning: Meaning) -> Mapping[str, Any] | None:
        """Store what is certain to deploy nothing, with what it means, and say so. None, and perhaps nothing stored,
        when it has to be decided. Errors: those of `receive`."""
        refusal = await self._refusal(meaning)
        if refusal is None:
            return None
        if isinstance(meaning, Ignored):
            answer = webhook_answers.ignored(meaning.reason)
        else:
            answer = webhook_answers.decided(meaning, refusal.verdicts, None)
        known = await self._context.deliveries.add(
            received,
            repository=_repository_of(meaning),
            answer=answer,
            verdicts=refusal.verdicts,
            as_of=refusal.as_of,
        )
        return answer if known is None else known.answer

    async def _refusal(self, meaning: Meaning) -> Refusal | None:
        if isinstance(meaning, Ignored):
            return Refusal((), None)
        try:
            refusal = None if self._refuse is None else await self._refuse(self._context, meaning)
        except Exception:
            log.exception("delivery_not_refused_at_once")
            return None  # it is stored first then, and taken up again
        return None if refusal is None or len(refusal.verdicts) > STORED_TOGETHER else refusal

    def _begin_with(self, received: Received, meaning: Meaning) -> Visit:
        visit = self._begin(received.id, meaning)
        self._go_on(visit, self._store_and_decide(visit, received))
        return visit

    def _begin(self, delivery_id: str, meaning: Meaning) -> Visit:
        loop = asyncio.get_running_loop()
        visit = Visit(delivery_id, meaning, stored=loop.create_future(), answer=loop.create_future())
        self._visits[delivery_id] = visit
        return visit

    def _go_on(self, visit: Visit, work: Coroutine[Any, Any, None]) -> None:
        """In a task of its own: it ends neither with the sender's patience nor with its connection."""

        def ended(_: asyncio.Task[None]) -> None:
            self._visits.pop(visit.delivery_id, None)
            if not visit.answer.done():
                visit.answer.set_result(None)

        visit.work = asyncio.create_task(work)
        visit.work.add_done_callback(ended)

    async def _store_and_decide(self, visit: Visit, received: Received) -> None:
        repository = _repository_of(visit.meaning)
        try:
            known = await self._context.deliveries.add(received, repository=repository, answer=None)
        except Exception as error:
            for waited_for in (visit.stored, visit.answer):
                waited_for.set_exception(error)
                waited_for.exception()  # nobody may be left to hear it
            return
        visit.stored.set_result(None)
        if known is not None and known.answer is not None:
            visit.answer.set_result(known.answer)
        elif len(self._visits) <= HELD_AT_MOST:
            await self._settle(visit)

    async def _settle(self, visit: Visit) -> None:
        """Decide and record. What goes wrong leaves it undecided, to be taken up again."""
        try:
            async with self._room:
                verdicts, answer = await self._decided(visit)
            # Not before it is on disk: until then the inbox decides again, and deciding again starts nothing again.
            visit.answer.set_result(answer)
            at = self._context.clock.now()
            await self._context.deliveries.decided(visit.delivery_id, answer=answer, verdicts=verdicts, at=at)
        except Exception:
            log.exception("delivery_not_decided", delivery_id=visit.delivery_id)

    async def _decided(self, visit: Visit) -> tuple[Sequence[Verdict], Mapping[str, Any]]:
        told = visit.meaning
        if isinstance(told, Ignored):
            return (), webhook_answers.ignored(told.reason)
        verdicts = await self._decide(self._context, told, visit.delivery_id)
        leading = webhook_answers.leading(verdicts)
        pipeline_id = None if leading is None else await self._pipeline_of(leading)
        return verdicts, webhook_answers.decided(told, verdicts, pipeline_id)

    async def _pipeline_of(self, verdict: Verdict) -> str | None:
        project = await self._context.projects.get(verdict.project_id)
        return project.pipeline_id if project is not None else None


def _meaning(received: Received) -> Meaning:
    return webhook_payload.read(received.event, received.headers.get("content-type", ""), received.body)


def _repository_of(meaning: Meaning) -> str | None:
    return None if isinstance(meaning, Ignored) else meaning.repository.full_name


def _stored_meaning(delivery: StoredDelivery, body: bytes) -> Meaning:
    """It could be read when it was stored; should another version not be able to, it is not taken up for ever."""
    try:
        return webhook_payload.read(delivery.event, delivery.headers.get("content-type", ""), body)
    except Invalid as error:
        return Ignored(reason=error.message)
