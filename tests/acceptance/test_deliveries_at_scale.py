"""Ten thousand webhooks, lost, repeated and out of order, while klepaas is killed five times (R-04, R-05, R-25).

Real: klepaas as a process of its own on SQLite, killed by SIGKILL in the middle of it all; Docker, where every head
that is to be deployed is built, started and asked; commits, branches, git over HTTP and the API of a stand-in GitHub,
whose own webhooks are lost, sent twice and overtake each other; every webhook's signature and HTTP request.

Not real: ten thousand pushes. A few hundred webhooks tell of real ones; the others are the same again under the same
id, the same told under another id (as a second hook would), and pushes of other branches, tags, deleted branches and
other repositories, and events that deploy nothing."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.storage.tables import apps, deliveries, releases
from tests.acceptance.cradle import Cradle
from tests.acceptance.flood import Flood, Webhook
from tests.acceptance.github_house import WEBHOOK, GitHubHouse, Shop
from tests.acceptance.truth import ENDS
from tests.acceptance.visitor import until

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(300)]

DELIVERIES = 10_000
ROUNDS = 5
PUSHES_A_ROUND = 4
"""To the main branch of each app; only the last one has to be deployed."""
ZERO = "0" * 40


@pytest.fixture(scope="module")
def house(docker_host: str, cradle: Cradle) -> Iterator[GitHubHouse]:
    with GitHubHouse(docker_host, cradle=cradle) as made:
        yield made


class Street:
    """Two apps, what was pushed to them, and the flood of webhooks about it."""

    def __init__(self, house: GitHubHouse, shops: Sequence[Shop]) -> None:
        self.house, self.shops = house, shops
        self.chance = random.Random(7)
        self.flood = Flood(WEBHOOK)
        self.pushed: dict[Shop, list[str]] = {shop: [] for shop in shops}
        self.heads: dict[Shop, list[str]] = {shop: [] for shop in shops}
        """The last push of each round."""
        self.told: dict[str, tuple[Webhook, dict[str, Any]]] = {}
        """Webhooks GitHub sent, by id: whole and as payload. What it lost is not among them."""

    async def round(self, number: int) -> None:
        """Push, flood, kill in the middle, and wait until the heads are live."""
        before = self._webhooks(DELIVERIES // ROUNDS // 4)
        pushing = asyncio.create_task(self._push(number))
        await self.flood.send(before)
        dying = asyncio.create_task(self._die_and_come_back())
        self.learn()
        await self.flood.send(self._webhooks(DELIVERIES // ROUNDS - len(before)))
        await asyncio.gather(pushing, dying)
        for shop in self.shops:
            self.heads[shop].append(self.pushed[shop][-1])
        await self.settle()

    async def come_up(self) -> None:
        await self.house.start(BRANCHES__INTERVAL="PT1S")
        self.flood.url = self.house.process.url
        faults = self.house.github.faults.webhooks
        faults.lost, faults.duplicated, faults.reordered, faults.failed = 0.2, 0.3, 0.4, 0.05

    async def _die_and_come_back(self) -> None:
        await asyncio.sleep(self.chance.uniform(0.1, 1.0))
        self.flood.url = ""
        self.house.process.kill()
        await self.come_up()

    async def _push(self, number: int) -> None:
        for push in range(PUSHES_A_ROUND):
            for shop in self.shops:
                version = f"{number}-{push}"
                self.pushed[shop].append(await shop.push(version))
                await shop.push(version, branch=f"feature-{number}")
            await asyncio.sleep(self.chance.uniform(0.0, 0.1))

    def learn(self) -> None:
        """Take what GitHub has sent by now as a pattern."""
        for each in self.house.github.deliveries:
            if each.event == "push" and each.status_code and each.guid not in self.told:
                payload = each.payload
                self.told[each.guid] = Webhook.of(payload, self.house.secret, guid=each.guid), payload

    def _webhooks(self, count: int) -> list[Webhook]:
        told = list(self.told.values())
        return [self._webhook(*self.chance.choice(told)) for _ in range(count)]

    def _webhook(self, told: Webhook, payload: dict[str, Any]) -> Webhook:
        draw = self.chance.random()
        if draw < 0.60:
            return told
        if draw < 0.62:
            return Webhook.of(payload, self.house.secret)
        if draw < 0.70:
            return Webhook.of({"action": "closed", **payload}, self.house.secret, event="pull_request")
        return Webhook.of({**payload, **self._of_no_concern(payload)}, self.house.secret)

    def _of_no_concern(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What turns a push of a main branch into one that deploys nothing."""
        stranger = {**payload["repository"], "id": 1, "full_name": "team/stranger", "name": "stranger"}
        several: Sequence[dict[str, Any]] = (
            {"ref": f"refs/heads/other-{self.chance.randrange(100)}"},
            {"ref": "refs/heads/feature/main"},
            {"ref": "refs/tags/main"},
            {"after": ZERO, "deleted": True, "head_commit": None},
            {"repository": stranger, "installation": None},
        )
        return self.chance.choice(several)

    async def settle(self) -> None:
        for shop in self.shops:
            await shop.live_after(self.heads[shop][-1])
            await until(lambda shop=shop: _active(shop), lambda active: not active)

    def live_commit(self, shop: Shop) -> str:
        query = (
            sa.select(releases.c.commit_sha)
            .join(apps, apps.c.live_release_id == releases.c.id)
            .where(apps.c.project_id == shop.project_id)
        )
        [row] = self.house.ground.select(query)
        return str(row.commit_sha)

    def undecided(self) -> list[Any]:
        return self.house.ground.select(sa.select(deliveries.c.id).where(deliveries.c.decided_at.is_(None)))


async def _active(shop: Shop) -> list[str]:
    return [row.id for row in shop.rows() if row.status not in ENDS]


async def test_r04_r05_ten_thousand_deliveries_and_five_crashes_deploy_each_head_once(house: GitHubHouse) -> None:
    house.github.requests_per_hour = 10**6
    await house.start(BRANCHES__INTERVAL="PT1S")
    street = Street(house, [await house.shop("north"), await house.shop("south")])
    for shop in street.shops:
        # The watcher may look at the branch before anything is pushed to it.
        street.pushed[shop].append(shop.repository.head())
        street.pushed[shop].append(await shop.push("first"))
        street.heads[shop].append(street.pushed[shop][-1])
    await house.webhooks_are_answered()
    await street.settle()  # else the pushes of the first round may supersede this head, rightly
    street.learn()
    house.process.kill()
    await street.come_up()
    for number in range(ROUNDS):
        await street.round(number)

    async def undecided() -> list[Any]:
        return street.undecided()

    await until(undecided, lambda left: not left)

    for shop in street.shops:
        rows = [(street.pushed[shop].index(row.commit_sha), row.status) for row in shop.rows()]
        places = [place for place, _ in rows]
        heads = {street.pushed[shop].index(sha) for sha in street.heads[shop]}
        assert places == sorted(set(places)), f"no commit twice, and no older one after a newer one: {rows}"
        assert heads <= {place for place, status in rows if status == "succeeded"}, f"each head was deployed: {rows}"
        assert {status for _, status in rows} <= {"succeeded", "superseded"}
        assert street.live_commit(shop) == shop.repository.head() == street.pushed[shop][-1]
        assert await shop.version() == f"{ROUNDS - 1}-{PUSHES_A_ROUND - 1}"
    stored = {row.id for row in house.ground.select(sa.select(deliveries.c.id))}
    assert street.flood.taken <= stored, "what was answered 200 was on disk"
    assert street.flood.refused == []
    # It was what the name says.
    assert street.flood.sent == DELIVERIES
    assert street.flood.cut_off > 0
    assert len(house.github.lost_deliveries) > 10
    assert len({each.guid for each in house.github.deliveries}) < len(house.github.deliveries)
