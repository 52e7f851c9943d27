"""Everything klepaas remembers, and the two views that scripts of the older systems read by name."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from klepaas.storage.migrations import old_clients

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
Json = sa.JSON().with_variant(JSONB(), "postgresql")
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    _owners()
    _tokens()
    _connections()
    _projects()
    _variables()
    _apps()
    _releases()
    _deployments()
    _deployment_events()
    _nodes()
    _port_leases()
    _deliveries()
    _observations()
    _facts()
    for statement in old_clients.views(op.get_bind().dialect.name):
        op.execute(statement)


def _owners() -> None:
    op.create_table(
        "owners",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_owners"),
        sa.UniqueConstraint("name", name="uq_owners_name"),
    )


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("owner_id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(20), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("expires_at", Time),
        sa.Column("revoked_at", Time),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_tokens_owner_id_owners"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )


def _connections() -> None:
    op.create_table(
        "connections",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("owner_id", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("host", sa.String(255), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_connections_owner_id_owners"),
        sa.PrimaryKeyConstraint("id", name="pk_connections"),
        sa.UniqueConstraint("owner_id", "name", name="uq_connections_owner_id_name"),
    )


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("number", Number, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("owner_id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("repository_kind", sa.String(20), nullable=False),
        sa.Column("repository_location", sa.String(500), nullable=False),
        sa.Column("github_owner", sa.String(255), nullable=False),
        sa.Column("github_repo", sa.String(255), nullable=False),
        sa.Column("branch", sa.String(255), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("target", sa.String(40), nullable=False),
        sa.Column("settings", Json, nullable=False),
        sa.Column("auto_deploy", sa.Boolean(), nullable=False),
        sa.Column("connection_id", sa.String(40)),
        sa.Column("github_installation_id", sa.String(40)),
        sa.Column("sc_project_id", sa.String(80)),
        sa.Column("sc_repo_name", sa.String(255)),
        sa.Column("build_project_id", sa.String(80)),
        sa.Column("deploy_project_id", sa.String(80)),
        sa.Column("pipeline_id", sa.String(80)),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("updated_at", Time, nullable=False),
        sa.Column("retired_at", Time),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name="fk_projects_connection_id_connections"),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_projects_owner_id_owners"),
        sa.PrimaryKeyConstraint("number", name="pk_projects"),
        sa.UniqueConstraint("id", name="uq_projects_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "one_project_per_name", "projects", ["owner_id", "name"], unique=True, **_where("retired_at IS NULL")
    )


def _variables() -> None:
    op.create_table(
        "variables",
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", Time, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_variables_project_id_projects"),
        sa.PrimaryKeyConstraint("project_id", "environment", "name", name="pk_variables"),
    )


def _apps() -> None:
    op.create_table(
        "apps",
        sa.Column("key", sa.String(100), nullable=False),
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("live_release_id", sa.String(40)),
        sa.Column("live_deployment_id", sa.String(40)),
        sa.Column("previous_release_id", sa.String(40)),
        sa.Column("warm_release_id", sa.String(40)),
        sa.Column("warm_until", Time),
        sa.Column("held_until", sa.Float()),
        sa.Column("health", sa.String(20), nullable=False),
        sa.Column("health_detail", sa.Text(), nullable=False),
        sa.Column("observed_at", Time),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_apps_project_id_projects"),
        sa.PrimaryKeyConstraint("key", name="pk_apps"),
        sa.UniqueConstraint("name", name="uq_apps_name"),
        sa.UniqueConstraint("project_id", "environment", name="uq_apps_project_id_environment"),
    )


def _releases() -> None:
    op.create_table(
        "releases",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.String(40), nullable=False),
        sa.Column("commit_sha", sa.String(40), nullable=False),
        sa.Column("image_digest", sa.String(80), nullable=False),
        sa.Column("image_ref", sa.String(500), nullable=False),
        sa.Column("settings", Json, nullable=False),
        sa.Column("container_port", sa.Integer(), nullable=False),
        sa.Column("variable_names", Json, nullable=False),
        sa.Column("environment_digest", sa.String(64), nullable=False),
        sa.Column("sealed_variables", sa.LargeBinary(), nullable=False),
        sa.Column("proven_at", Time),
        sa.Column("created_at", Time, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_releases_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_releases"),
        sa.UniqueConstraint("deployment_id", name="uq_releases_deployment_id"),
        sa.UniqueConstraint("project_id", "environment", "number", name="uq_releases_project_id_environment_number"),
    )


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("number", Number, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("app_key", sa.String(100), nullable=False),
        sa.Column("request_key", sa.String(200)),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("step", sa.String(40), nullable=False),
        sa.Column("node", sa.String(40)),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("look_again_at", sa.Float()),
        sa.Column("branch", sa.String(255), nullable=False),
        sa.Column("commit_sha", sa.String(40)),
        sa.Column("commit_message", sa.Text(), nullable=False),
        sa.Column("release_id", sa.String(40)),
        sa.Column("image_ref", sa.String(500)),
        sa.Column("rollback_of", sa.String(40)),
        sa.Column("cancelled_by", sa.String(120)),
        sa.Column("error_message", sa.Text()),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("started_at", Time),
        sa.Column("live_at", Time),
        sa.Column("finished_at", Time),
        sa.Column("state", Json, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_deployments_project_id_projects"),
        sa.PrimaryKeyConstraint("number", name="pk_deployments"),
        sa.UniqueConstraint("id", name="uq_deployments_id"),
        sa.UniqueConstraint("request_key", name="uq_deployments_request_key"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "active_deployments",
        "deployments",
        ["created_at"],
        unique=False,
        **_where("status IN ('queued', 'running', 'unknown')"),
    )
    op.create_index("deployments_of_an_app", "deployments", ["app_key", "number"], unique=False)
    op.create_index("one_queued_per_app", "deployments", ["app_key"], unique=True, **_where("status = 'queued'"))
    op.create_index(
        "one_running_per_app", "deployments", ["app_key"], unique=True, **_where("status IN ('running', 'unknown')")
    )


def _deployment_events() -> None:
    op.create_table(
        "deployment_events",
        sa.Column("deployment_id", sa.String(40), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(60), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("node", sa.String(40), nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployments.id"], name="fk_deployment_events_deployment_id_deployments"
        ),
        sa.PrimaryKeyConstraint("deployment_id", "seq", name="pk_deployment_events"),
    )


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
    )


def _port_leases() -> None:
    op.create_table(
        "port_leases",
        sa.Column("port", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(120), nullable=False),
        sa.Column("leased_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("port", name="pk_port_leases"),
        sa.UniqueConstraint("holder", name="uq_port_leases_holder"),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("event", sa.String(80), nullable=False),
        sa.Column("headers", Json, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", Time, nullable=False),
        sa.Column("decision", sa.String(40)),
        sa.Column("reason", sa.Text()),
        sa.Column("deployment_id", sa.String(40)),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )


def _observations() -> None:
    op.create_table(
        "observations",
        sa.Column("number", Number, autoincrement=True, nullable=False),
        sa.Column("app_key", sa.String(100), nullable=False),
        sa.Column("release_id", sa.String(40)),
        sa.Column("at", Time, nullable=False),
        sa.Column("health", sa.String(20), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_observations"),
        sqlite_autoincrement=True,
    )
    op.create_index("observations_of_an_app", "observations", ["app_key", "number"], unique=False)


def _facts() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
