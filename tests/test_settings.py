"""What an operator may write in the environment about GitHub and as a duration, and what a start refuses."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import BaseModel, ValidationError

from klepaas.settings import Settings, api_of
from klepaas.testing.github import app_jwt
from tests.interfaces.cli.conftest import Klepaas, command, home  # noqa: F401 - fixtures

PEM = app_jwt.pem(app_jwt.shared_key())


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APP_ID", "APP_PRIVATE_KEY", "APP_WEBHOOK_SECRET", "WEBHOOK_SECRET", "BRANCH_MAIN", "URL", "API_URL"):
        monkeypatch.delenv(f"KLEPAAS_GITHUB_{name}", raising=False)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def test_the_names_of_the_older_systems_work(given: pytest.MonkeyPatch) -> None:
    given.setenv("KLEPAAS_GITHUB_APP_ID", "910001")
    given.setenv("KLEPAAS_GITHUB_APP_PRIVATE_KEY", PEM)
    given.setenv("KLEPAAS_GITHUB_APP_WEBHOOK_SECRET", "one")
    given.setenv("KLEPAAS_GITHUB_WEBHOOK_SECRET", "two")
    given.setenv("KLEPAAS_GITHUB_BRANCH_MAIN", "trunk")

    settings = Settings()

    assert settings.github_app_id == "910001"
    assert settings.github_app_webhook_secret is not None
    assert settings.github_app_webhook_secret.get_secret_value() == "one"
    assert settings.github_webhook_secret is not None
    assert settings.github_branch_main == "trunk"
    assert "PRIVATE" not in repr(settings)
    assert "'one'" not in repr(settings)


@pytest.mark.parametrize("form", ["lines", "escapes", "base64", "wrapped base64", "file"])
def test_a_private_key_may_come_in_any_usual_form(given: pytest.MonkeyPatch, tmp_path: Path, form: str) -> None:
    path = tmp_path / "app.pem"
    path.write_text(PEM)
    forms = {
        "lines": PEM,
        "escapes": PEM.replace("\n", "\\n"),
        "base64": base64.b64encode(PEM.encode()).decode(),
        "wrapped base64": base64.encodebytes(PEM.encode()).decode(),
        "file": str(path),
    }
    given.setenv("KLEPAAS_GITHUB_APP_ID", "1")
    given.setenv("KLEPAAS_GITHUB_APP_PRIVATE_KEY", forms[form])

    key = Settings().github_app_private_key

    assert key is not None
    assert key.get_secret_value().strip() == PEM.strip()


def _elliptic() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "value",
    ["c4n4ry", PEM.replace("M", "x", 40), _elliptic(), "/nowhere/app.pem", "-----BEGIN c4n4ry", "é" * 50],
    ids=["a word", "a broken key", "an elliptic key", "no file", "half a key", "no ASCII"],
)
def test_what_is_no_private_key_is_refused_without_showing_it(given: pytest.MonkeyPatch, value: str) -> None:
    """S-05."""
    given.setenv("KLEPAAS_GITHUB_APP_ID", "1")
    given.setenv("KLEPAAS_GITHUB_APP_PRIVATE_KEY", value)

    with pytest.raises(ValidationError) as refused:
        Settings()

    [error] = refused.value.errors(include_input=False)
    assert error["loc"] == ("github_app_private_key",)
    assert "c4n4ry" not in error["msg"]


@pytest.mark.parametrize(
    ("app_id", "key"),
    [("1", None), (None, PEM), ("", PEM), ("klepaas", PEM), ("1" * 30, PEM)],
    ids=["no key", "no number", "an empty number", "a word", "too long a number"],
)
def test_an_app_needs_its_number_and_its_key(given: pytest.MonkeyPatch, app_id: str | None, key: str | None) -> None:
    if app_id is not None:
        given.setenv("KLEPAAS_GITHUB_APP_ID", app_id)
    if key is not None:
        given.setenv("KLEPAAS_GITHUB_APP_PRIVATE_KEY", key)

    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("value", ["", " ", "\t"])
def test_an_empty_webhook_secret_is_none(given: pytest.MonkeyPatch, value: str) -> None:
    """S-07: everybody can sign with it."""
    given.setenv("KLEPAAS_GITHUB_APP_WEBHOOK_SECRET", value)
    given.setenv("KLEPAAS_GITHUB_WEBHOOK_SECRET", value)

    assert Settings().github_app_webhook_secret is None
    assert Settings().github_webhook_secret is None


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://github.com", "https://api.github.com"),
        ("https://github.com/", "https://api.github.com"),
        ("https://ghe.example.org", "https://ghe.example.org/api/v3"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/api/v3"),
    ],
)
def test_the_api_is_where_githubs_products_have_it(given: pytest.MonkeyPatch, url: str, api: str) -> None:
    given.setenv("KLEPAAS_GITHUB_URL", url)

    assert Settings().github_api == api == api_of(url.rstrip("/"))


def test_the_api_may_be_somewhere_else(given: pytest.MonkeyPatch) -> None:
    given.setenv("KLEPAAS_GITHUB_URL", "https://ghe.example.org")
    given.setenv("KLEPAAS_GITHUB_API_URL", "https://api.ghe.example.org/")

    assert Settings().github_api == "https://api.ghe.example.org"


@pytest.mark.parametrize(
    "url", ["github.com", "ftp://x", "https://", "https://me:secret@x", "https://x?y=1", "https://a b", "file:///etc"]
)
@pytest.mark.parametrize("name", ["GITHUB_URL", "GITHUB_API_URL", "PUBLIC_URL"])
def test_what_is_no_address_is_refused(given: pytest.MonkeyPatch, name: str, url: str) -> None:
    given.setenv(f"KLEPAAS_{name}", url)

    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("branch", ["", "a b", "-x", "a..b~1", "a:b", "x" * 300])
def test_what_is_no_branch_is_refused(given: pytest.MonkeyPatch, branch: str) -> None:
    given.setenv("KLEPAAS_GITHUB_BRANCH_MAIN", branch)

    with pytest.raises(ValidationError):
        Settings()


def test_allowed_servers_are_named_with_commas(given: pytest.MonkeyPatch) -> None:
    given.setenv("KLEPAAS_OUTBOUND_HOSTS", "GHE.corp.example, hooks.corp.example,")

    assert Settings().outbound_hosts == ("ghe.corp.example", "hooks.corp.example")


def test_a_start_with_a_wrong_setting_ends_with_a_sentence(given: pytest.MonkeyPatch, command: Klepaas) -> None:  # noqa: F811
    given.setenv("KLEPAAS_GITHUB_APP_ID", "1")
    given.setenv("KLEPAAS_GITHUB_APP_PRIVATE_KEY", "c4n4ry")

    said = command("up")

    assert said.code == 2
    assert "KLEPAAS_GITHUB_APP_PRIVATE_KEY is not valid: it is no RSA private key" in said.err
    assert "c4n4ry" not in said.err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1200", 1200),
        (" 0 ", 0),
        ("0.8", 0.8),
        ("90s", 90),
        ("20m", 1200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("30d", 30 * 86400),
        ("PT20M", 1200),
        ("PT0.2S", 0.2),
        ("P1DT2H", 93600),
        ("P2W", 14 * 86400),
        ("00:20:00", 1200),
        ("36:00:00.5", 129600.5),
    ],
)
def test_a_duration_is_read_as_people_write_it(given: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    given.setenv("KLEPAAS_DEADLINES__BUILD", text)
    given.setenv("KLEPAAS_DEADLINES__VERIFY", text)
    given.setenv("KLEPAAS_DOCKER__WARM_FOR", text)
    given.setenv("KLEPAAS_NCP_BUILD_DEADLINE", text)

    settings = Settings()

    assert settings.deadlines.build == settings.deadlines.verify == timedelta(seconds=seconds)
    assert settings.docker.warm_for == settings.ncp.build_deadline == timedelta(seconds=seconds)


def _durations(part: BaseModel, prefix: str = "KLEPAAS_") -> Iterator[tuple[str, timedelta]]:
    """By the names of their variables."""
    for field in type(part).model_fields:
        value, name = getattr(part, field), prefix + field.upper()
        if isinstance(value, BaseModel):
            yield from _durations(value, f"{name}_" if field == "ncp" else f"{name}__")
        elif isinstance(value, timedelta):
            yield name, value


def test_every_duration_there_is_may_be_seconds(given: pytest.MonkeyPatch) -> None:
    names = dict(_durations(Settings()))
    for name in names:
        given.setenv(name, "100777")

    assert {"KLEPAAS_NCP_LOOK_EVERY", "KLEPAAS_DEADLINES__BUILD", "KLEPAAS_DOCKER__WARM_FOR"} <= set(names)
    assert set(dict(_durations(Settings())).values()) == {timedelta(seconds=100_777)}


@pytest.mark.parametrize(
    "text",
    ["", "soon", "-5", "20 parsecs", "1h-5m", "P", "PT", "P1Y", "20:00", "1e3", "inf", "٣", "9" * 400, "m", "1s1h"],
)
@pytest.mark.parametrize("name", ["DEADLINES__BUILD", "DEADLINES__VERIFY"])
def test_what_is_no_duration_is_refused_with_what_to_give(
    given: pytest.MonkeyPatch,
    command: Klepaas,  # noqa: F811
    name: str,
    text: str,
) -> None:
    given.setenv(f"KLEPAAS_{name}", text)

    said = command("up")

    assert said.code == 2
    assert f"KLEPAAS_{name} is not valid: give seconds as a number (1200), or e.g. 90s, 20m, 1h30m" in said.err


def test_logs_are_kept_for_a_day_at_least(given: pytest.MonkeyPatch) -> None:
    """A bare number is seconds: `90` would forget all but the last minute and a half."""
    given.setenv("KLEPAAS_RETENTION__KEEP", "90")
    with pytest.raises(ValidationError, match="less than a day"):
        Settings()
    given.setenv("KLEPAAS_RETENTION__KEEP", "90d")

    assert Settings().retention.keep == timedelta(days=90)
