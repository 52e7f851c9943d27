"""Whatever order pushes are told in, twice or never: in the end the head of the branch was asked for (R-04, R-05)."""

from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from klepaas.domain.github import Push
from klepaas.domain.project import Project
from klepaas.domain.trigger_rule import TriggerRule
from klepaas.errors import Unavailable
from klepaas.operations.code_host import Place
from klepaas.testing.code_host import MemoryCodeHost
from tests.operations.hub import EVERY_PUSH, Hub
from tests.workflows.world import world

_numbers = count(1)

Step = tuple[str, int, int, str]
"""What happens, to which earlier push, how often the newest push is told of after it, and how what runs then ends."""

MOVES = st.tuples(
    st.sampled_from(["push", "back", "rewrite"]),
    st.integers(0, 9),
    st.sampled_from([0, 1, 1, 1, 2]),
    st.sampled_from(["", "ends well", "ends well", "fails"]),
)
LATE = st.tuples(st.just("told"), st.integers(0, 9), st.just(0), st.sampled_from(["", "ends well"]))
LOOK = st.tuples(st.just("look"), st.just(0), st.just(0), st.just(""))
OUTAGE = st.tuples(st.sampled_from(["goes away", "comes back"]), st.just(0), st.just(0), st.just(""))

DIRECT = {7, 8, 9}
"""Pushes with these numbers come without a pull request."""

THERE_AND_BACK: list[Step] = [("push", 0, 1, "ends well"), ("back", 0, 1, "ends well"), ("told", 1, 0, "")]


@pytest.fixture
async def klepaas(hub_url: str, tmp_path: Path) -> AsyncIterator[Hub]:
    """One for all stories: each has a project and a GitHub of its own."""
    async with world(hub_url, tmp_path) as made:
        yield Hub.around(made)


class Story:
    """A branch and how klepaas hears of it."""

    def __init__(self, hub: Hub, project: Project) -> None:
        self.hub, self.project = hub, project
        self.told_of: list[Push] = []

    @classmethod
    async def of_a_new_project(cls, hub: Hub, rules: TriggerRule) -> "Story":
        number = next(_numbers)
        github = MemoryCodeHost(name=f"shop-{number}", repository_id=number)
        hub.use(github)
        for earlier in await hub.context.projects.list(None):
            await hub.context.projects.retire(earlier.id, hub.clock.now())
        return cls(hub, await hub.project(f"shop-{number}", rules=rules))

    async def tell(self, steps: list[Step]) -> None:
        for step in [("push", 0, 1, "ends well"), *steps]:
            await self._step(*step)

    async def _step(self, what: str, number: int, told: int, end: str) -> None:
        github = self.hub.github
        match what:
            case "push":
                self.told_of.append(github.push(pull_request=None if number in DIRECT else 1))
            case "back" if (sha := self._earlier(number)) != github.branches["main"]:
                self.told_of.append(github.move(sha))
            case "rewrite":
                self.told_of.append(github.push(after=self._earlier(number), pull_request=2))
            case "told":
                await self.hub.arrives(self.told_of[number % len(self.told_of)])
            case "look":
                await self.hub.looks()
            case "goes away":
                github.fault = Unavailable("GitHub does not answer.")
            case "comes back":
                github.fault = None
        for _ in range(told):
            await self.hub.arrives(self.told_of[-1])
        if end:
            await self._end(end)

    def _earlier(self, number: int) -> str:
        return self.told_of[number % len(self.told_of)].after

    async def _end(self, how: str) -> None:
        history = await self.hub.history(self.project)
        if under_way := [each for each in history if not each.status.is_terminal]:
            end = self.hub.succeeds if how == "ends well" else self.hub.fails
            await end(under_way[0])

    async def is_over(self) -> None:
        """GitHub can be asked again, the watcher looks, and what is under way ends well."""
        self.hub.github.fault = None
        await self.hub.looks()
        while [each for each in await self.hub.history(self.project) if not each.status.is_terminal]:
            await self._end("ends well")

    async def asked_for_last(self) -> set[str | None]:
        """What is live, and the newest deployment: that of the head may have failed."""
        history = await self.hub.history(self.project)
        state = await self.hub.context.apps.get(self.project.id, "production")
        live = state.live_deployment_id if state else None
        return {each.commit_sha for each in history if each.id == live} | {history[-1].commit_sha}


async def told(hub: Hub, steps: list[Step], rules: TriggerRule = EVERY_PUSH) -> Story:
    story = await Story.of_a_new_project(hub, rules)
    try:
        await story.tell(steps)
        await story.is_over()
    finally:
        await story.is_over()  # nothing is left under way for the next story to trip over
    return story


ANYWHERE = Place(owner="acme", name="shop")
ANY_FIXTURE = {"suppress_health_check": list(HealthCheck), "deadline": None}


@settings(max_examples=20, **ANY_FIXTURE)  # type: ignore[arg-type]
@given(steps=st.lists(st.one_of(MOVES, MOVES, LATE, LOOK), max_size=7))
@example(steps=THERE_AND_BACK)
async def test_each_head_is_deployed_once_and_the_last_one_last(klepaas: Hub, steps: list[Step]) -> None:
    story = await told(klepaas, steps)

    was_head = Counter(push.after for push in story.told_of)
    asked_for = Counter(each.commit_sha or "" for each in await klepaas.history(story.project))
    assert klepaas.github.branches["main"] in await story.asked_for_last()
    assert not asked_for - was_head


@settings(max_examples=20, **ANY_FIXTURE)  # type: ignore[arg-type]
@given(steps=st.lists(st.one_of(MOVES, MOVES, LATE, LOOK), max_size=7))
async def test_each_merge_is_deployed_once_and_nothing_else(klepaas: Hub, steps: list[Step]) -> None:
    story = await told(klepaas, steps, TriggerRule())

    merged = {push.after for push in story.told_of if await klepaas.github.pull_requests(ANYWHERE, push.after)}
    was_head = Counter(push.after for push in story.told_of if push.after in merged)
    asked_for = Counter(each.commit_sha or "" for each in await klepaas.history(story.project))
    head = klepaas.github.branches["main"]
    assert head not in merged or head in await story.asked_for_last()
    assert not asked_for - was_head


@settings(max_examples=15, **ANY_FIXTURE)  # type: ignore[arg-type]
@given(steps=st.lists(st.one_of(MOVES, MOVES, LATE, LOOK, OUTAGE), max_size=8))
async def test_also_when_github_is_away_in_between(klepaas: Hub, steps: list[Step]) -> None:
    story = await told(klepaas, steps)

    assert klepaas.github.branches["main"] in await story.asked_for_last()


@settings(max_examples=5, **ANY_FIXTURE)  # type: ignore[arg-type]
@given(steps=st.lists(st.one_of(MOVES, LATE, LOOK, OUTAGE), max_size=6))
async def test_what_is_settled_stays_as_it_is(klepaas: Hub, steps: list[Step]) -> None:
    story = await told(klepaas, steps)
    before = [each.id for each in await klepaas.history(story.project)]

    for push in [*story.told_of, *story.told_of]:
        await klepaas.arrives(push)
    await klepaas.looks()

    assert [each.id for each in await klepaas.history(story.project)] == before
