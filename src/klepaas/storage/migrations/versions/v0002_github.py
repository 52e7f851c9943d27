"""GitHub: what arrived and was decided, what it was told, which App speaks to it."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)
Json = sa.JSON().with_variant(JSONB(), "postgresql")
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.add_column("connections", sa.Column("installation_id", sa.String(40)))
    op.add_column("connections", sa.Column("api_url", sa.String(255)))
    op.add_column("projects", sa.Column("github_repository_id", sa.BigInteger()))
    op.add_column("projects", sa.Column("rules", Json))
    _github_app()
    _deliveries()
    _decisions()
    _branch_heads()
    _branch_moves()
    _reports()


def _github_app() -> None:
    op.create_table(
        "github_app",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("app_id", sa.String(40), nullable=False),
        sa.Column("slug", sa.String(255), nullable=False),
        sa.Column("html_url", sa.String(500), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_github_app"),
    )


def _deliveries() -> None:
    op.drop_table("deliveries")  # nothing was ever written to the one of 0001
    op.create_table(
        "deliveries",
        sa.Column("number", Number, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("event", sa.String(80), nullable=False),
        sa.Column("headers", Json, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("repository", sa.String(255)),
        sa.Column("received_at", Time, nullable=False),
        sa.Column("decided_at", Time),
        sa.Column("answer", Json),
        sa.PrimaryKeyConstraint("number", name="pk_deliveries"),
        sa.UniqueConstraint("id", name="uq_deliveries_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("undecided_deliveries", "deliveries", ["number"], unique=False, **_where("decided_at IS NULL"))


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("delivery_id", sa.String(80), nullable=False),
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("outcome", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.String(40)),
        sa.Column("decided_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", "project_id", name="pk_decisions"),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name="fk_decisions_delivery_id_deliveries"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_decisions_project_id_projects"),
    )
    waiting = _where("outcome = 'waiting'")
    op.create_index("waiting_decisions", "decisions", ["delivery_id"], unique=False, **waiting)


def _branch_heads() -> None:
    op.create_table(
        "branch_heads",
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("branch", sa.String(255), nullable=False),
        sa.Column("sha", sa.String(40), nullable=False),
        sa.Column("etag", sa.String(255)),
        sa.Column("seen_at", Time, nullable=False),
        sa.Column("is_settled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "branch", name="pk_branch_heads"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_branch_heads_project_id_projects"),
    )


def _branch_moves() -> None:
    op.create_table(
        "branch_moves",
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("ref", sa.String(255), nullable=False),
        sa.Column("after", sa.String(40), nullable=False),
        sa.Column("before", sa.String(40), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.PrimaryKeyConstraint("repository", "ref", "after", "before", name="pk_branch_moves"),
    )


def _reports() -> None:
    op.create_table(
        "reports",
        sa.Column("deployment_id", sa.String(40), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("is_live", sa.Boolean(), nullable=False),
        sa.Column("sent", Json, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float()),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", name="pk_reports"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name="fk_reports_deployment_id_deployments"),
    )
    op.create_index("due_reports", "reports", ["due_at"], unique=False, **_where("due_at IS NOT NULL"))
