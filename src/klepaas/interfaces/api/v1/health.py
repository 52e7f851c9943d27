"""Whether this process serves, and which version it is. Open to everybody, and says nothing else."""

import asyncio
import platform

from fastapi import APIRouter, Response
from pydantic import ConfigDict

from klepaas import __version__
from klepaas.interfaces.api.door import Door, TheDoor
from klepaas.interfaces.api.v1.answers.answer import Answer
from klepaas.interfaces.api.v1.parameters import PREFIX
from klepaas.operations.health import HealthReport

router = APIRouter(tags=["health"])

PATIENCE_S = 1.0
"""A report is made from memory; one that takes longer waits for a database that does not answer."""


class HealthAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ok", "database": "ok", "engine": "ok", "version": __version__}]}
    )
    status: str
    database: str
    engine: str
    version: str


class VersionAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"version": __version__, "python": "3.12.8", "api": "v1"}]}
    )
    version: str
    python: str
    api: str = "v1"


@router.get(f"{PREFIX}/health")
@router.get("/health", include_in_schema=False)
async def health(door: TheDoor, response: Response) -> HealthAnswer:
    """200 while requests can be served, 503 when the database is away. `degraded` without a container engine."""
    report = await report_of(door)
    if report.database != "ok":
        response.status_code = 503
    return HealthAnswer(status=report.status, database=report.database, engine=report.engine, version=__version__)


@router.get(f"{PREFIX}/version")
async def version() -> VersionAnswer:
    return VersionAnswer(version=__version__, python=platform.python_version())


async def report_of(door: Door) -> HealthReport:
    try:
        return await asyncio.wait_for(door.health(), PATIENCE_S)
    except TimeoutError:
        return HealthReport(database="unavailable")
