"""Looking into the cluster: only where klepaas may, and then always."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from klepaas.domain.status import Status
from klepaas.errors import AuthenticationFailed, PermissionMissing, Unavailable
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.client import NcpClient, keys_of
from klepaas.targets.ncp.cluster_view import ClusterView
from klepaas.targets.ncp.exposed import exposed_ports
from klepaas.targets.ncp.kubernetes import Kubernetes
from klepaas.targets.ncp.nks import Nks
from klepaas.targets.ncp.rollout import Stand, Wanted, workloads_with
from klepaas.targets.ncp.signing import Keys
from klepaas.testing.ncp import StandInNcp
from tests.targets_ncp.trial import quick, trial

SHOP = Wanted(kind="Deployment", name="shop", namespace="default", containers=("web",))


@pytest.fixture
def ncp() -> Iterator[StandInNcp]:
    with StandInNcp(build_time_ms=20, deploy_time_ms=20) as ncp:
        yield ncp


@pytest.fixture
async def client(ncp: StandInNcp) -> AsyncIterator[NcpClient]:
    made = NcpClient.of(quick(ncp), budgets=Budgets(6000))
    yield made
    await made.close()


def _kubernetes(ncp: StandInNcp, client: NcpClient, keys: Keys | None = None) -> Kubernetes:
    return Kubernetes(Nks(client), ncp.cluster.uuid, keys or keys_of(quick(ncp)), region="KR")


async def _roll_out(ncp: StandInNcp, *, replicas: int = 2, crash: bool = False) -> str:
    """The digest that runs."""
    digest = ncp.create_image("shop", "t1")
    template: dict[str, Any] = {
        "metadata": {"labels": {"app": "shop"}},
        "spec": {"containers": [{"name": "web", "image": f"{ncp.registry_host}/shop:t1@{digest}"}]},
    }
    found = ncp.cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "shop"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "shop"}}, "template": template},
        }
    )
    assert found["kind"] == "Deployment"

    async def resolve(image: str) -> str | None:
        return digest

    await ncp.cluster.roll_out(("Deployment", "default", "shop"), resolve, crash=crash)
    return digest


async def test_a_rollout_is_done_when_every_pod_runs_the_digest(ncp: StandInNcp, client: NcpClient) -> None:
    digest = await _roll_out(ncp)
    view = ClusterView(_kubernetes(ncp, client), "always")
    seen, other = await view.look([SHOP], digest), await view.look([SHOP], "sha256:" + "0" * 64)
    await view.close()

    assert seen is not None
    assert (seen.stand, seen.ready) == (Stand.DONE, 2)
    assert other is not None
    assert other.stand is Stand.ELSEWHERE


async def test_a_rollout_that_does_not_get_on_is_stuck_and_says_why(ncp: StandInNcp, client: NcpClient) -> None:
    digest = await _roll_out(ncp, crash=True)
    view = ClusterView(_kubernetes(ncp, client), "always")
    seen = await view.look([SHOP], digest)
    await view.close()

    assert seen is not None
    assert seen.stand is Stand.STUCK
    assert "CrashLoopBackOff" in seen.detail


async def test_keys_that_may_not_look_are_done_without_or_are_an_error(ncp: StandInNcp, client: NcpClient) -> None:
    digest, stranger = await _roll_out(ncp), Keys(access="NOBODY", secret="nothing")
    without, needed = (
        ClusterView(_kubernetes(ncp, client, stranger), "auto"),
        ClusterView(_kubernetes(ncp, client, stranger), "always"),
    )

    assert await without.look([SHOP], digest) is None
    with pytest.raises(AuthenticationFailed):
        await needed.look([SHOP], digest)
    await without.close()
    await needed.close()


async def test_a_cluster_that_was_seen_once_has_to_be_seen(ncp: StandInNcp, client: NcpClient) -> None:
    """Otherwise its absence would make a success easier."""
    digest = await _roll_out(ncp)
    view = ClusterView(_kubernetes(ncp, client), "auto")
    assert await view.look([SHOP], digest) is not None
    ncp.faults.deny(door="kubernetes")
    with pytest.raises(PermissionMissing):
        await view.look([SHOP], digest)
    ncp.faults.clear()
    ncp.faults.fail(door="kubernetes")
    with pytest.raises(Unavailable):
        await view.look([SHOP], digest)
    await view.close()


async def test_never_asks_nobody(ncp: StandInNcp, client: NcpClient) -> None:
    view = ClusterView(_kubernetes(ncp, client), "never")

    assert await view.look([SHOP], "sha256:" + "0" * 64) is None
    assert [one for one in ncp.requests if one.door in {"kubernetes", "nks"}] == []


async def test_without_the_cluster_the_provider_and_the_registry_are_the_proof(tmp_path: Path, ncp: StandInNcp) -> None:
    async with trial(tmp_path, ncp, cluster_access="never") as here:
        here.commit()
        async with here.node():
            ended = await here.ended(await here.deploy())

    assert ended.status is Status.SUCCEEDED
    assert "The cluster is not looked into" in ended.evidence["answer"]["detail"]
    assert [one for one in ncp.requests if one.door == "kubernetes"] == []


async def test_a_run_that_says_success_and_did_nothing_is_no_success(
    tmp_path: Path, ncp: StandInNcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-06: only what was seen in the cluster counts, where it can be seen."""
    monkeypatch.setattr("klepaas.workflows.deploy.SETTLE_EVERY", timedelta(milliseconds=50))
    async with trial(tmp_path, ncp, deploy_deadline=timedelta(seconds=1)) as here:
        await here.configure(health_timeout_s=1)
        here.commit()
        async with here.node():
            await here.ended(await here.deploy())
            here.commit()
            ncp.faults.end_runs("deploy", "says_success")
            ended = await here.ended(await here.deploy())

    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert "says success" in ended.failure.message
    assert "is told to run another image" in ended.failure.message


def test_workloads_are_those_that_run_exactly_this_image() -> None:
    manifest = b"""
kind: List
items:
- {kind: Deployment, metadata: {name: a}, spec: {template: {spec: {containers: [{name: web, image: "h/i:1"}]}}}}
---
kind: StatefulSet
metadata: {name: b, namespace: shop}
spec: {template: {spec: {containers: [{name: x, image: other}, {name: web, image: "h/i:1"}]}}}
---
kind: CronJob
metadata: {name: c}
"""

    assert workloads_with(manifest, "h/i:1") == (
        Wanted(kind="Deployment", name="a", namespace="default", containers=("web",)),
        Wanted(kind="StatefulSet", name="b", namespace="shop", containers=("web",)),
    )
    assert workloads_with(b"a: [", "h/i:1") == ()


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("FROM a\nEXPOSE 3000", (3000,)),
        ("from a\nexpose 8081/tcp 8080  # both\nEXPOSE 53/udp $PORT 99999", (8080, 8081)),
        ("FROM a AS build\nEXPOSE 1\nFROM b\nEXPOSE 2", (2,)),
        ("FROM a", ()),
    ],
)
def test_the_ports_of_the_last_stage_are_exposed(text: str, ports: tuple[int, ...]) -> None:
    assert exposed_ports(text.encode()) == ports
