"""Where Naver Cloud is, as the environment says; and that nothing of it is loaded before it is needed."""

import subprocess
import sys
from datetime import timedelta

import pytest
from pydantic import ValidationError

from klepaas.errors import Rejected
from klepaas.settings import Deadlines, NcpSettings, Settings
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import Service, endpoints_of, warnings_of
from klepaas.targets.ncp.registry import Registry
from klepaas.targets.ncp.states import RunState, is_known, state_of


def test_the_hosts_are_those_that_know_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KLEPAAS_NCP_SOURCEDEPLOY_ENDPOINT", raising=False)
    endpoints = endpoints_of(NcpSettings())

    assert endpoints[Service.SOURCE_COMMIT] == "https://sourcecommit.apigw.ntruss.com/api/v1"
    assert endpoints[Service.SOURCE_BUILD] == "https://sourcebuild.apigw.ntruss.com/api/v1"
    assert endpoints[Service.SOURCE_DEPLOY] == "https://vpcsourcedeploy.apigw.ntruss.com/api/v1"
    assert endpoints[Service.SOURCE_PIPELINE] == "https://vpcsourcepipeline.apigw.ntruss.com/api/v1"
    assert endpoints[Service.NKS] == "https://nks.apigw.ntruss.com/vnks/v2"


@pytest.mark.parametrize(
    ("region", "path"), [("KR", "/vnks/v2"), ("KRS", "/vnks/krs-v2"), ("FKR", "/nks/v2"), ("KRCS", "/vnks/v2")]
)
def test_the_cluster_service_has_a_path_for_each_region(region: str, path: str) -> None:
    assert endpoints_of(NcpSettings(region=region))[Service.NKS] == f"https://nks.apigw.ntruss.com{path}"


def test_the_contracts_variables_override(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "ACCESS_KEY": " key\n",
        "SECRET_KEY": "secret",
        "SOURCEDEPLOY_ENDPOINT": "https://sourcedeploy.apigw.ntruss.com/",
        "CONTAINER_REGISTRY_URL": "https://Acme.kr.ncr.ntruss.com/",
        "NKS_CLUSTER_ID": "d11328f1",
        "SOURCECOMMIT_PASSWORD": "",
        "REGISTRY_AUTH_HOSTS": "Auth.example, b.example",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"KLEPAAS_NCP_{name}", value)
    settings = Settings().ncp

    assert settings.access_key is not None
    assert settings.access_key.get_secret_value() == "key"
    assert settings.container_registry_url == "acme.kr.ncr.ntruss.com"
    assert settings.registry_name == "acme"
    assert settings.sourcecommit_password is None
    assert settings.registry_auth_hosts == ("auth.example", "b.example")
    assert endpoints_of(settings)[Service.SOURCE_DEPLOY] == "https://sourcedeploy.apigw.ntruss.com/api/v1"
    assert "secret'" not in repr(settings)
    [warning] = warnings_of(settings)
    assert "KLEPAAS_NCP_SOURCEDEPLOY_ENDPOINT" in warning


def test_nothing_is_warned_of_by_default() -> None:
    assert warnings_of(NcpSettings()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sourcebuild_endpoint", "https://user:pass@host"),
        ("sourcebuild_endpoint", "ftp://host"),
        ("container_registry_url", "acme.kr.ncr.ntruss.com/shop"),
        ("container_registry_url", "a@b"),
        ("calls_per_minute", 1),
    ],
)
def test_an_address_that_cannot_be_is_refused_at_the_start(name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        NcpSettings.model_validate({name: value})


def test_missing_keys_and_registry_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY", "SECRET_KEY", "CONTAINER_REGISTRY_URL"):
        monkeypatch.delenv(f"KLEPAAS_NCP_{name}", raising=False)
    with pytest.raises(Rejected) as no_keys:
        NcpClient.of(NcpSettings())
    with pytest.raises(Rejected) as no_registry:
        Registry.of(NcpSettings())

    assert "KLEPAAS_NCP_ACCESS_KEY" in no_keys.value.hint
    assert "KLEPAAS_NCP_CONTAINER_REGISTRY_URL" in no_registry.value.hint


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("success", RunState.SUCCEEDED),
        ("Completed", RunState.SUCCEEDED),
        ("fail", RunState.FAILED),
        ("canary_reject", RunState.FAILED),
        ("canceled", RunState.CANCELLED),
        ("upload", RunState.RUNNING),
        ("canceling", RunState.RUNNING),
        ("canary_pending", RunState.WAITING),
        ("a word nobody knows", RunState.RUNNING),
        (None, RunState.RUNNING),
    ],
)
def test_words_of_the_provider_are_states_of_ours(word: str | None, state: RunState) -> None:
    """R-06: what is not known is no end."""
    assert state_of(word) is state
    assert is_known(word) == (word != "a word nobody knows")


def test_nothing_of_it_is_loaded_at_the_start() -> None:
    kept_out = "('klepaas.targets.ncp', 'ruamel')"
    program = f"import sys, klepaas.serving\nprint([m for m in sys.modules if m.startswith({kept_out})])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert said.stdout.strip() == "[]"


def test_deadlines_of_naver_cloud_leave_room_for_each_other() -> None:
    usual = Deadlines()
    of_ncp = NcpSettings(build_deadline=timedelta(minutes=45)).deadlines(usual)

    assert of_ncp.build > timedelta(minutes=45)
    assert of_ncp.verify == timedelta(minutes=5)
    assert of_ncp.deployment >= of_ncp.fetch + of_ncp.build + of_ncp.release + of_ncp.verify
