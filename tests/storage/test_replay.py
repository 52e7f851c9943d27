"""Whatever legal events come in whatever order: the stored row is what the stored events add up to."""

import asyncio
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klepaas.domain.deployment import Deployment, Failure, replay
from klepaas.domain.events import (
    CommitResolved,
    Event,
    ImagePinned,
    ReleaseCreated,
    ReleaseStarted,
    RetryScheduled,
    StageFinished,
    StageStarted,
    SwitchCertified,
    TrafficReturned,
    TrafficShiftDecided,
    TrafficShifted,
)
from klepaas.domain.observation import TrafficAnswer
from klepaas.domain.status import NEXT, Stage, Status
from klepaas.errors import Conflict
from klepaas.storage.database import Database
from klepaas.storage.migrate import migrate
from tests.storage.worlds import NOW, SHA, Memory

DIGEST = "sha256:" + "b" * 64
ANSWER = TrafficAnswer(at=NOW, took_ms=1.5, url="http://127.0.0.1/", status=200, release_id="rel_1")
FAILURE = Failure(
    stage=Stage.VERIFY,
    code="not_healthy",
    message="It did not answer.",
    hint="",
    evidence={"log": ["one", "two"], "probes": [{"status": None, "took_ms": 0.5}]},
    ends_as=Status.FAILED,
)

Choice = Callable[[Deployment], list[Event]]

texts = st.text(max_size=30)
stages = st.sampled_from(list(Stage))
choices: st.SearchStrategy[Choice] = st.one_of(
    stages.map(lambda stage: lambda d: [StageStarted(stage=stage, fence=d.fence)]),
    st.tuples(stages, st.floats(0, 1e6), texts).map(
        lambda t: lambda d: [StageFinished(stage=t[0], took_s=t[1], next_step=Stage.BUILD, detail=t[2])]
    ),
    texts.map(
        lambda text: (
            lambda d: [RetryScheduled(stage=Stage.FETCH, attempt=1, wait_s=0.25, code="unavailable", message=text)]
        )
    ),
    texts.map(lambda text: lambda d: [CommitResolved(commit_sha=SHA, message=text, author=text, committed_at="")]),
    st.lists(st.integers(1, 65535), max_size=3).map(
        lambda ports: (
            lambda d: [ImagePinned(image_digest=DIGEST, image_ref="shop:1", reused=False, exposed_ports=tuple(ports))]
        )
    ),
    st.just(lambda d: [ReleaseCreated(release_id="rel_1", number=1, image_digest=DIGEST, commit_sha=SHA)]),
    st.just(lambda d: [ReleaseStarted(release_id="rel_1", warm=True)]),
    st.just(lambda d: [TrafficShiftDecided(release_id="rel_1", previous_release_id=None, previous_deployment_id=None)]),
    st.just(lambda d: [TrafficShifted(release_id="rel_1", evidence=ANSWER.as_dict(), urls=("http://a", "http://b"))]),
    texts.map(
        lambda text: (
            lambda d: [
                TrafficReturned(release_id="rel_1", previous_release_id=None, previous_deployment_id=None, reason=text)
            ]
        )
    ),
    st.floats(0, 1e6).map(lambda p99: lambda d: [SwitchCertified(certificate={"p99_ms": p99, "failures": []})]),
    st.just(lambda d: d.cancel(actor="token laptop")),
    st.sampled_from(list(NEXT[Status.RUNNING] & {Status.FAILED, Status.CANCELLED, Status.ROLLED_BACK})).map(
        lambda ends: lambda d: d.give_up(Stage.VERIFY, Failure(**{**vars(FAILURE), "ends_as": ends}))
    ),
    texts.map(lambda text: lambda d: d.lose_sight(Stage.RELEASE, code="unavailable", message=text)),
    st.just(lambda d: d.claim(node="node", fence=d.fence + 1)),
    st.just(lambda d: d.succeed()),
    st.just(lambda d: d.end_abandoned()),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(choices, max_size=25))
def test_the_row_is_what_its_events_add_up_to(database_url: str, sequence: list[Choice]) -> None:
    asyncio.run(_play(database_url, sequence))


async def _play(database_url: str, sequence: list[Choice]) -> None:
    database = Database(database_url)
    try:
        await migrate(database)
        memory = Memory(database)
        node = "node"
        if await memory.queue.owned(node) == {} and not await memory.queue.renew(node, 600):
            await memory.queue.join(node, 600)
        deployment = await memory.submit(await memory.project())
        [deployment] = [each for each in await memory.queue.claim(node, 50) if each.id == deployment.id]
        for choose in sequence:
            try:
                events = choose(deployment)
            except Conflict:
                continue
            if deployment.status.is_terminal or not events:
                continue
            deployment = await memory.queue.advance(deployment, node, events)
        stored = await memory.deployments.get(deployment.id)
        history = await memory.deployments.events(deployment.id)
    finally:
        await database.close()

    assert stored == deployment
    assert [each.seq for each in history] == list(range(1, deployment.seq + 1))
    assert Deployment(**{**vars(replay(history)), "number": deployment.number}) == deployment
