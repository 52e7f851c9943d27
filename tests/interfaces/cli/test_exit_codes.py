"""R-16: the exit code of every verb in every outcome, also with --json, always without a terminal."""

import json

import pytest

from klepaas import errors
from klepaas.domain.status import Status
from klepaas.interfaces.cli.exit_codes import BY_ERROR, BY_STATUS, ExitCode, of_error
from tests.interfaces.cli.conftest import Klepaas
from tests.interfaces.cli.double import World

ENDINGS = {
    "good": 0,
    "bad": 1,
    "stopped": 1,
    "returned": 3,
    "overtaken": 6,
    "vanished": 7,
    "settled": 0,
}
REFUSED = {
    "malformed": 2,
    "missing": 4,
    "imageless": 4,
    "forbidden": 5,
    "locked": 6,
    "away": 7,
    "broken": 7,
}
EVERY_VERB = [
    ("deploy", "{}"),
    ("deploy", "{}", "--no-wait"),
    ("rollback", "{}", "--yes"),
    ("rollback", "{}", "--dry-run"),
    ("rollback", "{}", "--candidates"),
    ("status", "{}"),
    ("history", "{}"),
    ("logs", "{}"),
    ("logs", "{}", "--build"),
    ("logs", "{}", "--follow"),
    ("cancel", "{}"),
    ("projects", "show", "{}"),
    ("projects", "set", "{}", "port=3000"),
    ("projects", "remove", "{}", "--yes"),
    ("connections", "verify", "{}", "octo-org/shop"),
    ("connections", "remove", "{}", "--yes"),
    ("env", "list", "{}"),
    ("env", "set", "{}", "A=b"),
    ("env", "unset", "{}", "A", "--yes"),
]
FORMS = pytest.mark.parametrize("form", [(), ("--json",), ("--quiet",)], ids=["plain", "json", "quiet"])


@FORMS
@pytest.mark.parametrize("verb", [("deploy", "{}"), ("rollback", "{}", "--yes")], ids=lambda verb: verb[0])
@pytest.mark.parametrize(("project", "code"), ENDINGS.items())
def test_r16_a_waiting_verb_ends_as_its_deployment_does(
    klepaas: Klepaas, world: World, project: str, code: int, verb: tuple[str, ...], form: tuple[str, ...]
) -> None:
    said = klepaas(*(part.format(project) for part in verb), *form)

    assert code == said.code
    if "--json" in form:
        assert said.json["project"]["name"] == project


@FORMS
@pytest.mark.parametrize("verb", EVERY_VERB, ids=" ".join)
@pytest.mark.parametrize(("project", "code"), REFUSED.items())
def test_r16_a_refusal_has_its_code_whatever_the_verb(
    klepaas: Klepaas, project: str, code: int, verb: tuple[str, ...], form: tuple[str, ...]
) -> None:
    said = klepaas(*(part.format(project) for part in verb), *form)

    assert code == said.code
    happened, why, following = said.err.splitlines()[-3:]
    assert happened.startswith("error: It says ")
    assert "req_1234" in why
    assert following == " next: Do something else."
    if "--json" in form:
        assert said.json["error"]["request_id"] == "req_1234"
    else:
        assert said.out == ""


@FORMS
@pytest.mark.parametrize("verb", EVERY_VERB, ids=" ".join)
def test_r16_no_server_is_an_unknown_outcome(
    command: Klepaas, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...], form: tuple[str, ...]
) -> None:
    monkeypatch.setenv("KLEPAAS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("KLEPAAS_TOKEN", "klp_x_y")

    said = command(*(part.format("good") for part in verb), *form)

    assert said.code == 7
    assert "klepaas up" in said.err


@FORMS
@pytest.mark.parametrize("verb", EVERY_VERB, ids=" ".join)
def test_r16_without_a_token_nothing_is_allowed(
    command: Klepaas, world: World, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...], form: tuple[str, ...]
) -> None:
    monkeypatch.setenv("KLEPAAS_URL", world.url)

    assert command(*(part.format("good") for part in verb), *form).code == 5
    assert world.requests == []

    monkeypatch.setenv("KLEPAAS_TOKEN", "klp_0000_wrong")

    assert command(*(part.format("good") for part in verb), *form).code == 5


@FORMS
@pytest.mark.parametrize(
    "line",
    [
        "deploy",
        "deploy good --timeout soon",
        "deploy good --no-such-option",
        "no-such-verb",
        "rollback good 0",
        "rollback good nonsense",
        "rollback good",
        "projects remove good",
        "tokens revoke aa",
        "connections remove forge",
        "connections add forge --password s3cret",
        "projects set good",
        "projects set good port",
        "env set good =x",
        "env unset good A",
        "logs good --build --runtime",
        "logs dep_1 --runtime",
        "history good --limit many",
        "history good --limit 201",
        "login not-an-address",
        "down",
    ],
)
def test_r16_wrong_usage_is_2_and_touches_nothing(
    klepaas: Klepaas, world: World, line: str, form: tuple[str, ...]
) -> None:
    said = klepaas(*line.split(), *form)

    assert said.code == 2
    assert [line[:7] for line in said.err.splitlines()[-3:]] == ["error: ", "  why: ", " next: "]
    assert all(method == "GET" or body == {"steps_back": 1, "dry_run": True} for method, _, body in world.requests)
    if "--json" in form:
        assert said.json["error"]["code"] == "invalid"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("status", 0),
        ("status good", 0),
        ("status bad", 1),
        ("status idle", 4),
        ("status vanished", 7),
        ("history good", 0),
        ("logs good", 0),
        ("logs idle --build", 4),
        ("rollback idle --candidates", 4),
        ("rollback good --candidates", 0),
        ("rollback good --dry-run", 0),
        ("projects", 0),
        ("projects list", 0),
        ("projects show good", 0),
        ("projects create octo-org/shop", 0),
        ("projects remove good --yes", 0),
        ("env list good", 0),
        ("env unset good A --yes", 0),
        ("connections", 0),
        ("connections add forge --host git.example.org", 0),
        ("connections verify forge octo-org/shop", 0),
        ("connections remove forge --yes", 0),
        ("tokens", 0),
        ("tokens create ci", 0),
        ("tokens revoke aa --yes", 0),
        ("version", 0),
        ("logout", 0),
        ("deploy good --no-wait", 0),
        ("deploy bad --no-wait", 0),
        ("deploy endless --timeout 0.3s", 124),
        ("rollback endless --yes --timeout 0.3s", 124),
        ("status endless --watch --timeout 0.3s", 124),
        ("deploy octo-org/other", 4),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["plain", "json"])
def test_r16_verbs_that_end_by_themselves(klepaas: Klepaas, line: str, code: int, form: tuple[str, ...]) -> None:
    said = klepaas(*line.split(), *form)

    assert code == said.code
    if form:
        assert all(isinstance(json.loads(line), dict) for line in said.out.splitlines() or [""])


@pytest.mark.parametrize(("project", "code"), {"stopped": 0, "good": 6, "bad": 1, "vanished": 7}.items())
def test_r16_a_cancellation_succeeds_when_the_deployment_ends_cancelled(
    klepaas: Klepaas, world: World, project: str, code: int
) -> None:
    deployment, _ = world.begin(project, "")

    assert klepaas("cancel", deployment["id"]).code == code


def test_every_error_class_and_every_end_has_an_exit_code() -> None:
    def tree(kind: type[errors.KlepaasError]) -> list[type[errors.KlepaasError]]:
        return [kind, *(each for below in kind.__subclasses__() for each in tree(below))]

    assert all(isinstance(of_error(kind("x")), ExitCode) for kind in tree(errors.KlepaasError))
    assert set(BY_ERROR) <= set(tree(errors.KlepaasError))
    assert set(BY_STATUS) == {status.value for status in Status} - {"queued", "running"}
