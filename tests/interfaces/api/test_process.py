"""Health, version, metrics, the description of the API, and the server around it."""

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from klepaas import __version__
from klepaas.errors import Conflict, Invalid
from klepaas.interfaces.api.app import ROUTERS, create_app
from klepaas.interfaces.api.server import listening, serve_app
from klepaas.interfaces.api.v1 import health
from klepaas.operations.health import HealthReport
from klepaas.settings import ServerSettings
from tests.interfaces.api.doors import API, Door, deployed, door_of
from tests.workflows.world import World


@pytest.mark.parametrize(
    ("report", "status", "http_status"),
    [
        (HealthReport(database="ok", engine="ok"), "ok", 200),
        (HealthReport(database="ok", engine="unavailable"), "degraded", 200),
        (HealthReport(database="unavailable", engine="ok"), "degraded", 503),
    ],
)
async def test_health_says_what_is_missing(door: Door, report: HealthReport, status: str, http_status: int) -> None:
    door.report.append(report)
    async with door.client() as stranger:
        answers = [await stranger.get(path) for path in ("/health", f"{API}/health")]

    for answer in answers:
        assert answer.status_code == http_status
        assert answer.json() == {
            "status": status,
            "database": report.database,
            "engine": report.engine,
            "version": __version__,
        }


async def test_health_answers_although_its_report_hangs(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> HealthReport:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(health, "PATIENCE_S", 0.05)
    app = create_app(here.context, settings=ServerSettings(), health=hang, intake=door_of(here).intake)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://klepaas") as stranger:
        assert (await stranger.get("/health")).status_code == 503


async def test_the_version_is_open_to_everybody(door: Door) -> None:
    async with door.client() as stranger:
        answer = (await stranger.get(f"{API}/version")).json()

    assert (answer["version"], answer["api"]) == (__version__, "v1")


async def test_metrics_count_deployments_and_requests_by_route(api: httpx.AsyncClient, door: Door) -> None:
    project = await door.world.project()
    await deployed(door.world, project)
    await door.world.deploy(project)
    await api.get(f"{API}/projects/{project.id}")
    await api.get(f"{API}/projects/nobody")
    await api.get("/invented/path")

    text = (await api.get("/metrics")).text

    assert 'klepaas_deployments{status="succeeded"} 1.0' in text
    assert 'klepaas_deployments{status="queued"} 1.0' in text
    assert 'klepaas_deployments{status="failed"} 0.0' in text
    assert _count(text, route=f"{API}/projects/{{project}}", status="200") == 1
    assert _count(text, route=f"{API}/projects/{{project}}", status="404") == 1
    assert _count(text, route="none", status="404") == 1
    assert project.id not in text
    assert "invented" not in text
    assert 'klepaas_part_up{part="database"} 1.0' in text


def _count(text: str, *, route: str, status: str) -> float:
    name = f'klepaas_http_request_seconds_count{{method="GET",route="{route}",status="{status}"}} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


async def test_metrics_forget_a_part_nobody_can_speak_of(api: httpx.AsyncClient, door: Door) -> None:
    door.report.append(HealthReport(database="ok", engine="unavailable"))
    assert 'klepaas_part_up{part="engine"} 0.0' in (await api.get("/metrics")).text

    door.report.append(HealthReport(database="ok", engine="unknown"))

    assert 'part="engine"' not in (await api.get("/metrics")).text
    assert 'part="engine"' not in (await api.get("/metrics")).text


async def test_every_route_is_described_with_examples_and_its_errors(api: httpx.AsyncClient) -> None:
    described = (await api.get(f"{API}/openapi.json")).json()

    schemas = described["components"]["schemas"]
    for path, method, route in _routes(described):
        where = f"{method} {path}"
        for status, media_type, content in _good_answers(route):
            assert status == "204" or _examples(content, schemas), f"{where} {status} {media_type}"
        if path == f"{API}/cicd/webhook":  # proven by its signature, and in words of its own
            assert route["security"] == []
            continue
        if body := route.get("requestBody"):
            assert _examples(body["content"]["application/json"], schemas), where
        if path not in {f"{API}/health", f"{API}/version"}:
            assert {"401", "422", "503"} <= set(route["responses"]), where
            assert route["responses"]["401"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")
            assert "security" not in route, where
    assert described["security"] == [{"bearer": []}]


async def test_examples_of_answers_are_answers(api: httpx.AsyncClient) -> None:
    """Each is word for word what would be sent: no field more, none less, times as they are written."""
    described = (await api.get(f"{API}/openapi.json")).json()
    models = {model.__name__: model for model in _models()}
    named = {
        content["schema"]["$ref"].rsplit("/", 1)[-1]
        for _, _, route in _routes(described)
        for _, _, content in _good_answers(route)
        if "$ref" in content.get("schema", {})
    }

    assert len(named) > 30
    for name in named:
        for example in described["components"]["schemas"][name]["examples"]:
            assert models[name].model_validate_json(json.dumps(example)).model_dump(mode="json") == example, name


async def test_examples_of_bodies_are_taken(api: httpx.AsyncClient) -> None:
    described = (await api.get(f"{API}/openapi.json")).json()
    fields = [route.body_field for route in _api_routes() if route.body_field is not None]
    bodies: list[Any] = [field.field_info.annotation for field in fields]

    assert len(bodies) > 10
    for model in bodies:
        examples = described["components"]["schemas"][model.__name__]["examples"]
        assert examples == model.model_config["json_schema_extra"]["examples"]  # with all that is null in them
        for example in examples:
            model.model_validate_json(json.dumps(example))


def _routes(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            yield path, method, route


def _good_answers(route: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Status, media type and content; also of an answer that says nothing of its content."""
    for status, answer in route["responses"].items():
        if status.startswith("2"):
            for media_type, content in answer.get("content", {"": {}}).items():
                yield status, media_type, content


def _examples(content: dict[str, Any], schemas: dict[str, Any]) -> list[Any]:
    if "example" in content:
        return [content["example"]]
    name = content.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
    return [*content.get("examples", []), *schemas.get(name, {}).get("examples", [])]


def _api_routes() -> list[APIRoute]:
    return [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def _models() -> Iterator[type[BaseModel]]:
    for route in _api_routes():
        for model in (route.response_model, *(answer.get("model") for answer in route.responses.values())):
            if isinstance(model, type) and issubclass(model, BaseModel):
                yield model


async def test_a_server_says_where_it_serves_and_stops_when_told(door: Door) -> None:
    async with door.served() as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        answer = await client.get("/health")

    assert answer.json()["status"] == "ok"
    assert "server" not in answer.headers


async def test_a_taken_port_is_said_so(door: Door) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = ServerSettings(port=other.getsockname()[1])

        with pytest.raises(Conflict, match=f"Port {taken.port} of 127.0.0.1 is taken"):
            await serve_app(door.app, taken, say=print, stopped=asyncio.Event())


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_host_that_is_not_ours_is_said_so(host: str) -> None:
    with pytest.raises(Invalid, match=f"cannot listen at {host}"), listening(ServerSettings(host=host, port=0)):
        pass
