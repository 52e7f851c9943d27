"""The tables, as SQLAlchemy Core sees them. `migrations/` makes them; a test holds the two together."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine


class Utc(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite keeps it as text without a zone, which old clients' date functions read."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times are aware UTC")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """JSON: on PostgreSQL in the kind that can be searched."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(sa.JSON())
        # Only here: PostgreSQL's part of SQLAlchemy takes long to import, and SQLite has no use for it.
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A rising integer key: SQLite only counts up by itself for its own INTEGER."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _where(condition: str) -> dict[str, Any]:
    """The migrations say the same to PostgreSQL. Said here, it would cost every start the import of its dialect."""
    return {"sqlite_where": sa.text(condition)}


owners = sa.Table(
    "owners",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(80), nullable=False, unique=True),
    sa.Column("created_at", Utc, nullable=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("owner_id", sa.ForeignKey("owners.id"), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("secret_hash", sa.String(64), nullable=False),
    sa.Column("scope", sa.String(20), nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("expires_at", Utc),
    sa.Column("revoked_at", Utc),
)

connections = sa.Table(
    "connections",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("owner_id", sa.ForeignKey("owners.id"), nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("host", sa.String(255)),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("installation_id", sa.String(40)),
    sa.Column("api_url", sa.String(255)),
    sa.UniqueConstraint("owner_id", "name"),
)

github_app = sa.Table(
    "github_app",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("app_id", sa.String(40), nullable=False),
    sa.Column("slug", sa.String(255), nullable=False),
    sa.Column("html_url", sa.String(500), nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
)
"""At most one row, `app`: the App made for this klepaas by `klepaas github connect`. Settings win over it."""

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(40), nullable=False, unique=True),
    sa.Column("owner_id", sa.ForeignKey("owners.id"), nullable=False),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("repository_kind", sa.String(20), nullable=False),
    sa.Column("repository_location", sa.String(500), nullable=False),
    sa.Column("github_owner", sa.String(255), nullable=False),
    sa.Column("github_repo", sa.String(255), nullable=False),
    sa.Column("branch", sa.String(255), nullable=False),
    sa.Column("environment", sa.String(40), nullable=False),
    sa.Column("target", sa.String(40), nullable=False),
    sa.Column("settings", Json, nullable=False),
    sa.Column("auto_deploy", sa.Boolean, nullable=False, default=False),
    sa.Column("connection_id", sa.ForeignKey("connections.id")),
    sa.Column("github_installation_id", sa.String(40)),
    sa.Column("sc_project_id", sa.String(80)),
    sa.Column("sc_repo_name", sa.String(255)),
    sa.Column("build_project_id", sa.String(80)),
    sa.Column("deploy_project_id", sa.String(80)),
    sa.Column("pipeline_id", sa.String(80)),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("updated_at", Utc, nullable=False),
    sa.Column("retired_at", Utc),
    sa.Column("github_repository_id", sa.BigInteger),
    sa.Column("rules", Json),
    sa.Column("chain", Json),
    sa.Index("one_project_per_name", "owner_id", "name", unique=True, **_where("retired_at IS NULL")),
    sqlite_autoincrement=True,
)
"""`chain` holds what is known of a project's chain at its provider and has no column: see `storage.chains`."""

variables = sa.Table(
    "variables",
    metadata,
    sa.Column("project_id", sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("environment", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("updated_at", Utc, nullable=False),
)

apps = sa.Table(
    "apps",
    metadata,
    sa.Column("key", sa.String(100), primary_key=True),
    sa.Column("project_id", sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("environment", sa.String(40), nullable=False),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("live_release_id", sa.String(40)),
    sa.Column("live_deployment_id", sa.String(40)),
    sa.Column("previous_release_id", sa.String(40)),
    sa.Column("warm_release_id", sa.String(40)),
    sa.Column("warm_until", Utc),
    sa.Column("held_until", sa.Float),
    sa.Column("health", sa.String(20), nullable=False, default="absent"),
    sa.Column("health_detail", sa.Text, nullable=False, default=""),
    sa.Column("observed_at", Utc),
    sa.UniqueConstraint("project_id", "environment"),
)

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("project_id", sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("environment", sa.String(40), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("deployment_id", sa.String(40), nullable=False, unique=True),
    sa.Column("commit_sha", sa.String(40), nullable=False),
    sa.Column("image_digest", sa.String(80), nullable=False),
    sa.Column("image_ref", sa.String(500), nullable=False),
    sa.Column("settings", Json, nullable=False),
    sa.Column("container_port", sa.Integer, nullable=False),
    sa.Column("variable_names", Json, nullable=False),
    sa.Column("environment_digest", sa.String(64), nullable=False),
    sa.Column("sealed_variables", sa.LargeBinary, nullable=False),
    sa.Column("proven_at", Utc),
    sa.Column("created_at", Utc, nullable=False),
    sa.UniqueConstraint("project_id", "environment", "number"),
)

deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(40), nullable=False, unique=True),
    sa.Column("project_id", sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("environment", sa.String(40), nullable=False),
    sa.Column("app_key", sa.String(100), nullable=False),
    sa.Column("request_key", sa.String(200), unique=True),
    sa.Column("status", sa.String(40), nullable=False),
    sa.Column("step", sa.String(40), nullable=False),
    sa.Column("node", sa.String(40)),
    sa.Column("fence", sa.Integer, nullable=False, default=0),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("look_again_at", sa.Float),
    sa.Column("branch", sa.String(255), nullable=False),
    sa.Column("commit_sha", sa.String(40)),
    sa.Column("commit_message", sa.Text, nullable=False, default=""),
    sa.Column("release_id", sa.String(40)),
    sa.Column("image_ref", sa.String(500)),
    sa.Column("rollback_of", sa.String(40)),
    sa.Column("cancelled_by", sa.String(120)),
    sa.Column("error_message", sa.Text),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("started_at", Utc),
    sa.Column("live_at", Utc),
    sa.Column("finished_at", Utc),
    sa.Column("state", Json, nullable=False),
    sa.Index("one_queued_per_app", "app_key", unique=True, **_where("status = 'queued'")),
    sa.Index("one_running_per_app", "app_key", unique=True, **_where("status IN ('running', 'unknown')")),
    sa.Index("active_deployments", "created_at", **_where("status IN ('queued', 'running', 'unknown')")),
    sa.Index("deployments_of_an_app", "app_key", "number"),
    sqlite_autoincrement=True,
)

deployment_events = sa.Table(
    "deployment_events",
    metadata,
    sa.Column("deployment_id", sa.ForeignKey("deployments.id"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(60), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("node", sa.String(40), nullable=False),
    sa.Column("data", Json, nullable=False),
)

nodes = sa.Table(
    "nodes",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("lease_until", sa.Float, nullable=False),
)

port_leases = sa.Table(
    "port_leases",
    metadata,
    sa.Column("port", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.String(120), nullable=False, unique=True),
    sa.Column("leased_at", Utc, nullable=False),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(80), nullable=False, unique=True),
    sa.Column("event", sa.String(80), nullable=False),
    sa.Column("headers", Json, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("repository", sa.String(255)),
    sa.Column("received_at", Utc, nullable=False),
    sa.Column("decided_at", Utc),
    sa.Column("answer", Json),
    sa.Index("undecided_deliveries", "number", **_where("decided_at IS NULL")),
    sqlite_autoincrement=True,
)
"""`answer` is the body its sender was or would have been answered, once it was decided what to do."""

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("delivery_id", sa.ForeignKey("deliveries.id"), primary_key=True),
    sa.Column("project_id", sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("environment", sa.String(40), nullable=False),
    sa.Column("outcome", sa.String(40), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("deployment_id", sa.String(40)),
    sa.Column("decided_at", Utc, nullable=False),
    sa.Index("waiting_decisions", "delivery_id", **_where("outcome = 'waiting'")),
)
"""What one delivery meant for each project of its repository."""

branch_heads = sa.Table(
    "branch_heads",
    metadata,
    sa.Column("project_id", sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("branch", sa.String(255), primary_key=True),
    sa.Column("sha", sa.String(40), nullable=False),
    sa.Column("etag", sa.String(255)),
    sa.Column("seen_at", Utc, nullable=False),
    sa.Column("is_settled", sa.Boolean, nullable=False),
)
"""The newest commit of a branch that was decided about for a project."""

branch_moves = sa.Table(
    "branch_moves",
    metadata,
    sa.Column("repository", sa.String(255), primary_key=True),
    sa.Column("ref", sa.String(255), primary_key=True),
    sa.Column("after", sa.String(40), primary_key=True),
    sa.Column("before", sa.String(40), primary_key=True),
    sa.Column("at", Utc, nullable=False),
)
"""From where to where pushes moved a ref: the order of its commits while GitHub cannot be asked for it."""

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("deployment_id", sa.ForeignKey("deployments.id"), primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("is_live", sa.Boolean, nullable=False),
    sa.Column("sent", Json, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", sa.Float),
    sa.Column("last_error", sa.Text, nullable=False, default=""),
    sa.Index("due_reports", "due_at", **_where("due_at IS NOT NULL")),
)
"""What GitHub was told of a deployment, up to which event and whether as the live one. `due_at`: not to be told
again before; NULL: never again."""

observations = sa.Table(
    "observations",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),
    sa.Column("app_key", sa.String(100), nullable=False),
    sa.Column("release_id", sa.String(40)),
    sa.Column("at", Utc, nullable=False),
    sa.Column("health", sa.String(20), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("data", Json, nullable=False),
    sa.Index("observations_of_an_app", "app_key", "number"),
    sqlite_autoincrement=True,
)

provider_runs = sa.Table(
    "provider_runs",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),
    sa.Column("app_key", sa.String(100), nullable=False),
    sa.Column("deployment_id", sa.ForeignKey("deployments.id")),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("provider_project_id", sa.String(80), nullable=False),
    sa.Column("commit_sha", sa.String(40)),
    sa.Column("release_id", sa.String(40)),
    sa.Column("known", Json, nullable=False),
    sa.Column("run_id", sa.String(80)),
    sa.Column("word", sa.String(100)),
    sa.Column("by", sa.String(120), nullable=False, default=""),
    sa.Column("noted_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
    sa.UniqueConstraint("deployment_id", "kind"),
    sa.Index("one_row_per_run", "kind", "provider_project_id", "run_id", unique=True, **_where("run_id IS NOT NULL")),
    sa.Index(
        "one_open_run_per_project",
        "kind",
        "provider_project_id",
        unique=True,
        **_where("ended_at IS NULL AND deployment_id IS NOT NULL"),
    ),
    sa.Index("provider_runs_of_an_app", "app_key", "kind", "number"),
    sqlite_autoincrement=True,
)
"""Runs at the provider. Ours are written down before they are started, with the ids its history had then (`known`);
the others were started by hand (no deployment)."""

imported_deployments = sa.Table(
    "imported_deployments",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(40), nullable=False, unique=True),
    sa.Column("key", sa.String(64), nullable=False, unique=True),
    sa.Column("owner_id", sa.ForeignKey("owners.id"), nullable=False),
    sa.Column("source", sa.String(255), nullable=False),
    sa.Column("old_id", sa.String(80), nullable=False),
    sa.Column("repository", sa.String(511), nullable=False),
    sa.Column("github_owner", sa.String(255), nullable=False),
    sa.Column("github_repo", sa.String(255), nullable=False),
    sa.Column("commit_sha", sa.String(255), nullable=False),
    sa.Column("commit_message", sa.Text, nullable=False),
    sa.Column("environment", sa.String(255)),
    sa.Column("outcome", sa.String(20), nullable=False),
    sa.Column("settled_by", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("image_ref", sa.String(500)),
    sa.Column("image_digest", sa.String(80)),
    sa.Column("is_rollback", sa.Boolean, nullable=False),
    sa.Column("rollback_from", sa.String(40)),
    sa.Column("twin_of", sa.String(40)),
    sa.Column("created_at", Utc),
    sa.Column("started_at", Utc),
    sa.Column("deployed_at", Utc),
    sa.Column("completed_at", Utc),
    sa.Column("error_message", sa.Text),
    sa.Column("findings", Json, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("originals", Json, nullable=False),
    sa.Column("imported_at", Utc, nullable=False),
    sa.Column("asked_at", Utc, nullable=False),
    sa.Index("imported_of_a_repository", "owner_id", "repository", "created_at"),
    sqlite_autoincrement=True,
)
"""Rows of older systems. A table of its own: what the engine takes up and what blocks an app are `deployments`.
`key` is one row's in every copy of its database; shown numbers are `number` below zero."""

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""Single values of this installation: its instance id, the check of its encryption key."""
