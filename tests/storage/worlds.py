"""What the storage tests start from: a clock that is told the time, a key, and the tables around one project."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from klepaas.domain.deployment import Deployment
from klepaas.domain.events import DeploymentQueued
from klepaas.domain.project import Project, ProjectSettings
from klepaas.domain.repository import parse_repository
from klepaas.domain.status import Stage
from klepaas.operations.ports.owners import Owner
from klepaas.storage.apps import AppTable
from klepaas.storage.connections import ConnectionTable
from klepaas.storage.database import Database
from klepaas.storage.deployments import DeploymentTable
from klepaas.storage.facts import FactTable
from klepaas.storage.owners import OwnerTable
from klepaas.storage.projects import ProjectTable
from klepaas.storage.queue import DeploymentQueue
from klepaas.storage.releases import ReleaseTable
from klepaas.storage.sealing import Sealer
from klepaas.storage.tokens import TokenTable

KEY = bytes(range(32))
SHA = "0123456789abcdef0123456789abcdef01234567"
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

_numbers = count(1)


@dataclass
class SetClock:
    """Says what it was told; every look is a millisecond later than the one before."""

    time: datetime = NOW
    tick: timedelta = field(default=timedelta(milliseconds=1))

    def now(self) -> datetime:
        self.time += self.tick
        return self.time


class Memory:
    """Every table of one database, as `wiring` would build them."""

    def __init__(self, database: Database, *keys: bytes) -> None:
        self.database, self.clock = database, SetClock()
        self.sealer = Sealer(keys or (KEY,))
        self.owners, self.tokens, self.facts = OwnerTable(database), TokenTable(database), FactTable(database)
        self.connections = ConnectionTable(database, self.sealer)
        self.projects, self.apps = ProjectTable(database, self.sealer), AppTable(database)
        self.releases = ReleaseTable(database, self.sealer, self.clock)
        self.deployments = DeploymentTable(database, self.clock, "door")
        self.queue = DeploymentQueue(database, self.clock)

    async def owner(self, name: str = "") -> Owner:
        number = next(_numbers)
        owner = Owner(id=f"own_{number}", name=name or f"owner-{number}", created_at=NOW)
        await self.owners.add(owner)
        return owner

    async def project(self, *, name: str = "shop", owner: Owner | None = None, **changes: object) -> Project:
        owner = owner or await self.owner()
        return await self.projects.add(a_project(owner.id, name=name, **changes))

    async def submit(
        self, project: Project, *, environment: str = "production", key: str | None = None, **changes: object
    ) -> Deployment:
        request = a_request(project, environment=environment, **changes)
        return (await self.deployments.submit(request, request_key=key)).deployment

    async def release(self, project: Project, deployment: Deployment, digest: str = "sha256:" + "a" * 64) -> str:
        """The id of a new release of this deployment."""
        created = await self.releases.create(
            deployment, project, image_digest=digest, image_ref=f"klepaas/shop:{SHA}", container_port=8080
        )
        return created.id


def a_project(owner_id: str, *, name: str = "shop", **changes: object) -> Project:
    fields = {
        "id": f"prj_{next(_numbers)}",
        "number": 0,
        "owner_id": owner_id,
        "name": name,
        "repository": parse_repository("K-Le-PaaS/test01"),
        "branch": "main",
        "environment": "production",
        "target": "local",
        "settings": ProjectSettings(),
        "auto_deploy": False,
        "connection_id": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Project(**{**fields, **changes})  # type: ignore[arg-type]


def a_request(project: Project, *, environment: str = "production", **changes: object) -> DeploymentQueued:
    fields = {
        "project_id": project.id,
        "environment": environment,
        "branch": "main",
        "commit_sha": SHA,
        "trigger": "manual",
        "actor": "token laptop",
        "first_step": Stage.FETCH,
    }
    return DeploymentQueued(**{**fields, **changes})  # type: ignore[arg-type]
