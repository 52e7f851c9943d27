"""What the doctor finds at Naver Cloud: each thing that is missing is named, with what to do."""

from collections.abc import Iterator

import pytest

from klepaas.domain.finding import Finding
from klepaas.settings import NcpSettings
from klepaas.targets.ncp import examination
from klepaas.targets.ncp.examination import examine
from klepaas.testing.ncp import StandInNcp


@pytest.fixture
def ncp() -> Iterator[StandInNcp]:
    with StandInNcp() as ncp:
        yield ncp


async def found(ncp: StandInNcp, **changes: str | None) -> dict[str, Finding]:
    given = {name.removeprefix("KLEPAAS_NCP_").lower(): value for name, value in ncp.endpoints.items()}
    chosen = {name: value for name, value in {**given, **changes}.items() if value is not None}
    findings = await examine(NcpSettings.model_validate(chosen))
    text = " ".join(f"{one.detail} {one.next_step}" for one in findings)

    assert ncp.secret_key not in text
    assert ncp.endpoints["KLEPAAS_NCP_SOURCECOMMIT_PASSWORD"] not in text
    return {one.name: one for one in findings}


async def test_a_cloud_that_is_set_up_well_is_all_right(ncp: StandInNcp) -> None:
    seen = await found(ncp)

    assert {name: one.level for name, one in seen.items()} == {
        f"ncp {name}": "ok" for name in ("keys", "clock", "hosts", "git", "rights", "images", "cluster")
    }
    assert ncp.cluster.name in seen["ncp cluster"].detail


async def test_without_keys_nothing_is_looked_at(ncp: StandInNcp) -> None:
    assert await found(ncp, access_key=None, secret_key=None) == {}
    assert ncp.requests == []


@pytest.mark.parametrize("missing", ["access_key", "secret_key"])
async def test_half_a_key_pair_is_told(ncp: StandInNcp, missing: str) -> None:
    seen = await found(ncp, **{missing: None})

    assert seen["ncp keys"].next_step == f"Set KLEPAAS_NCP_{missing.upper()}, too."


async def test_keys_that_are_not_accepted_are_told_and_no_more_is_asked(ncp: StandInNcp) -> None:
    ncp.revoke_key(ncp.access_key)
    seen = await found(ncp)

    assert seen["ncp keys"].level == "fail"
    assert seen["ncp keys"].detail.startswith("NCP REST error 401")
    assert "KLEPAAS_NCP_ACCESS_KEY" in seen["ncp keys"].next_step
    assert "ncp rights" not in seen
    assert len(ncp.requests) == 1


@pytest.mark.parametrize(("ahead_s", "level"), [(-120.0, "warn"), (290.0, "fail"), (900.0, "fail")])
async def test_a_wrong_clock_is_told(ncp: StandInNcp, ahead_s: float, level: str) -> None:
    ncp.faults.clock_skew_s = ahead_s
    clock = (await found(ncp))["ncp clock"]

    assert clock.level == level
    assert "This machine's clock is" in clock.detail
    assert "NTP" in clock.next_step


@pytest.mark.parametrize("service", ["sourcedeploy", "sourcepipeline"])
async def test_a_classic_host_is_warned_about(ncp: StandInNcp, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract's 11.41."""
    monkeypatch.setattr(examination, "warnings_of", lambda given: _warnings(given, service))
    hosts = (await found(ncp))["ncp hosts"]

    assert hosts.level == "warn"
    assert "knows no Kubernetes clusters" in hosts.detail
    assert f"KLEPAAS_NCP_{service.upper()}_ENDPOINT" in hosts.next_step


def _warnings(given: NcpSettings, service: str) -> list[str]:
    """As if the classic host were configured; the stand-in is at another one."""
    from klepaas.targets.ncp.endpoints import warnings_of

    classic = f"https://{service}.apigw.ntruss.com"
    return warnings_of(given.model_copy(update={f"{service}_endpoint": classic}))


@pytest.mark.parametrize(
    ("door", "service"),
    [("sourcebuild", "SourceBuild"), ("sourcedeploy", "SourceDeploy"), ("sourcecommit", "SourceCommit")],
)
async def test_a_missing_permission_is_named_with_its_service(ncp: StandInNcp, door: str, service: str) -> None:
    ncp.faults.deny(door=door)  # type: ignore[arg-type]
    rights = (await found(ncp))["ncp rights"]

    assert rights.level == "fail"
    assert rights.detail == f"the keys may not use {service}"
    assert f"permission for {service}" in rights.next_step


async def test_keys_that_may_not_see_clusters_are_a_warning(ncp: StandInNcp) -> None:
    """They can deploy; only roll-outs are not seen."""
    ncp.faults.deny(door="nks")
    seen = await found(ncp)

    assert seen["ncp rights"].level == "warn"
    assert seen["ncp cluster"].level == "warn"
    assert f"{ncp.cluster.name} ({ncp.cluster.number})" in seen["ncp cluster"].detail
    assert (await found(ncp, nks_cluster_id=str(ncp.cluster.number)))["ncp cluster"].level == "ok"


async def test_a_registry_that_does_not_let_the_keys_in_is_told(ncp: StandInNcp) -> None:
    ncp.faults.deny(door="registry")

    assert (await found(ncp))["ncp images"].detail.startswith("NCP REST error 403: the registry")


async def test_a_registry_that_builds_cannot_push_to_is_told(ncp: StandInNcp) -> None:
    images = (await found(ncp, container_registry_name="another"))["ncp images"]

    assert images.level == "fail"
    assert images.detail == f"SourceBuild sees no registry called another; it sees {ncp.registry_name}"


@pytest.mark.parametrize(
    ("setting", "finding"),
    [
        ("container_registry_url", "ncp images"),
        ("nks_cluster_id", "ncp cluster"),
        ("sourcecommit_username", "ncp git"),
        ("sourcecommit_password", "ncp git"),
    ],
)
async def test_a_setting_that_is_missing_is_named(ncp: StandInNcp, setting: str, finding: str) -> None:
    missing = (await found(ncp, **{setting: None}))[finding]

    assert missing.level == "fail"
    assert f"KLEPAAS_NCP_{setting.upper()}" in missing.next_step


async def test_a_cluster_that_is_not_there_is_told(ncp: StandInNcp) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"

    assert unknown in (await found(ncp, nks_cluster_id=unknown))["ncp cluster"].detail
    assert f"it lists {ncp.cluster.name}" in (await found(ncp, nks_cluster_id="7"))["ncp cluster"].detail


async def test_a_cloud_that_is_away_is_told(ncp: StandInNcp) -> None:
    ncp.faults.down = True
    keys = (await found(ncp))["ncp keys"]

    assert keys.level == "fail"
    assert "cannot be reached" in keys.detail
