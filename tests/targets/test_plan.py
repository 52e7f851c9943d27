import json

import pytest

from klepaas.domain.project import ProjectSettings
from klepaas.errors import Rejected
from klepaas.targets.local.plan import container_body, container_name, plan_of, refuse_replicas, spec_of
from tests.targets.releases import a_release, an_app

APP = an_app()
RELEASE = a_release(APP, 7)


def _body(**variables: str) -> dict[str, object]:
    return dict(container_body(APP, RELEASE, port=20007, variables=variables, instance_id="i1"))


def test_a_container_runs_the_image_by_digest_and_is_reachable_on_loopback_only() -> None:
    body = _body()
    host = body["HostConfig"]
    assert isinstance(host, dict)

    assert body["Image"] == RELEASE.image_digest
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20007"}]}


def test_a_container_is_limited_and_gets_nothing_of_the_host() -> None:
    """S-08: no mounts, no privileges gained, limits on memory, processors and processes."""
    host = _body()["HostConfig"]
    assert isinstance(host, dict)

    assert {"Binds", "Mounts", "Privileged", "NetworkMode", "Devices"} & set(host) == set()
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["CapDrop"] == ["NET_RAW"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (2**29, 2**29, 10**9, 512)


def test_the_port_the_app_is_asked_on_wins_over_a_variable_of_the_same_name() -> None:
    assert _body(PORT="1", A="b")["Env"] == ["PORT=8080", "A=b"]


def test_values_of_variables_are_in_no_label() -> None:
    assert "hush-hush" not in json.dumps(_body(TOKEN="hush-hush")["Labels"])


def test_a_release_has_one_name_and_another_release_another() -> None:
    assert container_name(APP, RELEASE) == container_name(APP, a_release(APP, 7))
    assert container_name(APP, RELEASE) != container_name(APP, a_release(an_app(project_id="other"), 7))


def test_other_variables_or_another_port_make_another_container() -> None:
    assert spec_of(RELEASE, 20007) == spec_of(a_release(APP, 7), 20007)
    assert spec_of(RELEASE, 20007) != spec_of(RELEASE, 20008)


@pytest.mark.parametrize("replicas", [0, 2])
def test_other_than_one_copy_is_refused_with_a_way_out(replicas: int) -> None:
    with pytest.raises(Rejected) as refused:
        refuse_replicas(a_release(APP, 1, settings=ProjectSettings(replicas=replicas)))

    assert str(replicas) in refused.value.message
    assert refused.value.hint


def test_a_plan_says_what_is_probed_and_when_it_counts_as_ready() -> None:
    settings = ProjectSettings(health_path="/health", health_timeout_s=5)
    steps = plan_of(APP, a_release(APP, 1, settings=settings)).steps

    assert {"probe": "/health", "ready_when": "2xx or 3xx", "within_s": 5.0} in steps
