"""The database that an older system left, as its own notes describe it: sixteen rows, eleven of them `running` for
ever, five `success` without a date, two pairs of twins; and what Naver Cloud still knows of that time."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from klepaas.settings import NcpSettings
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.client import NcpClient, keys_of
from klepaas.targets.ncp.endpoints import endpoints_of
from klepaas.targets.ncp.past import NcpPast
from klepaas.targets.ncp.registry import Registry
from klepaas.testing.ncp import StandInNcp
from klepaas.testing.ncp.deploy import Deploy, DeployProject, Manifest, ScenarioConfig

KOREA = timedelta(hours=9)
FIRST = datetime(2025, 1, 20, 1, 0, 0, tzinfo=UTC)
DEPLOY_PROJECT, BUILD_PROJECT = 12_777, 20_777
IMAGE = "k-le-paas-test01"
OPEN = (1, 2, 3, 4, 5, 6, 9, 10, 11, 8, 15)
"""Ids of the eleven. 8 and 15 are twins of 7 and 14, which say `success`."""
TWINS = {8: 7, 15: 14}
COLUMNS = """
    id INTEGER PRIMARY KEY, user_id VARCHAR NOT NULL, github_owner VARCHAR NOT NULL, github_repo VARCHAR NOT NULL,
    github_commit_sha VARCHAR NOT NULL, github_commit_message VARCHAR, environment VARCHAR, status VARCHAR,
    sourcedeploy_status VARCHAR, image_name VARCHAR, is_rollback BOOLEAN DEFAULT FALSE, rollback_from_id INTEGER,
    started_at TIMESTAMP, completed_at TIMESTAMP, deployed_at TIMESTAMP, total_duration FLOAT, error_message VARCHAR,
    created_at TIMESTAMP, updated_at TIMESTAMP
"""
PROJECT_COLUMNS = """
    id INTEGER PRIMARY KEY, user_id VARCHAR NOT NULL, github_owner VARCHAR NOT NULL, github_repo VARCHAR NOT NULL,
    sc_project_id VARCHAR, sc_repo_name VARCHAR, build_project_id VARCHAR, deploy_project_id VARCHAR,
    pipeline_id VARCHAR, branch VARCHAR DEFAULT 'main', auto_deploy_enabled BOOLEAN DEFAULT FALSE,
    created_at TIMESTAMP, updated_at TIMESTAMP
"""
PROJECT = {
    "id": 1,
    "user_id": "nlp_user",
    "github_owner": "K-Le-PaaS",
    "github_repo": "test01",
    "build_project_id": str(BUILD_PROJECT),
    "deploy_project_id": str(DEPLOY_PROJECT),
    "created_at": "2025-01-19 00:00:00",
}


def sha(number: int) -> str:
    return f"{TWINS.get(number, number):02d}" * 20


def began(number: int) -> datetime:
    """When the row was written: one every hour, twins in the same moment."""
    return FIRST + timedelta(hours=TWINS.get(number, number))


def local(time: datetime) -> str:
    """As the older system wrote it: Korean time, without saying so."""
    return (time + KOREA).strftime("%Y-%m-%d %H:%M:%S")


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "user_id": "nlp_user",
        "github_owner": "K-Le-PaaS",
        "github_repo": "test01",
        "github_commit_sha": sha(number),
        "github_commit_message": f"Change {number}",
        "environment": "production",
        "status": "running" if number in OPEN else "success",
        "is_rollback": False,
        "started_at": local(began(number)),
        "deployed_at": None,
        "created_at": local(began(number)),
        **changes,
    }


def sixteen(registry_host: str = "registry.example.org") -> list[dict[str, Any]]:
    rows = [row(number) for number in range(1, 17)]
    for each in rows:
        each["image_name"] = f"{registry_host}/{IMAGE}:{each['github_commit_sha']}"
    rows[15] |= {"is_rollback": True, "rollback_from_id": 15, "github_commit_sha": sha(1)}
    return rows


def write_sqlite(path: Path, rows: Sequence[Mapping[str, Any]], projects: Sequence[Mapping[str, Any]] = ()) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"CREATE TABLE deployment_histories ({COLUMNS})")
        connection.execute(f"CREATE TABLE user_project_integrations ({PROJECT_COLUMNS})")
        for table, found in (("deployment_histories", rows), ("user_project_integrations", projects)):
            for each in found:
                names, marks = ", ".join(each), ", ".join("?" for _ in each)
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(each.values()))
    return path


def write_postgres(url: str, rows: Sequence[Mapping[str, Any]], projects: Sequence[Mapping[str, Any]] = ()) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(f"CREATE TABLE deployment_histories ({COLUMNS})")  # type: ignore[arg-type]
        connection.execute(f"CREATE TABLE user_project_integrations ({PROJECT_COLUMNS})")  # type: ignore[arg-type]
        for table, found in (("deployment_histories", rows), ("user_project_integrations", projects)):
            for each in found:
                names, marks = ", ".join(each), ", ".join("%s" for _ in each)
                statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"
                connection.execute(statement, list(each.values()))  # type: ignore[arg-type]


class PastAtNcp:
    """Runs of then, put into the history of a stand-in."""

    def __init__(self, ncp: StandInNcp) -> None:
        self.ncp = ncp
        self.project = DeployProject(DEPLOY_PROJECT, "deploy-K-Le-PaaS-test01", FIRST)

        async def put() -> None:
            ncp.world.deploy_projects[DEPLOY_PROJECT] = self.project

        ncp.call(put)

    def run(self, run_id: int, at: datetime, status: str = "success", took: timedelta = timedelta(seconds=45)) -> None:
        manifest = Manifest(type="SourceCommit", repository="k", branch="main", path=["k8s/deployment.yaml"])
        made = Deploy(
            id=run_id,
            project_id=DEPLOY_PROJECT,
            project=self.project.name,
            stage_id=14_001,
            stage="production",
            scenario_id=17_001,
            scenario="deploy-app",
            config=ScenarioConfig(strategy="rolling", manifest=manifest),
            made_at=at,
            user="somebody",
            status=status,
            ended_at=None if status == "inprogress" else at + took,
        )

        async def put() -> None:
            self.project.deploys.append(made)

        self.ncp.call(put)

    def as_it_was(self) -> None:
        """Of the fourteen deployments it saw seven succeed and two fail; one goes on, three runs are nobody's for
        sure, and of the others it knows nothing."""
        for number in (1, 2, 3, 7, 12, 14, 16):
            self.run(80_000 + number, began(number) + timedelta(seconds=5))
        self.run(80_004, began(4) + timedelta(seconds=5), "fail")
        self.run(80_005, began(5) + timedelta(seconds=5), "canceled")
        self.run(80_006, began(6) + timedelta(seconds=5), "inprogress")
        self.run(80_109, began(9) + timedelta(seconds=5))
        self.run(80_209, began(9) + timedelta(minutes=3))
        self.run(80_300, began(10) + timedelta(minutes=30))


def asked(ncp: StandInNcp) -> NcpPast:
    settings = NcpSettings.model_validate(
        {name.removeprefix("KLEPAAS_NCP_").lower(): value for name, value in ncp.endpoints.items()}
    )
    client = NcpClient(keys_of(settings), endpoints_of(settings), budgets=Budgets(6000), looks_s=(0.01,))
    return NcpPast(client, Registry.of(settings, budgets=Budgets(6000)))
